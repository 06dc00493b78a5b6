"""From the tables of a study to one row a study: ids, groups, splits, files, columns and labels, all checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.cells import Cells
from mailnet.data.columns import distinct, in_one_piece, recode, text_of
from mailnet.data.composition import find_composition_problems
from mailnet.data.config import SPLITS, PixelConfig, Split, StudyConfig
from mailnet.data.inputs import input_columns, modality_columns
from mailnet.data.labels import Columns, is_labelled, label_columns, read_labels, strata
from mailnet.data.locations import Locator
from mailnet.data.paths import relative_all
from mailnet.data.planes import expand_planes
from mailnet.data.remedies import keep_filled
from mailnet.data.sources import read_sources, rows_of
from mailnet.data.splits import split_kinds
from mailnet.data.values import canonical
from mailnet.errors import DataError, MailnetError

LISTED = 10
NO_MODALITY = "has no modality at all"


@dataclass(frozen=True)
class Manifest:
    """One row a study.

    Args:
        config: The study that it belongs to.
        frame: Columns ``row`` (number of the row in the tables as read, from 1; studies of one row share it), ``id``,
            ``group``, ``unit`` (what a split never divides: the group, or what the row holds where nothing names it),
            ``split``, per image modality ``path:<modality>``, per modality ``has:<modality>``, ``raw:<column>`` of
            tables (float with NaN, or text, empty where absent), ``subgroup:<column>``, and per task ``label:<task>``
            (int, -1 unknown) or, for multilabel, ``label:<task>:<class>`` (0, 1 or NaN). Text lies in Arrow's memory,
            so that a million rows need no object a cell.
    """

    config: StudyConfig
    frame: pd.DataFrame


def load_manifest(
    config: StudyConfig,
    splits: Sequence[Split] | None = None,
    table: pd.DataFrame | None = None,
    *,
    skip_bad: bool = False,
) -> Manifest:
    """Return the checked manifest of a study.

    Args:
        config: The study.
        splits: The splits that will be used (default all); only these must hold studies.
        table: The rows, where they are in memory, in place of the config's tables; paths are relative to the data root.
        skip_bad: Studies without any modality are no problem, see ``without_modality``: they are for the caller to
            leave out. They count in the division, as do studies whose images turn out unreadable.

    Raises:
        DataError: Lists what is wrong, up to ten problems.
    """
    manifest, problems = read_manifest(config, splits, table, skip_bad=skip_bad)
    if problems:
        raise together(problems)
    return manifest


def read_manifest(
    config: StudyConfig,
    splits: Sequence[Split] | None = None,
    table: pd.DataFrame | None = None,
    *,
    skip_bad: bool = False,
) -> tuple[Manifest, list[MailnetError]]:
    """Return the manifest and everything that is wrong with it; arguments as of ``load_manifest``.

    Raises:
        DataError: A table itself cannot be read.
    """
    cells = Cells(read_sources(config) if table is None else rows_of(table, str(config.root)))
    columns: dict[str, Any] = {"row": np.arange(1, len(cells) + 1)} | _names(cells, config)
    columns |= modality_columns(cells, config)
    labels = read_labels(cells, config)
    if not cells.missing:
        counts = np.sum([columns[f"has:{name}"] for name in config.modalities], axis=0)
        if not skip_bad:
            remedy = _fill(config) if table is None else "Give it one, or leave it out"
            cells.problem_of(np.flatnonzero(counts == 0), NO_MODALITY, remedy=remedy)
        if config.regime == "unpaired":
            _check_owners(cells, config, columns, labels)
    owner = _owners(config, columns)
    columns["unit"] = _units(config, columns)
    columns["split"] = _splits(cells, config, columns["unit"], labels, owner)
    frame = in_one_piece(expand_planes(pd.DataFrame(columns | labels), cells, config))
    # That a task or modality without its column has no examples is no second problem.
    unread = {name for name, task in config.tasks.items() if cells.missing & label_columns(name, task)}
    empty = {name for name, section in config.modalities.items() if cells.missing & set(input_columns(name, section))}
    composition = [
        problem
        for problem in find_composition_problems(frame, config, splits)
        if problem.task not in unread and problem.modality not in empty
    ]
    return Manifest(config, frame), cells.problems + composition


def without_modality(frame: pd.DataFrame, config: StudyConfig) -> np.ndarray:
    """Return (N,) bool: the row of ``Manifest.frame`` has no modality at all."""
    has: np.ndarray = frame[[f"has:{name}" for name in config.modalities]].to_numpy(dtype=bool)
    return np.asarray(~has.any(axis=1))


def together(problems: Sequence[MailnetError]) -> MailnetError:
    """Return one error that says all problems, listing the first ten."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"  {problem}" for problem in problems[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  ... and {len(problems) - LISTED} more: 'mailnet check' lists them all")
    return DataError("\n".join([f"{len(problems)} problems in the data:", *lines]))


