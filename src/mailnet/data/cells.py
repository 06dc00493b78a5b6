"""The cells of a study's tables, by column, and what is found wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from mailnet.data.columns import TEXT, as_text, distinct, numbers, text_of
from mailnet.data.sources import FOLDER
from mailnet.data.values import canonical, expand_columns, nearest
from mailnet.errors import DataError, MailnetError

V = TypeVar("V", int, float, str)

# So many rows are named that share a problem; of the others only the number, since there may be a million.
NAMED = 100


class Cells:
    """Cells of N rows; reading goes on after a problem, so that all are found in one pass.

    Args:
        table: What ``read_sources`` gives.

    Attributes:
        ids: Identifier of every row, for messages.
        folders: What the paths of every row are relative to, a categorical.
        problems: What was found so far.
        missing: Columns that were asked for and do not exist.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self.folders = pd.Categorical(table[FOLDER])
        self.ids = "row " + pd.Series(np.arange(1, len(table) + 1)).astype(TEXT)
        self.problems: list[MailnetError] = []
        self.missing: set[str] = set()

    def __len__(self) -> int:
        return len(self._table)

    def names(self, patterns: Sequence[str]) -> list[str]:
        """Return the columns that names and patterns stand for; those that stand for none are kept as they are."""
        return expand_columns(patterns, self._known())

    def text(self, column: str, key: str) -> pd.Series[Any]:
        """Return the cells of a column as text; all empty, and a problem, where there is no such column.

        Args:
            column: Name in the tables.
            key: The place in study.yaml that names it.
        """
        if self._has(column, key):
            return as_text(self._table[column])
        return text_of([""] * len(self))

    def numbers(self, column: str, key: str, modality: str) -> np.ndarray:
        """Return the cells of a column as (N,) float64, NaN where absent; a problem for each text that is no number.

        Args:
            column: Name in the tables.
            key: The place in study.yaml that names it.
            modality: Name of the modality, for messages.
        """
        if not self._has(column, key):
            return np.full(len(self), np.nan)
        values = numbers(self._table[column])
        wrong = np.flatnonzero(np.isinf(values))
        if len(wrong):
            places, texts = distinct(as_text(self._table[column].iloc[wrong]))
            for k, text in enumerate(texts):
                rows = wrong[places == k]
                message = f"'{column}' is '{text}', not a number{_others(len(rows))}"
                remedy = "Correct or empty the cell, or list its text under 'missing' of the table"
                self.problem(message, row=int(rows[0]), modality=modality, remedy=remedy)
            values[wrong] = np.nan
        return values

    def problem(self, message: str, *, remedy: str, row: int | None = None, **where: str | None) -> None:
        """Note a problem, of a row or of all; ``where`` is ``modality``, ``task`` or ``file``."""
        study = None if row is None else str(self.ids.iloc[row])
        self.problems.append(DataError(message, remedy=remedy, study=study, **where))

    def problem_of(self, rows: np.ndarray, message: str, *, remedy: str, modality: str | None = None) -> None:
        """Note a problem that each of the rows has; beyond ``NAMED`` rows, only how many more there are."""
        for row in rows[:NAMED]:
            self.problem(message, row=int(row), remedy=remedy, modality=modality)
        if len(rows) > NAMED:
            self.problem(f"{len(rows) - NAMED} more studies: {message}", remedy=remedy, modality=modality)

    def translate(
        self,
        cells: pd.Series[Any],
        known: Mapping[str, V],
        default: V,
        *,
        column: str,
        noun: str,
        remedy: str,
        task: str | None = None,
    ) -> np.ndarray:
        """Return what every cell means; one problem for each unknown value, however many cells have it.

        Args:
            cells: Text of every row.
            known: Canonical value -> meaning.
            default: Meaning of an unknown value.
            column: Name of the column, for messages.
            noun: What an unknown value is not: "class".
            remedy: Follows the nearest known value.
            task: Name of the task, for messages.

        Returns:
            (N,) of the type of the meanings; of texts, objects.
        """
        places, values = distinct(cells)
        count = np.bincount(places, minlength=len(values))
        meanings = [known.get(canonical(value), default) for value in values]
        for k, value in enumerate(values):
            if canonical(value) not in known:
                hint = nearest(value, [name for name in known if name])
                self.problem(
                    f"'{column}' is '{value}', which is no {noun}{_others(int(count[k]))}",
                    row=int(np.argmax(places == k)),
                    task=task,
                    remedy=f"{hint}. {remedy}".replace("?.", "?"),
                )
        result = np.array(meanings, dtype=object if isinstance(default, str) else None)
        return np.asarray(result[places])

    def _has(self, column: str, key: str) -> bool:
        if column in self._table.columns and column != FOLDER:
            return True
        if column not in self.missing:
            self.missing.add(column)
            message = f"{key} names the column '{column}', which no table has"
            if not set("*?[").isdisjoint(column):
                message = f"{key}: no column of the tables matches '{column}'"
            self.problem(message, remedy=nearest(column, self._known()))
        return False

    def _known(self) -> list[str]:
        return [name for name in self._table.columns if name != FOLDER]


def _others(count: int) -> str:
    return f" (so have {count - 1} other studies)" if count > 1 else ""
