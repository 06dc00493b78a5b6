"""From a downloaded folder to a study: ``studies.csv`` and ``study.yaml``, with a split that does not leak."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mailnet.data.catalog.content import alike, components, read_pictures
from mailnet.data.catalog.entry import TABLE, Entry
from mailnet.data.catalog.folder import Folder, how_to_get
from mailnet.data.catalog.functions import FUNCTIONS
from mailnet.data.catalog.pattern import cell_expression
from mailnet.data.catalog.registry import get_dataset
from mailnet.data.config import SPLITS, PixelConfig, SplitConfig, load_config
from mailnet.data.manifest import read_manifest
from mailnet.errors import ConfigError, DataError
from mailnet.files import write_text

NAMED = 3
# Number and share of all images that may be one chain of nearly the same picture.
MANY, LARGE = 20, 0.05
LEAK = "also_in_test"
LINK = "\0link"


@dataclass
class Prepared:
    """What ``prepare_dataset`` wrote and found.

    Args:
        entry: The data set.
        study: The study.yaml.
        table: The table of studies.
        studies: Number of rows of the manifest.
        groups: Number of patients, lesions or whatever stays on one side.
        splits: Split -> number of studies.
        classes: Task -> class -> number of studies.
        warnings: What differs from the publication or would stop training, a sentence each.
    """

    entry: Entry
    study: Path
    table: Path
    studies: int = 0
    groups: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON can hold."""
        return {
            "name": self.entry.name, "study": str(self.study), "table": str(self.table), "studies": self.studies,
            "groups": self.groups, "splits": self.splits, "classes": self.classes, "warnings": self.warnings,
            "traps": self.entry.traps,
        }  # fmt: skip


def prepare_dataset(name: str, source: str | Path | None, out: str | Path, *, force: bool = False) -> Prepared:
    """Write a study of a data set that lies in a folder; images stay where they are.

    Args:
        name: Of the data set, see ``list_datasets``.
        source: The folder of the unpacked download.
        out: Folder for ``study.yaml`` and ``studies.csv``.
        force: True where files of an earlier run may be written over.

    Raises:
        ConfigError: The catalogue has no such data set, or ``out`` holds a study already.
        DataError: Something of the layout is not in the folder; says what, and where the data are to be had.
    """
    entry = get_dataset(name)
    if source is None:
        raise DataError("no folder is given", remedy=how_to_get(entry))
    target = Path(os.path.realpath(out))
    folder = Folder(entry, Path(os.path.realpath(source)), skip=target)
    result = Prepared(entry, target / "study.yaml", target / TABLE)
    present = [file.name for file in (result.study, result.table) if file.exists()]
    if present and not force:
        raise ConfigError(f"holds {' and '.join(present)} already", file=target, remedy="Give --force or another -o")
    function = entry.prepare.function
    frame = _columns(entry, FUNCTIONS[function](folder, target) if function else _by_layout(folder, result))
    if frame.empty:
        raise folder.lacks(entry.row_items)
    frame = _divided(entry, _grouped(entry, frame, result))
    keys: dict[str, Any] = {}
    if entry.split.column is not None and not entry.prepare.blocks:
        frame, keys = _official(frame, entry.split, result)
    _write(entry, frame, result, keys)
    _count(result)
    _compare(result, frame)
    return result


def _by_layout(folder: Folder, result: Prepared) -> pd.DataFrame:
    entry = folder.entry
    frame = folder.rows(entry.row_items)
    _judge_cells(entry, frame, result)
    for name, items in entry.attached.items():
        other = folder.rows(items)
        if other.empty:
            frame[name] = ""
            continue
        keys = items[0].key or {c: c for c in other.columns if c in frame.columns and c not in items[0].values}
        _judge_cells(entry, other, result)
        added = [column for column in other.columns if column not in {*frame.columns, *keys.values()}]
        # Names of files differ in case between a table and a disk.
        other = other.assign(**{LINK: _link(other, list(keys.values()))}).drop_duplicates(LINK).set_index(LINK)
        link = _link(frame, list(keys))
        for column in added:
            frame[column] = link.map(other[column]).fillna("").astype(object)
        alone = ~link.isin(other.index)
        if alone.all():
            raise folder.lacks(items)
        if alone.any() and not items[0].optional:
            first = frame.loc[alone, next(iter(keys))].iloc[0]
            sentence = f"{int(alone.sum())} of {len(frame)} rows have no {name} ({items[0].path}), such as {first}"
            result.warnings.append(sentence)
    return frame


def _link(frame: pd.DataFrame, columns: list[str]) -> pd.Series:
    return frame[columns].agg("\0".join, axis=1).str.lower()


