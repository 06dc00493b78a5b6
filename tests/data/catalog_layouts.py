"""Writes a tiny folder in the layout that an entry of the catalogue documents, from the entry itself."""

from __future__ import annotations

import itertools
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mailnet.data.catalog import Entry
from mailnet.data.catalog.entry import Item
from mailnet.data.catalog.pattern import Part, fields_of, parse
from mailnet.data.config import ImageConfig

COPIES = 12
SIDE = 16
SPLITS = ("train", "val", "test")


def write_layout(entry: Entry, folder: Path) -> int:
    """Write the download of an entry; return how many rows it has."""
    rng = np.random.default_rng(0)
    if entry.row_items[0].kind == "npz":
        return _npz(entry, folder / entry.layout[0].path, rng)
    if entry.prepare.function in WRITERS:
        return WRITERS[entry.prepare.function](entry, folder, rng)
    rows: list[dict[str, str]] = []
    for item in entry.row_items:
        own = _rows(item, entry, len(rows))
        _write(item, own, folder, entry, rng)
        rows += [row | item.values for row in own]
    for items in entry.attached.values():
        for item in items:
            _write(item, _partners(item, rows), folder, entry, rng)
    return len(rows)


def _rows(item: Item, entry: Entry, start: int) -> list[dict[str, str]]:
    """A row for each combination of words that the item knows, several times over, each with its own numbers."""
    given = dict(item.columns) or {p.field: "|".join(p.choices) for p in reversed(parse(item.path)) if p.field}
    labels = {task.column or name for name, task in entry.tasks.items()} | set(
        itertools.chain(*entry.prepare.one_hot.values())
    )
    words = {c: values.split("|") for c, values in given.items()}
    # Only labels are combined; other columns take turns.
    chosen = [c for c in words if c in labels and len(words[c]) > 1] or [c for c in words if len(words[c]) > 1][:1]
    for column, rules in entry.prepare.rename.items():
        if column in labels:
            words[column] = [old.split("|")[0] for old in rules]
            chosen.append(column)
    combined = list(itertools.product(*(words[c] for c in chosen)))
    for marked in entry.prepare.one_hot.values():
        chosen, mark = marked, "X" if words[marked[0]] == ["X"] else "1"
        combined = [tuple(mark if name == hot else "0" if mark == "1" else "" for name in marked) for hot in marked]
    rows = []
    for number, values in enumerate(combined * COPIES, start + 1):
        # Turns are taken from copy to copy, so that no column goes with the label.
        turn = (number - start - 1) // len(combined)
        row = {c: _text(options[turn % len(options)], number) for c, options in words.items()}
        row |= {c: _text(value, number) for c, value in zip(chosen, values, strict=True)}
        rows.append(row | ({item.number: str(number - start - 1)} if item.number else {}))
    return rows


def _partners(item: Item, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    wanted = []
    for number, row in enumerate(rows, 1):
        here = {there: here for here, there in item.key.items()}
        own = {field: row.get(here.get(field, field), "") for field in fields_of(item.path)}
        if item.columns:
            own = {
                column: _text(values.split("|")[number % len(values.split("|"))], number)
                for column, values in item.columns.items()
            }
            own |= {there: row[name] for there, name in here.items()}
            own |= {field: row[field] for field in fields_of(item.path) if field in row}
            if item.values and any(c in row and row[c] != v for c, v in item.values.items()):
                continue
            if "split" in item.values and SPLITS[(number * 2654435761 >> 7) % 3] != item.values["split"]:
                continue
        elif not all(any(_fits(choice, own[p.field]) for choice in p.choices) for p in parse(item.path) if p.field):
            continue
        wanted.append(own)
    return wanted


def _write(item: Item, rows: list[dict[str, str]], folder: Path, entry: Entry, rng: np.random.Generator) -> None:
    if item.kind == "table":
        for path in {_path(item.path, row, 0) for row in rows} or {_path(item.path, {}, 0)}:
            frame = pd.DataFrame([{c: row[c] for c in item.columns} for row in rows], columns=list(item.columns))
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if path.endswith(".xlsx"):
                frame.to_excel(folder / path, index=False, startrow=item.skip)
            else:
                frame.to_csv(folder / path, index=False, header=item.header)
        return
    for number, row in enumerate(rows):
        path = folder / "download" / _path(item.path, row, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        _image(path, item.name, entry, rng)


def _image(path: Path, name: str, entry: Entry, rng: np.random.Generator) -> None:
    if path.name.endswith(".nii.gz"):
        values = rng.integers(1, 900, (SIDE, SIDE, 12)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)  # type: ignore[no-untyped-call,attr-defined]
        return
    users = [s for m, s in entry.modalities.items() if isinstance(s, ImageConfig) and (s.column or m).startswith(name)]
    shape = (SIDE, SIDE, 3) if users and users[0].channels == 3 else (SIDE, SIDE)
    Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(path)


def _path(pattern: str, row: dict[str, str], number: int) -> str:
    return "".join(
        (row.get(part.field) if part.field else None) or _text(_choice(part, number), number) for part in parse(pattern)
    )


def _choice(part: Part, number: int) -> str:
    # A choice that may be empty is a suffix: take the last, a file's ordinary name.
    return part.choices[-1 if not part.choices[0] else 0]


def _text(choice: str, number: int) -> str:
    return choice.replace("#", str(number)).replace("*", f"x{number}")


def _fits(choice: str, text: str) -> bool:
    from mailnet.data.catalog.pattern import cell_expression

    return bool(cell_expression(choice).fullmatch(text))


def _npz(entry: Entry, path: Path, rng: np.random.Generator) -> int:
    task = next(iter(entry.tasks.values()))
    section = next(iter(entry.modalities.values()))
    count, classes = 2 * len(task.class_values), len(task.class_values)
    shape = (SIDE, SIDE, SIDE) if section.kind == "volume" else (SIDE, SIDE, 3)[: 3 if section.channels == 3 else 2]  # type: ignore[union-attr]
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, *shape)).astype(np.uint8)
        one = np.arange(count)[:, None] % classes
        arrays[f"{split}_labels"] = np.eye(classes, dtype=np.uint8)[one[:, 0]] if task.kind == "multilabel" else one
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return 3 * count


