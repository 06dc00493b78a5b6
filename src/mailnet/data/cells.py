"""The cells of a study's tables, by column, and what is found wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import pandas as pd

from mailnet.data.sources import FOLDER
from mailnet.data.values import canonical, nearest
from mailnet.errors import DataError, MailnetError

V = TypeVar("V")


class Cells:
    """Text cells of N rows; reading goes on after a problem, so that all are found in one pass.

    Args:
        table: What ``read_sources`` gives.

    Attributes:
        ids: Identifier of every row, for messages.
        problems: What was found so far.
        missing: Columns that were asked for and do not exist.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table
        self.folders = [str(folder) for folder in table[FOLDER]]
        self.ids = [f"row {number}" for number in range(1, len(table) + 1)]
        self.problems: list[MailnetError] = []
        self.missing: set[str] = set()

    def __len__(self) -> int:
        return len(self._table)

    def column(self, column: str, key: str) -> list[str]:
        """Return the cells of a column; all empty, and a problem, where there is no such column.

        Args:
            column: Name in the tables.
            key: The place in study.yaml that names it.
        """
        if column in self._table.columns and column != FOLDER:
            return [str(cell) for cell in self._table[column]]
        if column not in self.missing:
            self.missing.add(column)
            known = [name for name in self._table.columns if name != FOLDER]
            self.problem(f"{key} names the column '{column}', which no table has", remedy=nearest(column, known))
        return [""] * len(self)

    def problem(self, message: str, *, remedy: str, row: int | None = None, **where: str | None) -> None:
        """Note a problem, of a row or of all; ``where`` is ``modality``, ``task`` or ``file``."""
        study = None if row is None else self.ids[row]
        self.problems.append(DataError(message, remedy=remedy, study=study, **where))

    def translate(
        self,
        cells: Sequence[str],
        known: Mapping[str, V],
        default: V,
        *,
        column: str,
        noun: str,
        remedy: str,
        task: str | None = None,
    ) -> list[V]:
        """Return what every cell means; one problem for each unknown value, however many cells have it.

        Args:
            cells: Of every row.
            known: Canonical value -> meaning.
            default: Meaning of an unknown value.
            column: Name of the column, for messages.
            noun: What an unknown value is not: "class".
            remedy: Follows the nearest known value.
            task: Name of the task, for messages.
        """
        rows: dict[str, list[int]] = {}
        for row, cell in enumerate(cells):
            rows.setdefault(cell, []).append(row)
        result = [default] * len(cells)
        for cell, several in rows.items():
            value = canonical(cell)
            if value not in known:
                also = f" (so have {len(several) - 1} other studies)" if len(several) > 1 else ""
                hint = nearest(cell, [name for name in known if name])
                message = f"'{column}' is '{cell}', which is no {noun}{also}"
                self.problem(message, row=several[0], task=task, remedy=f"{hint}. {remedy}".replace("?.", "?"))
                continue
            for row in several:
                result[row] = known[value]
        return result
