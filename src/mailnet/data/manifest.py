"""From the tables of a study to one row a study: ids, groups, splits, files, columns and labels, all checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.cells import Cells
from mailnet.data.composition import find_composition_problems
from mailnet.data.config import SPLITS, PixelConfig, Split, StudyConfig, TabularConfig
from mailnet.data.labels import is_labelled, label_columns, read_labels, strata
from mailnet.data.locations import Locator
from mailnet.data.sources import read_sources, rows_of
from mailnet.data.splits import split_rows
from mailnet.data.values import canonical, is_no_number
from mailnet.errors import DataError, MailnetError

LISTED = 10


@dataclass(frozen=True)
class Manifest:
    """One row a study.

    Args:
        config: The study that it belongs to.
        frame: Columns ``row`` (number of the row in the tables as read, from 1), ``id``, ``group``, ``unit`` (what a
            split never divides: the group, or what the row holds where nothing names it), ``split``, per image modality
            ``path:<modality>``, per modality ``has:<modality>``, ``raw:<column>`` of tables (float with NaN, or text,
            empty where absent), ``subgroup:<column>``, and per task ``label:<task>`` (int, -1 unknown) or, for
            multilabel, ``label:<task>:<class>`` (0, 1 or NaN).
    """

    config: StudyConfig
    frame: pd.DataFrame


def load_manifest(
    config: StudyConfig, splits: Sequence[Split] | None = None, table: pd.DataFrame | None = None
) -> Manifest:
    """Return the checked manifest of a study.

    Args:
        config: The study.
        splits: The splits that will be used (default all); only these must hold studies.
        table: The rows, where they are in memory, in place of the config's tables; paths are relative to the data root.

    Raises:
        DataError: Lists what is wrong, up to ten problems.
    """
    manifest, problems = read_manifest(config, splits, table)
    if problems:
        raise together(problems)
    return manifest


def read_manifest(
    config: StudyConfig, splits: Sequence[Split] | None = None, table: pd.DataFrame | None = None
) -> tuple[Manifest, list[MailnetError]]:
    """Return the manifest and everything that is wrong with it.

    Raises:
        DataError: A table itself cannot be read.
    """
    cells = Cells(read_sources(config) if table is None else rows_of(table, str(config.root)))
    columns: dict[str, Any] = {"row": np.arange(1, len(cells) + 1)} | _names(cells, config)
    for name, modality in config.modalities.items():
        columns |= (
            _table(cells, name, modality, config)
            if isinstance(modality, TabularConfig)
            else _paths(cells, name, modality, config)
        )
    labels = read_labels(cells, config)
    if not cells.missing:
        _check_rows(cells, config, columns, labels)
    owner = _owners(config, columns)
    columns["unit"] = _units(config, columns)
    columns["split"] = _splits(cells, config, columns["unit"], strata(labels, owner))
    frame = pd.DataFrame(columns | labels)
    # That a task without its column has no examples is no second problem.
    unread = {name for name, task in config.tasks.items() if cells.missing & label_columns(name, task)}
    composition = [p for p in find_composition_problems(frame, config, splits) if p.task not in unread]
    return Manifest(config, frame), cells.problems + composition


def together(problems: Sequence[MailnetError]) -> MailnetError:
    """Return one error that says all problems, listing the first ten."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"  {problem}" for problem in problems[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  ... and {len(problems) - LISTED} more: 'mailnet check' lists them all")
    return DataError("\n".join([f"{len(problems)} problems in the data:", *lines]))


def _names(cells: Cells, config: StudyConfig) -> dict[str, list[str]]:
    if config.id is not None:
        given = cells.column(config.id, "id")
        cells.ids = [cell or row for cell, row in zip(given, cells.ids, strict=True)]
        if config.id not in cells.missing:
            for row in [row for row, cell in enumerate(given) if not cell]:
                cells.problem(f"the cell of '{config.id}' is empty", row=row, remedy="Give the study an identifier")
        if config.regime == "paired":
            for repeated in np.flatnonzero(pd.Series(cells.ids).duplicated()):
                remedy = "Give every study its own, or join its rows with 'pivot'"
                cells.problem("the identifier is used twice", row=int(repeated), remedy=remedy)
    columns = {"id": cells.ids, "group": cells.ids, "split": cells.ids}
    if config.group is not None:
        groups = zip(cells.column(config.group, "group"), cells.ids, strict=True)
        columns["group"] = [group or f"alone: {study}" for group, study in groups]
    return columns | {f"subgroup:{column}": cells.column(column, "subgroups") for column in config.subgroups}


def _paths(cells: Cells, name: str, modality: PixelConfig, config: StudyConfig) -> dict[str, Any]:
    locator = Locator(config.root)
    given = cells.column(modality.column or name, f"modalities.{name}")
    paths = [""] * len(given)
    for row, cell in enumerate(given):
        if cell:
            try:
                paths[row] = locator.locate(cell, cells.folders[row])
            except DataError as error:
                cells.problem(error.message, row=row, modality=name, file=error.file, remedy=error.remedy or "")
    return {f"path:{name}": paths, f"has:{name}": np.array([bool(cell) for cell in given])}


