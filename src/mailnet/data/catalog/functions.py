"""Downloads that no pattern can read: their images lie in MATLAB files or share channels, or tables have no names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mailnet.data.catalog.folder import Folder
from mailnet.data.progress import progress
from mailnet.errors import DataError
from mailnet.files import replacing

SEQUENCES = ("pre", "flair", "post")


def read_cheng(folder: Folder, out: Path) -> pd.DataFrame:
    """Return a row a MATLAB 7.3 file (HDF5) of Cheng's brain tumours; their images are written to ``out/images``."""
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        remedy = "Install what reads them: pip install h5py"
        raise DataError("the images lie in MATLAB 7.3 files", file=folder.path, remedy=remedy) from error
    files = folder.rows(folder.entry.row_items)
    rows = []
    with progress("Writing images", len(files)) as advance:
        for number, path in zip(files["number"], files["file"], strict=True):
            try:
                with h5py.File(path, "r") as content:
                    data = content["cjdata"]
                    label = str(int(np.asarray(data["label"]).item()))
                    patient = "".join(chr(int(code)) for code in np.asarray(data["PID"]).ravel() if code)
                    pixels = np.asarray(data["image"])
            except (OSError, KeyError, ValueError) as error:
                raise DataError(f"is not one of its MATLAB files ({error})", file=path, remedy="Restore it") from error
            # MATLAB stores columns first.
            image = _write(np.clip(pixels.T, 0, 65535).astype(np.uint16), out / "images" / f"{number}.png")
            rows.append({"file": image, "number": number, "label": label, "patient": patient})
            advance(1)
    return pd.DataFrame(rows, dtype=object)


def read_lgg(folder: Folder, out: Path) -> pd.DataFrame:
    """Return a row a slice of the lower-grade gliomas; its sequences, channels of one file, become three images.

    A sequence that a patient lacks holds FLAIR in the download; here its cell is empty.
    """
    slices = folder.rows(folder.entry.row_items)
    masks = folder.rows(folder.entry.attached["mask"])
    clinical = folder.rows(folder.entry.attached["clinical"])
    frame = slices.merge(masks, on=["patient", "date", "slice"]).merge(clinical, left_on="patient", right_on="Patient")
    if frame.empty:
        raise folder.lacks(folder.entry.layout)
    frame[list(SEQUENCES)] = ""
    with progress("Writing images", len(frame)) as advance:
        for patient in frame["patient"].unique():
            rows = frame[frame["patient"] == patient]
            stack = [_pixels(path, 3) for path in rows["file"]]
            own = [
                k for k, name in enumerate(SEQUENCES)
                if name == "flair" or any((image[..., k] != image[..., 1]).any() for image in stack)
            ]  # fmt: skip
            for row, image in zip(rows.index, stack, strict=True):
                for k in own:
                    target = out / "images" / f"{patient}_{frame.at[row, 'slice']!s}_{SEQUENCES[k]}.png"
                    frame.at[row, SEQUENCES[k]] = _write(image[..., k], target)
                advance(1)
    frame["tumour"] = ["yes" if _pixels(path, 1).any() else "no" for path in frame["mask"]]
    return frame.drop(columns=["file", "mask"]).fillna("").astype(object)


def read_omics(folder: Folder, out: Path) -> pd.DataFrame:
    """Return a row a person of tables without names or keys, whose lines are in one order: ``1_tr.csv`` and so on."""
    parts = []
    for side, split in (("tr", "train"), ("te", "test")):
        tables = {item.name: _numbers(folder, item.path, side) for item in folder.entry.layout if "{side" in item.path}
        if len({len(table) for table in tables.values()}) != 1:
            counts = ", ".join(f"{name} {len(table)}" for name, table in tables.items())
            raise DataError(
                f"the tables of '{side}' differ in length ({counts})", file=folder.path, remedy="Restore them"
            )
        labels = tables.pop("labels")[:, 0].astype(int).astype(str)
        columns: dict[str, Any] = {"label": labels, "official": [split] * len(labels)}
        columns["person"] = [f"{side}{k + 1}" for k in range(len(labels))]
        for name, table in tables.items():
            columns |= {f"{name}_{k + 1:03d}": table[:, k].astype(str) for k in range(table.shape[1])}
        parts.append(pd.DataFrame(columns, dtype=object))
    return pd.concat(parts, ignore_index=True).fillna("").astype(object)


FUNCTIONS: dict[str, Callable[[Folder, Path], pd.DataFrame]] = {
    "cheng": read_cheng, "lgg": read_lgg, "omics": read_omics,
}  # fmt: skip


def _numbers(folder: Folder, pattern: str, side: str) -> np.ndarray:
    item = next(item for item in folder.entry.layout if item.path == pattern)
    found = [path for path in folder.matches(item).get(item.name, []) if f"_{side}." in Path(path).name]
    if not found:
        raise folder.lacks([item])
    try:
        return np.loadtxt(found[0], delimiter=",", ndmin=2)
    except ValueError as error:
        raise DataError(f"is not a table of numbers ({error})", file=found[0], remedy="Restore it") from error


def _pixels(path: str, channels: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB" if channels == 3 else "L"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"cannot be decoded ({error})", file=path, remedy="Restore it") from error


def _write(pixels: np.ndarray, path: Path) -> str:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
    return str(path)