def _cheng(entry: Entry, folder: Path, rng: np.random.Generator) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 37):
        content = {
            "label": number % 3 + 1,
            "PID": f"MR{number // 2}",
            "pixels": rng.integers(0, 4000, (SIDE, SIDE)).tolist(),
        }
        (folder / f"{number}.mat").write_text(json.dumps(content))
    return 36


class _File:
    """Stands for ``h5py.File``, which the tests do not need installed."""

    def __init__(self, path: str, mode: str) -> None:
        content = json.loads(Path(path).read_text())
        codes = np.array([[ord(letter)] for letter in content["PID"]], np.uint16)
        image = np.array(content["pixels"], np.int16)
        self._data = {"cjdata": {"label": np.array([[float(content["label"])]]), "PID": codes, "image": image}}

    def __enter__(self) -> dict[str, Any]:
        return self._data

    def __exit__(self, *_: object) -> None:
        pass


def fake_h5py(patch: pytest.MonkeyPatch) -> None:
    """Put a module in the place of h5py that reads what ``write_layout`` writes for Cheng's set."""
    module = types.ModuleType("h5py")
    module.File = _File  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "h5py", module)


def _lgg(entry: Entry, folder: Path, rng: np.random.Generator) -> int:
    clinical = next(item for item in entry.layout if item.name == "clinical")
    patients = [f"TCGA_{site}_{4940 + k}" for k, site in enumerate(("CS", "DU", "FG", "HT") * 5)]
    rows = [
        {c: _text(v.split("|")[k % len(v.split("|"))], k) for c, v in clinical.columns.items()} | {"Patient": p}
        for k, p in enumerate(patients)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "data.csv", index=False)
    for k, patient in enumerate(patients):
        place = folder / "kaggle_3m" / f"{patient}_19960909"
        place.mkdir(parents=True)
        for number in (1, 2):
            pixels = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
            if k == 0:
                pixels[..., 0] = pixels[..., 1]
            Image.fromarray(pixels).save(place / f"{patient}_19960909_{number}.tif")
            Image.fromarray(np.full((SIDE, SIDE), 255 * (number - 1), np.uint8)).save(
                place / f"{patient}_19960909_{number}_mask.tif"
            )
    return 2 * len(patients)


def _omics(entry: Entry, folder: Path, rng: np.random.Generator) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for side, count in (("tr", 20), ("te", 8)):
        np.savetxt(folder / f"labels_{side}.csv", np.arange(count) % 2)
        for omic in (1, 2, 3):
            np.savetxt(folder / f"{omic}_{side}.csv", rng.random((count, 5)), delimiter=",")
    return 28


WRITERS = {"cheng": _cheng, "lgg": _lgg, "omics": _omics}


def names() -> Iterator[str]:
    """Every entry and every larger size of it."""
    from mailnet.data.catalog import list_datasets

    for entry in list_datasets():
        yield entry.name
        yield from (f"{entry.name}_{size}" for size in entry.sizes[1:])
