"""A study from a table: which column is what, guessed from names and cells."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mailnet.data.columns import as_text
from mailnet.data.config.study import NAME
from mailnet.data.init.draft import Draft, split_of, task_keys
from mailnet.data.locations import folder_of, split_location
from mailnet.data.readers import kind_of, known_suffixes
from mailnet.data.tables import read_table
from mailnet.data.values import ABSENT, NUMBER, nearest
from mailnet.errors import ConfigError, DataError

LABELS = ("label", "labels", "class", "diagnosis", "dx", "target", "finding", "pathology", "outcome", "category", "y")
GROUPS = ("patient", "subject", "person", "participant", "mrn", "pid", "medicalrecord", "case", "lesion")
GROUP_ENDS = ("", "id", "no", "number", "key", "mrn")
SPLITS = ("split", "set", "subset", "partition", "phase", "dataset")
IDS = ("id", "study", "studyid", "imageid", "accession", "uid")
MASKS = ("mask", "segmentation", "roi")
MOST_CLASSES = 50
FEW = 20


def draft_from_table(
    location: str,
    *,
    labels: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
    group: str | None = None,
    split: str | None = None,
) -> Draft:
    """Return the draft of a CSV, Parquet, Excel or MedMNIST-style npz, also inside a zip.

    Args:
        location: Absolute location of the table.
        labels: Columns of labels; default guessed, as are the next three.
        images: Columns of image paths.
        group: Column that names the patient.
        split: Column that says train, val or test.

    Raises:
        ConfigError: A named column does not exist, or no label can be found.
        DataError: The table cannot be read.
    """
    frame = read_table(location).apply(as_text)
    for column in (*(labels or ()), *(images or ()), *(c for c in (group, split) if c)):
        if column not in frame:
            raise ConfigError(
                f"there is no column '{column}'", file=location, remedy=nearest(column, map(str, frame.columns))
            )
    file = split_location(location)[0]
    draft = Draft(re.sub(r"\W+", "-", Path(file).stem).strip("-") or "study", folder_of(location), location, frame)
    draft.notes.append(f"{len(frame)} rows with the columns {', '.join(draft.columns)}")
    taken = set(_choose_images(draft, images))
    _choose_split(draft, split, taken)
    _choose_group(draft, group, taken)
    _choose_id(draft, taken)
    _choose_labels(draft, labels, taken)
    _choose_inputs(draft, taken)
    return draft


def _choose_images(draft: Draft, given: Sequence[str] | None) -> set[str]:
    paths = [column for column in draft.columns if _holds_paths(draft.frame[column]) or _holds_dicom(draft, column)]
    masks = [column for column in paths if column not in (given or ()) and any(w in _plain(column) for w in MASKS)]
    columns = list(given) if given else [column for column in paths if column not in masks]
    for column in columns:
        name = "image" if len(columns) == 1 and not given else _name(column, set(draft.images))
        draft.images[name] = column
        draft.notes.append(f"'{column}' is an image: {'you said so' if given else 'its cells are names of images'}")
    for column in masks:
        draft.notes.append(f"'{column}' holds masks, which are no input: left out")
    return {*paths, *columns}


def _choose_split(draft: Draft, given: str | None, taken: set[str]) -> None:
    candidates = [given] if given else [c for c in draft.columns if _plain(c) in SPLITS and c not in taken]
    for column in candidates:
        meaning: dict[str, list[str]] = {}
        words = sorted(set(draft.frame[column]))
        for word in words:
            meaning.setdefault(split_of(word) or "?", []).append(word)
        if "?" in meaning or "train" not in meaning:
            if given:
                draft.notes.append(f"Say in split.values which of {', '.join(words)} of '{given}' is train, val, test")
                draft.split = {"column": given}
                taken.add(column)
            continue
        taken.add(column)
        draft.split = {"column": column}
        draft.notes.append(f"'{column}' says train, val or test")
        if any(words != [name] for name, words in meaning.items()):
            draft.split["values"] = {name: words if len(words) > 1 else words[0] for name, words in meaning.items()}
        if "test" not in meaning:
            draft.split |= {"train": 0.9, "val": 0.1, "test": 0}
        if "val" not in meaning:
            draft.notes.append(f"No row of '{column}' is for validation: change some of the training rows to 'val'")
        return
    if not draft.split:
        draft.split = {"train": 0.7, "val": 0.1, "test": 0.2, "seed": 0}
        draft.notes.append("No column says train or test: studies are divided 70/10/20, stratified, by seed")


def _choose_group(draft: Draft, given: str | None, taken: set[str]) -> None:
    words = _groups()
    candidates = sorted(
        (c for c in draft.columns if _plain(c) in words and c not in taken), key=lambda c: words[_plain(c)]
    )
    draft.group = given or (candidates[0] if candidates else None)
    taken |= {*candidates, *([given] if given else [])}
    if draft.group is None:
        draft.notes.append("No column names the patient: if a patient has several rows, add one and name it in 'group'")
    else:
        count = draft.frame[draft.group].nunique()
        draft.notes.append(f"'{draft.group}' is the patient ({count} of them): never on two sides of a split")


def _choose_id(draft: Draft, taken: set[str]) -> None:
    for column in draft.columns:
        cells = draft.frame[column]
        if _plain(column) in IDS and cells.is_unique and (cells != "").all():
            draft.study_id = column
            taken.add(column)
            return
    if draft.group is not None and draft.frame[draft.group].is_unique and (draft.frame[draft.group] != "").all():
        draft.study_id = draft.group


def _choose_labels(draft: Draft, given: Sequence[str] | None, taken: set[str]) -> None:
    several = [c for c in draft.columns if re.fullmatch(r"label\.\d+", c)]
    if several and not given:
        draft.tasks["label"] = {"kind": "multilabel", "classes": several}
        draft.notes.append(f"{len(several)} labels an image, each 0 or 1: a multilabel task")
        taken |= set(several)
        return
    free = [column for column in draft.columns if column not in taken]
    named = sorted((c for c in free if _plain(c) in LABELS), key=lambda c: LABELS.index(_plain(c)))
    columns = list(given) if given else [c for c in named if 2 <= _distinct(draft.frame[c]) <= MOST_CLASSES][:1]
    if not columns:
        possible = [c for c in free if 2 <= _distinct(draft.frame[c]) <= MOST_CLASSES]
        raise ConfigError(
            "no column is called label, class, diagnosis or the like",
            file=draft.table,
            remedy=f"Name it with --label; it could be {', '.join(possible)}" if possible else "Add a column of labels",
        )
    for column in columns:
        classes = _distinct(draft.frame[column])
        if not 2 <= classes <= MOST_CLASSES:
            raise ConfigError(
                f"the column '{column}' has {classes} different values; a task has 2 to {MOST_CLASSES} classes",
                file=draft.table,
                remedy="Name a column of classes with --label",
            )
        keys = task_keys(cell for cell in draft.frame[column] if cell)
        name = _name(column, set(draft.tasks))
        draft.tasks[name] = keys if name == column else {"column": column, **keys}
        why = "you said so" if given else "of its name"
        draft.notes.append(f"'{column}' is a {keys['kind']} task because {why}: {', '.join(keys['classes'])}")
        taken.add(column)


def _choose_inputs(draft: Draft, taken: set[str]) -> None:
    numeric, categorical, ignored = [], [], []
    for column in draft.columns:
        if column in taken:
            continue
        cells = draft.frame[column]
        known = cells[(cells != "") & ~cells.str.lower().isin(ABSENT)]
        numbers = known.map(lambda cell: NUMBER.fullmatch(cell) is not None)
        if len(known) and numbers.all() and known.nunique() > 2:
            numeric.append(column)
        elif 2 <= known.nunique() <= FEW:
            categorical.append(column)
        else:
            ignored.append(column)
    leaks = [column for column in categorical if _determines(draft, column)]
    categorical = [column for column in categorical if column not in leaks]
    if leaks:
        draft.notes.append(
            f"Each value of {_quoted(leaks)} goes with one class only, as if it repeated the label: left out"
        )
    if ignored:
        hold = "holds" if len(ignored) == 1 else "hold"
        draft.notes.append(f"{_quoted(ignored)} {hold} one value only or too many different ones: left out")
    keys = {"kind": "tabular"} | {k: v for k, v in (("numeric", numeric), ("categorical", categorical)) if v}
    if len(keys) == 1 and not draft.images:
        raise ConfigError(
            "no column can be an input: none names image files, none holds numbers or a few words",
            file=draft.table,
            remedy="Write the paths of the images, with their suffix, relative to the table",
        )
    if len(keys) == 1:
        return
    columns = _quoted([*numeric, *categorical])
    if draft.images:
        draft.aside = keys
        draft.notes.append(
            f"{columns} could be an input table: it stands in study.yaml as a comment. Take only what is known "
            "before the diagnosis, or the network learns to read the answer"
        )
    else:
        draft.sections["table"] = keys
        are = "is" if len(numeric) + len(categorical) == 1 else "are"
        draft.notes.append(f"No column names image files; {columns} {are} the input")
        draft.notes.append("Remove what is only known after the diagnosis, or the network learns to read the answer")


def _determines(draft: Draft, column: str) -> bool:
    for task in draft.tasks.values():
        if task["kind"] == "multilabel":
            continue
        label = task.get("column") or next(name for name, keys in draft.tasks.items() if keys is task)
        both = draft.frame[(draft.frame[column] != "") & (draft.frame[label] != "")]
        labels = both.groupby(column)[label].nunique()
        if both[label].nunique() > 1 and (labels == 1).all():
            return True
    return False


def _holds_paths(cells: pd.Series) -> bool:
    known = cells[cells != ""].head(200)
    suffixes = tuple(known_suffixes())
    images = known.map(lambda cell: cell.lower().endswith(suffixes) or split_location(cell)[1] is not None)
    inside_npz = known.map(lambda cell: re.fullmatch(r"\w+_images/\d+", cell) is not None)
    return len(known) > 0 and bool((images | inside_npz).mean() > 0.9)


def _holds_dicom(draft: Draft, column: str) -> bool:
    """Return whether cells name folders with DICOM files, or DICOM files without a suffix."""
    if "!" in draft.folder or _plain(column) in (*IDS, *_groups()):
        return False
    known = draft.frame[column][draft.frame[column] != ""].head(5)
    return len(known) > 0 and all(_is_dicom(os.path.join(draft.folder, cell)) for cell in known)


def _is_dicom(path: str) -> bool:
    from mailnet.data.dicom.series import files_of

    try:
        return len(files_of(path)) > 0 if os.path.isdir(path) else os.path.isfile(path) and kind_of(path) == "dicom"
    except (DataError, OSError):
        return False


def _groups() -> dict[str, int]:
    """The names of columns that name the patient, and which of two is the better one."""
    return {f"{word}{end}": rank for rank, word in enumerate(GROUPS) for end in GROUP_ENDS}


def _distinct(cells: pd.Series) -> int:
    return int(cells[cells != ""].nunique())


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())


def _name(column: str, taken: set[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", column).strip("_") or "unnamed"
    name = name if NAME.fullmatch(name) else f"_{name}"
    while name in taken:
        name += "_"
    return name


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f"'{column}'" for column in columns)
