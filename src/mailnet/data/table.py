"""Columns of a table as numbers for a network, with the statistics of the training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.columns import distinct
from mailnet.data.config import TabularConfig
from mailnet.data.numeric import NumericState, quoted
from mailnet.data.values import canonical, expand_columns, nearest
from mailnet.errors import DataError

MAX_CATEGORIES = 200


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
        numeric: State of the numeric columns.
        categorical: One state a categorical column.
    """

    modality: str
    numeric: NumericState
    categorical: tuple[CategoricalState, ...]

    @classmethod
    def fit(cls, modality: str, config: TabularConfig, rows: pd.DataFrame) -> TableState:
        """Learn the statistics of training rows, whose columns carry the names that the config means.

        Patterns stand for all matching columns; of these, columns that say nothing in training (no value, or everywhere
        the same) are left out. A column that is named outright stays.

        Raises:
            DataError: A column that is named is absent or has no value, a value is no number or negative where ``log``
                is asked, nothing is left, or a categorical column has so many values that it looks like an identifier.
        """
        known = set(rows.columns)
        absent = [n for n in expand_columns([*config.numeric, *config.categorical], rows.columns) if n not in known]
        if absent:
            raise DataError(
                f"no column is {quoted(absent)}", modality=modality, remedy=nearest(absent[0], rows.columns)
            )
        required = set(expand_columns(config.required, rows.columns))
        numeric = NumericState.fit(modality, config, rows, required)
        named = set(config.categorical)
        categorical = [
            _fit_categorical(modality, name, rows[name], name in required)
            for name in expand_columns(config.categorical, rows.columns)
            if name in named or _says_something(rows[name])
        ]
        if not numeric.names and not categorical:
            raise DataError(
                "no column has different values in the training studies",
                modality=modality,
                remedy="Look at the patterns in 'numeric' and 'categorical', and at the table",
            )
        return cls(modality, numeric, tuple(categorical))

    @property
    def columns(self) -> list[str]:
        """The columns that ``transform`` needs."""
        return [*self.numeric.names, *(column.name for column in self.categorical)]

    @property
    def features(self) -> list[str]:
        """Names of the F features."""
        names = self.numeric.features
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
        absent = pd.Index(self.columns).difference(rows.columns, sort=False)
        if len(absent):
            message = f"the column '{absent[0]}' is absent" if len(absent) == 1 else f"{len(absent)} columns are absent"
            remedy = f"Needed: {quoted(self.columns if len(absent) == 1 else absent)}"
            raise DataError(message, modality=self.modality, remedy=remedy)
        parts = [self.numeric.transform(self.modality, rows, ids)]
        for category in self.categorical:
            places, texts = _canonical(rows[category.name])
            empty = np.array([text == "" for text in texts], dtype=bool)[places]
            if category.required and empty.any():
                raise DataError(
                    f"'{category.name}' is required and has no value",
                    study=None if ids is None else ids[int(empty.argmax())],
                    modality=self.modality,
                    remedy="Fill the cell",
                )
            place = {value: k for k, value in enumerate(category.values)}
            one_hot = np.zeros((len(rows), len(place) + 1), np.float32)
            own = np.array([place.get(text, len(place)) for text in texts], dtype=np.int64)
            one_hot[np.arange(len(rows)), own[places]] = 1
            parts.append(one_hot)
        return np.concatenate(parts, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "modality": self.modality,
            "numeric": self.numeric.to_dict(),
            "categorical": [{**asdict(column), "values": list(column.values)} for column in self.categorical],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableState:
        """Return what ``to_dict`` gave, in this version or an earlier one."""
        return cls(
            values["modality"],
            NumericState.from_dict(values["numeric"]),
            tuple(
                CategoricalState(**{**column, "values": tuple(column["values"])}) for column in values["categorical"]
            ),
        )


def _canonical(column: pd.Series[Any]) -> tuple[np.ndarray, list[str]]:
    """Return of each cell the place of what it is compared by among the texts that follow."""
    if isinstance(column.dtype, pd.StringDtype):
        places, values = distinct(column)
        return places, [*map(canonical, values), ""]  # an absent cell has place -1
    # By value: to pandas, True and 1 would be one.
    known: dict[str, int] = {}
    return np.array([known.setdefault(canonical(value), len(known)) for value in column], np.int64), list(known)


def _says_something(column: pd.Series[Any]) -> bool:
    places, texts = _canonical(column)
    values = {texts[place] for place in np.unique(places).tolist()}
    return len(values) > 1 and values != {""}


def _fit_categorical(modality: str, name: str, column: pd.Series[Any], required: bool) -> CategoricalState:
    values = sorted(set(_canonical(column)[1]) - {""})
    # The values are stored in every bundle, where identifiers of patients must never stand.
    if len(values) > MAX_CATEGORIES:
        raise DataError(
            f"'{name}' has {len(values)} values, more than {MAX_CATEGORIES}",
            modality=modality,
            remedy="Remove it from 'categorical': an identifier or free text is no category",
        )
    return CategoricalState(name, tuple(values), required)