def _names(cells: Cells, config: StudyConfig) -> dict[str, pd.Series[Any]]:
    if config.id is not None:
        given = cells.text(config.id, "id")
        empty = (given == "").to_numpy()
        cells.ids = given.mask(empty, cells.ids)
        if config.id not in cells.missing:
            message, remedy = f"the cell of '{config.id}' is empty", "Give the study an identifier"
            cells.problem_of(np.flatnonzero(empty), message, remedy=remedy)
        if config.regime == "paired":
            repeated = np.flatnonzero(pd.Series(distinct(cells.ids)[0]).duplicated())
            remedy = "Give every study its own, or join its rows with 'pivot'"
            cells.problem_of(repeated, "the identifier is used twice", remedy=remedy)
    columns = {"id": cells.ids, "group": cells.ids, "split": cells.ids}
    if config.group is not None:
        groups = cells.text(config.group, "group")
        columns["group"] = groups.mask(groups == "", "alone: " + cells.ids)
    return columns | {f"subgroup:{column}": cells.text(column, "subgroups") for column in config.subgroups}


def _fill(config: StudyConfig) -> str:
    # Only of one column can 'where' say it: of several, a row must have a value in one.
    (name, section), *others = config.modalities.items()
    keep = keep_filled(config, section.column or name) if isinstance(section, PixelConfig) and not others else None
    way = f"leave the row out with {keep}, or leave it out with" if keep else "or leave it out with"
    return f"Fill a cell of one, {way} --skip-bad"


def _check_owners(cells: Cells, config: StudyConfig, columns: dict[str, Any], labels: dict[str, np.ndarray]) -> None:
    """Find rows of several modalities, and tasks of several, which the unpaired regime has none of."""
    names = list(config.modalities)
    has = np.stack([columns[f"has:{name}"] for name in names])
    count = has.sum(axis=0)
    several = np.flatnonzero(count > 1)
    sets, places = np.unique(has[:, several].T, axis=0, return_inverse=True)
    for k, own in enumerate(sets):
        which = [name for name, one in zip(names, own, strict=True) if one]
        message = f"has {len(which)} modalities in the unpaired regime: {', '.join(which)}"
        rows = several[places.ravel() == k]
        cells.problem_of(rows, message, remedy="Give each its own row, or set 'regime: paired'")
    for task in config.tasks:
        known = is_labelled(task, config, labels) & (count == 1)
        owners = [name for name, own in zip(names, has, strict=True) if (known & own).any()]
        if len(owners) > 1:
            cells.problem(
                f"is labelled in rows of {' and '.join(owners)}; companions would carry two answers",
                task=task,
                remedy="Give each modality its own task, or set 'regime: paired'",
            )


def _owners(config: StudyConfig, columns: dict[str, Any]) -> pd.Categorical[Any]:
    """Return each row's modality in the unpaired regime, else nothing; there it also becomes part of the group."""
    owner = np.zeros(len(columns["row"]), dtype=np.int64)
    if config.regime == "unpaired":
        for k, name in enumerate(config.modalities, start=1):
            owner[columns[f"has:{name}"]] = k
    owners = pd.Categorical.from_codes(owner, pd.Index(["", *config.modalities]))
    if config.regime == "unpaired" and config.group is not None:
        # Each modality is a data set of its own, and two of them may number their patients alike.
        columns["group"] = (
            text_of([f"{name}: " for name in owners.categories]).take(owner).reset_index(drop=True) + (columns["group"])
        )
    return owners


def _splits(
    cells: Cells, config: StudyConfig, units: pd.Series[Any], labels: Columns, owner: pd.Categorical[Any]
) -> pd.Series[Any]:
    if config.split.column is None:
        kinds, names = strata(labels, owner)
        return text_of(SPLITS).take(split_kinds(units, kinds, names, config.split)).reset_index(drop=True)
    given = cells.text(config.split.column, "split")
    if config.split.column in cells.missing:
        return given
    known: dict[str, str] = {}
    for split in SPLITS:
        values = config.split.values.get(split, [] if config.split.values else [split])
        known |= {canonical(value): split for value in (values if isinstance(values, list) else [values])}
    remedy = "Correct the cells or say in split.values what they mean"
    return text_of(cells.translate(given, known, "", column=config.split.column, noun="split", remedy=remedy))


def _units(config: StudyConfig, columns: dict[str, Any]) -> pd.Series[Any]:
    if config.group is not None or config.id is not None:
        group: pd.Series[Any] = columns["group"]
        return group
    # Row numbers would make the division depend on the order of the rows; what the rows hold does not.
    locator = Locator(config.root)
    parts = [relative_all(columns[c], locator) for c in columns if c.startswith("path:")]
    parts = parts or [recode(pd.Series(columns[c]), str) for c in columns if c.startswith("raw:")]
    unit = parts[0]
    for part in parts[1:]:
        unit = unit + "\0" + part
    return unit