def _table(cells: Cells, name: str, modality: TabularConfig, config: StudyConfig) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    absent: dict[str, np.ndarray] = {}
    for column in [*modality.numeric, *modality.categorical]:
        given = cells.column(column, f"modalities.{name}")
        if column in modality.numeric:
            columns[f"raw:{column}"] = _numbers(cells, given, column, name)
            absent[column] = np.array([is_no_number(cell) for cell in given])
        else:
            columns[f"raw:{column}"] = given
            absent[column] = np.array([not cell for cell in given])
    has = ~np.stack(list(absent.values())).all(axis=0)
    for column in modality.required:
        if column in cells.missing:
            continue
        # In the unpaired regime a row without the table is a row of another modality.
        for row in np.flatnonzero(absent[column] & has if config.regime == "unpaired" else absent[column]):
            remedy = f"Fill the cell, or take '{column}' out of 'required' so that it is imputed"
            cells.problem(f"'{column}' is required and has no value", row=int(row), modality=name, remedy=remedy)
    return columns | {f"has:{name}": has}


def _numbers(cells: Cells, given: Sequence[str], column: str, modality: str) -> np.ndarray:
    values = np.full(len(given), np.nan)
    for row, cell in enumerate(given):
        if is_no_number(cell):
            continue
        try:
            number = float(cell)
        except ValueError:
            number = np.inf
        if np.isfinite(number):
            values[row] = number
        else:
            remedy = "Correct or empty the cell, or list its text under 'missing' of the table"
            cells.problem(f"'{column}' is '{cell}', not a number", row=row, modality=modality, remedy=remedy)
    return values


def _check_rows(cells: Cells, config: StudyConfig, columns: dict[str, Any], labels: dict[str, np.ndarray]) -> None:
    names = list(config.modalities)
    has = np.stack([columns[f"has:{name}"] for name in names])
    count = has.sum(axis=0)
    for row in np.flatnonzero(count == 0):
        remedy = "Fill a cell of one, or leave the row out with 'where'"
        cells.problem("has no modality at all", row=int(row), remedy=remedy)
    if config.regime == "paired":
        return
    for row in np.flatnonzero(count > 1):
        several = [name for name, one in zip(names, has[:, row], strict=True) if one]
        message = f"has {len(several)} modalities in the unpaired regime: {', '.join(several)}"
        cells.problem(message, row=int(row), remedy="Give each its own row, or set 'regime: paired'")
    for task in config.tasks:
        known = is_labelled(task, config, labels) & (count == 1)
        owners = [name for name, own in zip(names, has, strict=True) if (known & own).any()]
        if len(owners) > 1:
            cells.problem(
                f"is labelled in rows of {' and '.join(owners)}; companions would carry two answers",
                task=task,
                remedy="Give each modality its own task, or set 'regime: paired'",
            )


def _owners(config: StudyConfig, columns: dict[str, Any]) -> list[str]:
    """Return each row's modality in the unpaired regime, else nothing; there it also becomes part of the group."""
    owner = [""] * len(columns["row"])
    if config.regime == "unpaired":
        for name in config.modalities:
            owner = [name if has else old for has, old in zip(columns[f"has:{name}"], owner, strict=True)]
        if config.group is not None:
            # Each modality is a data set of its own, and two of them may number their patients alike.
            columns["group"] = [f"{name}: {group}" for name, group in zip(owner, columns["group"], strict=True)]
    return owner


def _splits(cells: Cells, config: StudyConfig, units: Sequence[str], labels: Sequence[Any]) -> list[str]:
    if config.split.column is None:
        return list(split_rows(units, labels, config.split))
    given = cells.column(config.split.column, "split")
    if config.split.column in cells.missing:
        return given
    known: dict[str, str] = {}
    for split in SPLITS:
        values = config.split.values.get(split, [] if config.split.values else [split])
        known |= {canonical(value): split for value in (values if isinstance(values, list) else [values])}
    remedy = "Correct the cells or say in split.values what they mean"
    return cells.translate(given, known, "", column=config.split.column, noun="split", remedy=remedy)


def _units(config: StudyConfig, columns: dict[str, Any]) -> list[str]:
    if config.group is not None or config.id is not None:
        return list(columns["group"])
    # Row numbers would make the division depend on the order of the rows; what the rows hold does not.
    locator = Locator(config.root)
    parts = [[locator.relative(path) for path in columns[c]] for c in columns if c.startswith("path:")]
    parts = parts or [[str(value) for value in columns[c]] for c in columns if c.startswith("raw:")]
    return ["\0".join(row) for row in zip(*parts, strict=True)]
