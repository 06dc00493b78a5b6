"""Columns of a table as numbers for a network, with the statistics of the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.config import TabularConfig
from mailnet.data.values import canonical
from mailnet.errors import DataError

CLIP = 10.0
MAX_CATEGORIES = 200


@dataclass(frozen=True)
class NumericState:
    """Statistics of a numeric column in training; ``flag`` says that a column of its own marks missing values."""

    name: str
    mean: float
    std: float
    median: float
    flag: bool
    required: bool


@dataclass(frozen=True)
class CategoricalState:
    """Values of a categorical column that training has seen."""

    name: str
    values: tuple[str, ...]
    required: bool


@dataclass(frozen=True)
class TableState:
    """Turns columns into (N, F) features; fitted on training rows, holds no row of them.

    Args:
        modality: Name, for messages.
        numeric: One state a numeric column.
        categorical: One state a categorical column.
    """

    modality: str
    numeric: tuple[NumericState, ...]
    categorical: tuple[CategoricalState, ...]

    @classmethod
    def fit(cls, modality: str, config: TabularConfig, rows: pd.DataFrame) -> TableState:
        """Learn the statistics of training rows, whose columns carry the names of the config.

        Raises:
            DataError: A numeric column has no value, or a categorical one so many that it looks like an identifier.
        """
        numeric = [_fit_numeric(modality, name, rows[name], name in config.required) for name in config.numeric]
        categorical = [
            _fit_categorical(modality, name, rows[name], name in config.required) for name in config.categorical
        ]
        return cls(modality, tuple(numeric), tuple(categorical))

    @property
    def columns(self) -> list[str]:
        """The columns that ``transform`` needs."""
        return [column.name for column in self.numeric] + [column.name for column in self.categorical]

    @property
    def features(self) -> list[str]:
        """Names of the F features."""
        names = []
        for number in self.numeric:
            names += [number.name, f"{number.name} missing"] if number.flag else [number.name]
        for category in self.categorical:
            names += [f"{category.name}={value}" for value in (*category.values, "unknown")]
        return names

    def transform(self, rows: pd.DataFrame, ids: Sequence[str] | None = None) -> np.ndarray:
        """Return (N, F) float32: scaled numbers (the median where missing), missing flags, one column a category.

        Args:
            rows: The columns of ``columns``; numbers or text, empty or NaN where missing.
            ids: Identifiers of the rows, for messages.

        Raises:
            DataError: A column is absent, a number is no number, or a required value is missing.
        """
        parts: list[np.ndarray] = []
        for number in self.numeric:
            values = self._numbers(rows, number.name, ids)
            missing = np.isnan(values)
            self._refuse_missing(missing & number.required, number.name, ids)
            scaled = (np.where(missing, number.median, values) - number.mean) / number.std
            parts += [scaled.clip(-CLIP, CLIP), missing] if number.flag else [scaled.clip(-CLIP, CLIP)]
        for category in self.categorical:
            texts = [canonical(value) for value in self._column(rows, category.name)]
            self._refuse_missing(np.array([not text for text in texts]) & category.required, category.name, ids)
            place = {value: k for k, value in enumerate(category.values)}
            one_hot = np.zeros((len(rows), len(category.values) + 1))
            one_hot[np.arange(len(rows)), [place.get(text, len(place)) for text in texts]] = 1
            parts += list(one_hot.T)
        return np.stack(parts, axis=1).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "modality": self.modality,
            "numeric": [asdict(column) for column in self.numeric],
            "categorical": [{**asdict(column), "values": list(column.values)} for column in self.categorical],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableState:
        """Return what ``to_dict`` gave."""
        return cls(
            values["modality"],
            tuple(NumericState(**column) for column in values["numeric"]),
            tuple(
                CategoricalState(**{**column, "values": tuple(column["values"])}) for column in values["categorical"]
            ),
        )

    def _column(self, rows: pd.DataFrame, name: str) -> list[Any]:
        if name not in rows.columns:
            raise DataError(f"the column '{name}' is absent", modality=self.modality, remedy=f"Needed: {self.columns}")
        return list(rows[name])

    def _numbers(self, rows: pd.DataFrame, name: str, ids: Sequence[str] | None) -> np.ndarray:
        values = np.full(len(rows), np.nan)
        for row, cell in enumerate(self._column(rows, name)):
            if cell is None or cell == "":
                continue
            try:
                values[row] = float(cell)
            except (TypeError, ValueError):
                values[row] = np.inf
            if np.isinf(values[row]):
                raise DataError(
                    f"'{name}' is '{cell}', not a number",
                    study=None if ids is None else ids[row],
                    modality=self.modality,
                    remedy="Give a number, or nothing where there is none",
                )
        return values

    def _refuse_missing(self, missing: np.ndarray, name: str, ids: Sequence[str] | None) -> None:
        if missing.any():
            raise DataError(
                f"'{name}' is required and has no value",
                study=None if ids is None else ids[int(missing.argmax())],
                modality=self.modality,
                remedy="Fill the cell",
            )


def _fit_numeric(modality: str, name: str, column: pd.Series[Any], required: bool) -> NumericState:
    values = column.to_numpy(dtype=np.float64)
    seen = values[~np.isnan(values)]
    if len(seen) == 0:
        raise DataError(
            f"'{name}' has no value in any training study", modality=modality, remedy="Remove it from 'numeric'"
        )
    std = float(seen.std())
    flag = not required and len(seen) < len(values)
    return NumericState(name, float(seen.mean()), std or 1.0, float(np.median(seen)), flag, required)


def _fit_categorical(modality: str, name: str, column: pd.Series[Any], required: bool) -> CategoricalState:
    values = sorted({canonical(value) for value in column} - {""})
    # The values are stored in every bundle, where identifiers of patients must never stand.
    if len(values) > MAX_CATEGORIES:
        raise DataError(
            f"'{name}' has {len(values)} values, more than {MAX_CATEGORIES}",
            modality=modality,
            remedy="Remove it from 'categorical': an identifier or free text is no category",
        )
    return CategoricalState(name, tuple(values), required)
