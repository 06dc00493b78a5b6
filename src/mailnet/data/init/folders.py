"""A study from class folders, plain or in a zip, with or without train, val and test above them."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from pathlib import Path

import pandas as pd

from mailnet.data.archives import open_zip
from mailnet.data.config import SplitConfig
from mailnet.data.init.draft import Draft, split_of, task_keys
from mailnet.data.readers import known_suffixes
from mailnet.data.splits import split_rows
from mailnet.errors import DataError

LAYOUT = "Arrange images as FOLDER/CLASS/image.png or FOLDER/train/CLASS/image.png, or give a CSV"


def draft_from_folders(source: Path) -> Draft:
    """Return the draft of a folder or zip of class folders.

    Raises:
        DataError: There are no two class folders with images.
    """
    is_zip = source.suffix.lower() == ".zip"
    names = open_zip(str(source)).namelist() if is_zip else _files(source)
    names = sorted(name for name in names if _is_image(name))
    names, inner = _without_common_folder(names)
    rows = _rows(names, source)
    frame = pd.DataFrame(rows, columns=["image", "label", "split"])
    draft = Draft(source.stem if is_zip else source.resolve().name, _folder(source, is_zip, inner), None, frame)
    draft.manifest = True
    draft.images = {"image": "image"}
    draft.tasks = {"label": task_keys(frame["label"])}
    classes = draft.tasks["label"]["classes"]
    draft.notes.append(f"{len(frame)} images in {len(classes)} class folders: {', '.join(classes)}")
    _divide(draft)
    draft.notes.append(
        "No patient is named: if a patient has several images, add a column to manifest.csv and name it in 'group'"
    )
    return draft


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _is_image(name: str) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    return not hidden and name.lower().endswith(tuple(suffix for suffix in known_suffixes() if suffix != ".npz"))


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


def _rows(names: list[str], source: Path) -> list[tuple[str, str, str]]:
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
    return rows


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
        chosen = split_rows(list(rows["image"]), labels, SplitConfig(train=0.9, val=0.1, test=0))
        frame.loc[training, "split"] = chosen
        draft.notes.append("There is no validation folder: a tenth of the training images was set aside for it")
    if "test" not in splits:
        draft.split |= {"train": 0.9, "val": 0.1, "test": 0}
        draft.notes.append("There is no test folder: nothing can be evaluated until you set studies aside")
