"""A study from class folders, plain or in a zip, with or without train, val and test above them."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd

from mailnet.data.archives import open_zip
from mailnet.data.config import ImageConfig, SplitConfig
from mailnet.data.images import count_planes
from mailnet.data.init.draft import Draft, split_of, task_keys
from mailnet.data.locations import split_location
from mailnet.data.readers import kind_of, known_suffixes
from mailnet.data.splits import split_rows
from mailnet.errors import DataError

FEWEST_PATIENTS = 5
LAYOUT = "Arrange images as FOLDER/CLASS/image.png or FOLDER/train/CLASS/image.png, or give a CSV"


def draft_from_folders(source: Path) -> Draft:
    """Return the draft of a folder or zip of class folders.

    Raises:
        DataError: There are no two class folders with images.
    """
    is_zip = source.suffix.lower() == ".zip"
    names = open_zip(str(source)).namelist() if is_zip else _files(source)
    names = sorted(name for name in names if _is_image(name) or (not is_zip and _is_dicom(source, name)))
    names, inner = _without_common_folder(names)
    folder = _folder(source, is_zip, inner)
    rows, depth = _rows(names, source)
    series = _series(rows, depth, folder)
    rows, masks = (series, 0) if series else _without_masks(rows)
    frame = pd.DataFrame(rows, columns=["image", "label", "split"])
    draft = Draft(source.stem if is_zip else source.resolve().name, folder, None, frame)
    draft.manifest = True
    draft.images = {"image": "image"}
    draft.tasks = {"label": task_keys(frame["label"])}
    classes = draft.tasks["label"]["classes"]
    what = "DICOM series" if series else "images"
    draft.notes.append(f"{len(frame)} {what} in {len(classes)} class folders: {', '.join(classes)}")
    if masks:
        draft.notes.append(f"{masks} files are named as masks of other images, which are no input: left out")
    _choose_group(draft, depth, bool(series))
    _divide(draft)
    return draft


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _is_image(name: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    return not hidden and name.lower().endswith(tuple(suffix for suffix in known_suffixes() if suffix != ".npz"))


def _is_dicom(folder: Path, name: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    if hidden or "." in posixpath.basename(name) or posixpath.basename(name).lower() == "dicomdir":
        return False
    try:
        return kind_of(str(folder / name)) == "dicom"
    except (DataError, OSError):
        return False


def _series(rows: list[tuple[str, str, str]], depth: int, folder: str) -> list[tuple[str, str, str]]:
    """Return a row a folder where every folder below the classes is one DICOM series, else nothing."""
    files = Counter(posixpath.dirname(name) for name, _, _ in rows)
    first = next(iter(files))
    if split_location(folder)[1] is not None or any(name.count("/") <= depth for name in files):
        return []
    if min(files.values()) < 2 or any(kind_of(os.path.join(folder, name)) != "dicom" for name, _, _ in rows):
        return []
    try:
        planes = count_planes(os.path.join(folder, first), ImageConfig(slice="middle"))
    except DataError:
        return []
    folders = {(posixpath.dirname(name), label, split) for name, label, split in rows}
    return sorted(folders) if planes == files[first] else []


def _without_masks(rows: list[tuple[str, str, str]]) -> tuple[list[tuple[str, str, str]], int]:
    """Return the rows without outlines of another image, such as ``a_mask.png`` beside ``a.png``, and their number."""
    stems = {posixpath.splitext(name)[0] for name, _, _ in rows}
    kept = []
    for row in rows:
        mask = re.fullmatch(r"(.+)[_-](mask|seg|segmentation|roi)(_\d+)?", posixpath.splitext(row[0])[0], re.IGNORECASE)
        if mask is None or mask[1] not in stems:
            kept.append(row)
    return kept, len(rows) - len(kept)


def _choose_group(draft: Draft, depth: int, series: bool) -> None:
    parts = [name.split("/") for name in draft.frame["image"]]
    below = [words[depth + 1] if len(words) > depth + 1 else "" for words in parts]
    inside = series or all(len(words) > depth + 2 for words in parts)
    if inside and len(set(below)) >= FEWEST_PATIENTS:
        draft.frame["patient"] = below
        draft.group = "patient"
        draft.notes.append(
            f"The {len(set(below))} folders below the classes are taken for patients, who stay on one side of a split: "
            "correct the column 'patient' of manifest.csv if they are not"
        )
        return
    draft.notes.append(
        "No patient is named: if a patient has several images, add a column to manifest.csv and name it in 'group'"
    )


def _without_common_folder(names: list[str]) -> tuple[list[str], str]:
    inner = ""
    while names and len(tops := {name.split("/")[0] for name in names}) == 1 and "/" in names[0]:
        # A single folder is a wrapping, unless nothing but images lies in it.
        if all(name.count("/") == 1 for name in names):
            break
        top = tops.pop()
        inner = posixpath.join(inner, top)
        names = [name[len(top) + 1 :] for name in names]
    return names, inner


def _folder(source: Path, is_zip: bool, inner: str) -> str:
    if is_zip:
        return f"{source.resolve()}!{inner}"
    return str(source.resolve() / inner)


def _rows(names: list[str], source: Path) -> tuple[list[tuple[str, str, str]], int]:
    """Return path, class and split of each image, and at which depth of the path the class stands."""
    tops = {name.split("/")[0] for name in names if "/" in name}
    divided = "train" in {split_of(top) for top in tops} and all(split_of(top) for top in tops)
    depth = 1 if divided else 0
    rows = []
    loose: dict[str, int] = defaultdict(int)
    for name in names:
        parts = name.split("/")
        if len(parts) < depth + 2:
            loose[posixpath.dirname(name) or "."] += 1
            continue
        rows.append((name, parts[depth], (split_of(parts[0]) or "") if divided else ""))
    classes = {label for _, label, _ in rows}
    if len(classes) < 2:
        found = f"{len(names)} images and {len(classes)} class folders" if names else "no image"
        raise DataError(f"holds {found}; at least two class folders are needed", file=source, remedy=LAYOUT)
    if loose:
        raise DataError(
            f"{sum(loose.values())} images lie in no class folder, for example in '{next(iter(loose))}'",
            file=source,
            remedy="Move them into a class folder or away",
        )
    return rows, depth


def _divide(draft: Draft) -> None:
    frame = draft.frame
    splits = set(frame["split"])
    if splits == {""}:
        draft.frame = frame.drop(columns="split")
        draft.split = {"train": 0.7, "val": 0.1, "test": 0.2, "seed": 0}
        draft.notes.append("No folder says train or test: studies are divided 70/10/20, stratified, by seed")
        return
    draft.split = {"column": "split"}
    draft.notes.append(f"The folders above say the split: {', '.join(sorted(splits))}")
    if "val" not in splits:
        training = frame["split"] == "train"
        rows = frame[training]
        labels = [(label,) for label in rows["label"]]
        chosen = split_rows(list(rows[draft.group or "image"]), labels, SplitConfig(train=0.9, val=0.1, test=0))
        frame.loc[training, "split"] = chosen
        draft.notes.append("There is no validation folder: a tenth of the training images was set aside for it")
    if "test" not in splits:
        draft.split |= {"train": 0.9, "val": 0.1, "test": 0}
        draft.notes.append("There is no test folder: nothing can be evaluated until you set studies aside")