def _judge_cells(entry: Entry, frame: pd.DataFrame, result: Prepared) -> None:
    for item in entry.layout:
        for column, values in item.columns.items():
            if column not in frame or "*" in values:
                continue
            expression = cell_expression(values)
            cells = frame[column][~frame[column].isin(["", *entry.missing])].unique()
            if odd := sorted(cell for cell in cells if not expression.fullmatch(cell)):
                shown = ", ".join(odd[:NAMED])
                sentence = f"'{column}' has {len(odd)} values that its publisher does not name ({values}): {shown}"
                if sentence not in result.warnings:
                    result.warnings.append(sentence)


def _columns(entry: Entry, frame: pd.DataFrame) -> pd.DataFrame:
    steps = entry.prepare
    for column, allowed in steps.only.items():
        frame = frame[frame[column].isin(allowed)]
    for column, refused in steps.drop.items():
        frame = frame[~frame[column].isin(refused)]
    frame = frame.reset_index(drop=True)
    for column, names in steps.rename.items():
        rules = [(cell_expression(old), new) for old, new in names.items()]
        new = {old: next((n for rule, n in rules if rule.fullmatch(old)), old) for old in frame[column].unique()}
        frame[column] = frame[column].map(new)
    for column, marked in steps.one_hot.items():
        marks = ~frame[marked].isin(["", "0", "0.0"])
        frame[column] = marks.idxmax(axis=1).where(marks.sum(axis=1) == 1, "").astype(object)
    for column, joined in steps.join.items():
        whole = (frame[joined] != "").all(axis=1)
        frame[column] = frame[joined].agg("/".join, axis=1).where(whole, "").astype(object)
    for column, several in steps.first.items():
        frame[column] = frame[several].replace("", None).bfill(axis=1).iloc[:, 0].fillna("").astype(object)
    return frame


def _grouped(entry: Entry, frame: pd.DataFrame, result: Prepared) -> pd.DataFrame:
    own = {column: frame[column] for column in entry.prepare.groups}
    numbers = components(_keys(own))
    if entry.prepare.identical:
        places = {column: frame[column] for column in entry.prepare.identical}
        section = next(m for name, m in entry.modalities.items() if isinstance(m, PixelConfig)
                       and (m.column or name) in places)  # fmt: skip
        pictures = read_pictures([place for cells in places.values() for place in cells if place], section)
        same = {f"same {column}": cells.map(pictures.prints).fillna("") for column, cells in places.items()}
        _tell_identical(entry, frame, next(iter(same.values())), result)
        numbers = components(_keys(own | same))
        # Neighbouring slices are alike too: where blocks or the publisher divide, only the same picture counts.
        if entry.split.column is None:
            names = alike(pictures)
            near = {f"near {column}": prints.map(names).fillna("") for column, prints in same.items()}
            wider = components(_keys(own | same | near))
            largest = int(pd.Series(wider).value_counts().iloc[0])
            if largest > max(MANY, LARGE * len(frame), int(pd.Series(numbers).value_counts().iloc[0])):
                result.warnings.append(
                    f"{largest} images are a chain of nearly the same picture; only identical ones are kept together"
                )
            else:
                numbers = wider
    named = list(frame[entry.prepare.groups[0]]) if entry.prepare.groups else [""] * len(frame)
    return frame.assign(group=[named[number] or f"row {number + 1}" for number in numbers])


def _keys(columns: dict[str, pd.Series]) -> list[list[str]]:
    rows: list[list[str]] = [[] for _ in range(len(next(iter(columns.values()), [])))]
    for name, cells in columns.items():
        for row, cell in zip(rows, cells, strict=True):
            if cell:
                row.append(f"{name}\0{cell}")
    return rows


def _tell_identical(entry: Entry, frame: pd.DataFrame, shared: pd.Series, result: Prepared) -> None:
    twice = frame[shared.duplicated(keep=False) & (shared != "")]
    if twice.empty:
        return
    result.warnings.append(f"{len(twice)} images are the same picture as another one; they stay on one side")
    for name, task in entry.tasks.items():
        column = task.column or name
        if task.kind != "multilabel" and column in frame:
            labels = twice.groupby(shared[twice.index])[column].nunique()
            if count := int((labels > 1).sum()):
                result.warnings.append(f"{count} pictures stand under two labels of '{name}'")


