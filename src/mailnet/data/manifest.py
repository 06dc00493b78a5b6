"""From the tables of a study to one row a study: ids, groups, splits, files, columns and labels, all checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mailnet.data.composition import find_composition_problems
from mailnet.data.config import SPLITS, ImageConfig, Split, StudyConfig, TabularConfig, TaskConfig
from mailnet.data.locations import Locator
from mailnet.data.sources import FOLDER, read_sources
from mailnet.data.splits import split_rows
from mailnet.data.values import canonical, nearest
from mailnet.errors import DataError, MailnetError

LISTED = 10
ABSENT = ("nan", "na", "n/a", "none", "null")


@dataclass(frozen=True)
class Manifest:
    """One row a study.

    Args:
        config: The study that it belongs to.
        frame: Columns ``id``, ``group``, ``split``, per image modality ``path:<modality>``, per modality
            ``has:<modality>``, ``raw:<column>`` of tables (float with NaN, or text, empty where absent),
            ``subgroup:<column>``, and per task ``label:<task>`` (int, -1 unknown) or, for multilabel,
            ``label:<task>:<class>`` (0, 1 or NaN).
    """

    config: StudyConfig
    frame: pd.DataFrame


def load_manifest(config: StudyConfig, splits: Sequence[Split] | None = None) -> Manifest:
    """Return the checked manifest of a study.

    Args:
        config: The study.
        splits: The splits that will be used (default all); only these must hold studies.

    Raises:
        DataError: Lists what is wrong, up to ten problems.
    """
    manifest, problems = read_manifest(config, splits)
    if problems:
        raise together(problems)
    return manifest


def read_manifest(config: StudyConfig, splits: Sequence[Split] | None = None) -> tuple[Manifest, list[MailnetError]]:
    """Return the manifest and everything that is wrong with it.

    Raises:
        DataError: A table itself cannot be read.
    """
    builder = _Builder(config, read_sources(config))
    frame = builder.build()
    return Manifest(config, frame), builder.problems + list(find_composition_problems(frame, config, splits))


def together(problems: Sequence[MailnetError]) -> MailnetError:
    """Return one error that says all problems, listing the first ten."""
    if len(problems) == 1:
        return problems[0]
    lines = [f"  {problem}" for problem in problems[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  ... and {len(problems) - LISTED} more: 'mailnet check' lists them all")
    return DataError("\n".join([f"{len(problems)} problems in the data:", *lines]))


class _Builder:
    def __init__(self, config: StudyConfig, table: pd.DataFrame) -> None:
        self.config = config
        self.table = table
        self.problems: list[MailnetError] = []
        self.locator = Locator(config.root)
        self.columns: dict[str, object] = {}
        self.ids: list[str] = []
        self._missing: set[str] = set()

    def build(self) -> pd.DataFrame:
        self._identify()
        for name, modality in self.config.modalities.items():
            if isinstance(modality, TabularConfig):
                self._tabular(name, modality)
            else:
                self._paths(name, modality)
        self._modalities_a_row()
        for name, task in self.config.tasks.items():
            if task.kind == "multilabel":
                for label, (column,) in task.class_values.items():
                    self._labels(name, column, f"label:{name}:{label}", {"0": 0, "1": 1, "false": 0, "true": 1}, np.nan)
            else:
                known = {canonical(v): k for k, values in enumerate(task.class_values.values()) for v in values}
                self._labels(name, task.column or name, f"label:{name}", known, -1)
        if self.config.regime == "unpaired":
            self._one_modality_a_task()
        self._split()
        order = ["id", "group", "split"]
        return pd.DataFrame({name: self.columns[name] for name in [*order, *(set_minus(self.columns, order))]})

    def _column(self, column: str, key: str) -> list[str] | None:
        if column in self.table.columns and column != FOLDER:
            return [str(cell) for cell in self.table[column]]
        if column not in self._missing:
            self._missing.add(column)
            known = [name for name in self.table.columns if name != FOLDER]
            self._problem(f"{key} names the column '{column}', which no table has", remedy=nearest(column, known))
        return None

    def _problem(self, message: str, *, remedy: str, row: int | None = None, **where: str | None) -> None:
        study = None if row is None else self.ids[row]
        self.problems.append(DataError(message, remedy=remedy, study=study, **where))

    def _identify(self) -> None:
        config, count = self.config, len(self.table)
        rows = [f"row {number}" for number in range(1, count + 1)]
        given = None if config.id is None else self._column(config.id, "id")
        self.ids = rows if given is None else [cell or row for cell, row in zip(given, rows, strict=True)]
        if given is not None:
            for row in (row for row, cell in enumerate(given) if not cell):
                self._problem(f"the cell of '{config.id}' is empty", row=row, remedy="Give the study an identifier")
            if config.regime == "paired":
                repeated = pd.Series(self.ids)
                for row in repeated[repeated.duplicated()].index:
                    remedy = "Give every study its own, or join its rows with 'pivot'"
                    self._problem("the identifier is used twice", row=int(row), remedy=remedy)
        self.columns["id"] = self.ids
        groups = None if config.group is None else self._column(config.group, "group")
        self.columns["group"] = (
            self.ids if groups is None else [g or f"alone: {i}" for g, i in zip(groups, self.ids, strict=True)]
        )
        for column in config.subgroups:
            cells = self._column(column, "subgroups")
            self.columns[f"subgroup:{column}"] = cells if cells is not None else [""] * count

    def _paths(self, name: str, modality: ImageConfig) -> None:
        cells = self._column(modality.column or name, f"modalities.{name}")
        paths = [""] * len(self.table)
        for row, (cell, folder) in enumerate(zip(cells or [], self.table[FOLDER], strict=False)):
            if cell:
                try:
                    paths[row] = self.locator.locate(cell, folder)
                except DataError as error:
                    self._problem(error.message, row=row, modality=name, file=error.file, remedy=error.remedy or "")
        self.columns[f"path:{name}"] = paths
        self.columns[f"has:{name}"] = np.array([bool(cell) for cell in cells or paths])

    def _tabular(self, name: str, modality: TabularConfig) -> None:
        has = np.zeros(len(self.table), dtype=bool)
        absent: dict[str, np.ndarray] = {}
        for column in [*modality.numeric, *modality.categorical]:
            cells = self._column(column, f"modalities.{name}")
            if cells is None:
                cells = [""] * len(self.table)
            if column in modality.numeric:
                values = self._numbers(cells, column, name)
                absent[column] = np.isnan(values)
                self.columns[f"raw:{column}"] = values
            else:
                absent[column] = np.array([not cell for cell in cells])
                self.columns[f"raw:{column}"] = cells
            has |= ~absent[column]
        self.columns[f"has:{name}"] = has
        for column in modality.required:
            if column in self._missing:
                continue
            # In the unpaired regime a row without the table is a row of another modality.
            empty = absent[column] & (has if self.config.regime == "unpaired" else True)
            for row in np.flatnonzero(empty):
                remedy = f"Fill the cell, or take '{column}' out of 'required' so that it is imputed"
                self._problem(f"'{column}' is required and has no value", row=int(row), modality=name, remedy=remedy)

    def _numbers(self, cells: list[str], column: str, modality: str) -> np.ndarray:
        values = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if not cell or cell.lower() in ABSENT:
                continue
            try:
                values[row] = float(cell)
            except ValueError:
                remedy = "Leave the cell empty where there is no number (or name the text in the source's 'missing')"
                self._problem(f"'{column}' is '{cell}', not a number", row=row, modality=modality, remedy=remedy)
                continue
            if not np.isfinite(values[row]):
                values[row] = np.nan
                self._problem(f"'{column}' is not finite", row=row, modality=modality, remedy="Correct the cell")
        return values

    def _modalities_a_row(self) -> None:
        has = np.stack([np.asarray(self.columns[f"has:{name}"]) for name in self.config.modalities])
        count = has.sum(axis=0)
        if self._missing:
            return
        for row in np.flatnonzero(count == 0):
            self._problem("has no modality at all", row=int(row), remedy="Fill a cell of one or remove the row")
        if self.config.regime == "unpaired":
            for row in np.flatnonzero(count > 1):
                names = [name for name, one in zip(self.config.modalities, has[:, row], strict=True) if one]
                remedy = "Give each its own row, or set 'regime: paired'"
                self._problem(
                    f"has {len(names)} modalities in the unpaired regime: {', '.join(names)}",
                    row=int(row),
                    remedy=remedy,
                )

    def _labels(self, task: str, column: str, target: str, known: dict[str, int], unknown: float) -> None:
        cells = self._column(column, f"tasks.{task}")
        if cells is None:
            cells = [""] * len(self.table)
        meaning: dict[str, float] = {"": unknown}
        wrong: dict[str, list[int]] = {}
        labels = np.full(len(cells), unknown)
        for row, cell in enumerate(cells):
            if cell not in meaning:
                meaning[cell] = known.get(canonical(cell), np.inf)
            if np.isinf(meaning[cell]):
                wrong.setdefault(cell, []).append(row)
            else:
                labels[row] = meaning[cell]
        for cell, rows in wrong.items():
            also = f" (so have {len(rows) - 1} other studies)" if len(rows) > 1 else ""
            remedy = f"{nearest(cell, known)} Correct the cells, add the value to 'classes', or empty the cells"
            self._problem(f"'{column}' is '{cell}', which is no class{also}", row=rows[0], task=task, remedy=remedy)
        self.columns[target] = labels if np.isnan(unknown) else labels.astype(np.int64)

    def _known_label(self, name: str, task: TaskConfig) -> np.ndarray:
        if task.kind != "multilabel":
            return np.asarray(self.columns[f"label:{name}"]) >= 0
        columns = [np.asarray(self.columns[f"label:{name}:{label}"]) for label in task.class_values]
        known: np.ndarray = ~np.isnan(np.stack(columns)).all(axis=0)
        return known

    def _one_modality_a_task(self) -> None:
        for name, task in self.config.tasks.items():
            known = self._known_label(name, task)
            owners = [m for m in self.config.modalities if (known & np.asarray(self.columns[f"has:{m}"])).any()]
            if len(owners) > 1:
                self._problem(
                    f"is labelled in rows of {' and '.join(owners)}; companions would carry two answers",
                    task=name,
                    remedy="Give each modality its own task, or set 'regime: paired'",
                )

    def _split(self) -> None:
        config = self.config.split
        if self.config.regime == "unpaired" and self.config.group is not None:
            # Each modality is a data set of its own, and two of them may number their patients alike.
            owner = self._owner()
            self.columns["group"] = [f"{m}: {g}" for m, g in zip(owner, self._texts("group"), strict=True)]
        if config.column is None:
            self.columns["split"] = split_rows(self._units(), self._strata(), config)
            return
        cells = self._column(config.column, "split")
        known: dict[str, Split] = {}
        for split in SPLITS:
            values = config.values.get(split, [] if config.values else [split])
            known |= {canonical(v).lower(): split for v in (values if isinstance(values, list) else [values])}
        found: list[str] = [known.get(canonical(cell).lower(), "") for cell in cells or [""] * len(self.table)]
        wrong: dict[str, list[int]] = {}
        for row, place in enumerate(found if cells else []):
            if not place:
                wrong.setdefault((cells or [])[row], []).append(row)
        for cell, rows in wrong.items():
            also = f" (so have {len(rows) - 1} other studies)" if len(rows) > 1 else ""
            remedy = f"{nearest(cell, known)} Correct the cells or say in split.values what they mean"
            self._problem(f"'{config.column}' is '{cell}', which is no split{also}", row=rows[0], remedy=remedy)
        self.columns["split"] = found

    def _texts(self, column: str) -> list[str]:
        return [str(value) for value in np.asarray(self.columns[column])]

    def _owner(self) -> list[str]:
        owner = np.full(len(self.table), "", dtype=object)
        for name in self.config.modalities:
            owner[np.asarray(self.columns[f"has:{name}"])] = name
        return [str(name) for name in owner]

    def _units(self) -> list[str]:
        if self.config.group is not None or self.config.id is not None:
            return self._texts("group")
        # Row numbers would make the division depend on the order of the rows; what the rows hold does not.
        images = [c for c in self.columns if c.startswith("path:")]
        columns = images or [c for c in self.columns if c.startswith("raw:")]
        parts = [self._texts(column) for column in columns]
        shorten: Callable[[str], str] = self.locator.relative if images else str
        return ["\0".join(shorten(part) for part in row) for row in zip(*parts, strict=True)]

    def _strata(self) -> list[tuple[tuple[str, str], ...]]:
        columns = {c: self._texts(c) for c in self.columns if c.startswith("label:")}
        owner = self._owner() if self.config.regime == "unpaired" else [""] * len(self.table)
        strata = []
        for row in range(len(self.table)):
            labels = [(c, v[row]) for c, v in columns.items() if v[row] not in ("-1", "nan")]
            strata.append(tuple(labels) or ((owner[row], "unlabelled"),))
        return strata


def set_minus(columns: dict[str, object], taken: Sequence[str]) -> list[str]:
    """Return the keys of ``columns`` in order without ``taken``."""
    return [name for name in columns if name not in taken]