def _divided(entry: Entry, frame: pd.DataFrame) -> pd.DataFrame:
    if entry.prepare.blocks is None:
        return frame
    name, task = next(iter(entry.tasks.items()))
    order = pd.to_numeric(frame[entry.prepare.blocks])
    place = order.groupby(frame[task.column or name]).rank(pct=True, method="first")
    split = pd.cut(place, [0, 0.7, 0.8, 1], labels=list(SPLITS)).astype(object)
    # The same picture in two blocks goes where its first copy is.
    return frame.assign(split=split.groupby(frame["group"]).transform("first"))


def _official(frame: pd.DataFrame, config: SplitConfig, result: Prepared) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Keep the publisher's split; what of its training or validation data is in a later split too is left out."""
    order: dict[str, int] = {}
    for place, split in enumerate(SPLITS):
        values = config.values.get(split, split)
        order |= {str(value): place for value in (values if isinstance(values, list) else [values])}
    rank = frame[config.column].map(order).fillna(0)
    later = rank.groupby(frame["group"]).transform("max") > rank
    if not later.any():
        return frame, {}
    result.warnings.append(
        f"{int(later.sum())} training or validation rows have their picture, patient or lesion in a later split of the "
        f"publisher too. They are left out ('where: {{{LEAK}: no}}' in study.yaml); the test split is whole"
    )
    return frame.assign(**{LEAK: later.map({True: "yes", False: "no"})}), {"where": {LEAK: "no"}}


def _write(entry: Entry, frame: pd.DataFrame, result: Prepared, keys: dict[str, Any]) -> None:
    target = result.table.parent
    paths = _path_columns(entry, frame)
    places = [place.partition("!")[0] for column in paths for place in frame[column] if place]
    try:
        root = os.path.commonpath([str(target), *(os.path.dirname(place) for place in set(places))])
    except ValueError as error:
        raise DataError(
            "lies on another drive than the data", file=target, remedy="Choose -o on their drive"
        ) from error
    folders = {folder: os.path.relpath(folder, target) for folder in {os.path.dirname(place) for place in places}}

    def relative(place: str) -> str:
        parent, name = os.path.split(place.partition("!")[0])
        rest = place[len(parent) + 1 + len(name) :]
        return Path(folders[parent], name).as_posix() + rest if place else ""

    written = frame.assign(**{column: frame[column].map(relative) for column in paths})
    write_text(result.table, written.to_csv(index=False))
    table = Path(os.path.relpath(result.table, root)).as_posix()
    keys = {"data_root": Path(os.path.relpath(root, target)).as_posix()} | entry.study({"table": table, **keys})
    order = ("name", "description", "source", "data_root")
    plain = {key: keys[key] for key in order} | {key: value for key, value in keys.items() if key not in order}
    cite = f"{entry.citation}{f' doi:{entry.doi}' if entry.doi else ''}"
    head = [f"Licence: {entry.licence}", f"Cite: {cite}", "Known traps:", *(f"- {trap}" for trap in entry.traps)]
    text = "".join(f"# {line}\n" for line in head)
    write_text(result.study, text + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))


def _path_columns(entry: Entry, frame: pd.DataFrame) -> list[str]:
    files = {item.name for item in entry.layout if item.kind != "table"}
    images = {
        (section.column or name).rpartition(".")[0] if entry.pivot else section.column or name
        for name, section in entry.modalities.items()
        if isinstance(section, PixelConfig)
    }
    return [column for column in frame if column in files | images]


def _count(result: Prepared) -> None:
    config = load_config(result.study)
    manifest, problems = read_manifest(config)
    frame = manifest.frame
    result.warnings += [f"'mailnet check' would stop at: {problem}" for problem in problems]
    result.studies, result.groups = len(frame), int(frame["group"].nunique())
    result.splits = {split: int((frame["split"] == split).sum()) for split in SPLITS}
    for name, task in config.tasks.items():
        result.classes[name] = {
            label: int((frame[f"label:{name}:{label}"] == 1).sum())
            if task.kind == "multilabel"
            else int((frame[f"label:{name}"] == k).sum())
            for k, label in enumerate(task.class_values)
        }


def _compare(result: Prepared, frame: pd.DataFrame) -> None:
    entry = result.entry
    expected = entry.rows or entry.images
    if expected is not None and len(frame) != expected:
        result.warnings.append(f"{len(frame)} rows here, {expected} published")
    for split, count in entry.splits.items():
        here = int((frame[entry.split.column] == split).sum()) if entry.split.column in frame else result.splits[split]
        if here != count:
            result.warnings.append(f"{here} {split} rows here, {count} published")
    for name, task in entry.tasks.items():
        for label, count in task.counts.items():
            here = result.classes[name][label]
            if here != count:
                result.warnings.append(f"{name} {label}: {here} here, {count} published")
