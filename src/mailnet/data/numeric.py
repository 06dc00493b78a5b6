"""Numeric columns of a table, from a few to tens of thousands, as scaled features."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.config import TabularConfig
from mailnet.data.values import expand_columns
from mailnet.errors import DataError

CLIP = 10.0
LISTED = 10


@dataclass(frozen=True)
class NumericState:
    """Statistics of n numeric columns in training, all after the logarithm where there is one.

    Args:
        names: The columns.
        mean: n means.
        std: n standard deviations, 1 where a column does not vary.
        median: n medians, which stand for missing values.
        flag: Of each column the feature that says that its value is missing, empty for none. A column that is named
            outright has its own; the columns of a pattern share one, the share of them that is missing, so that
            thousands of columns do not become twice as many.
        required: Of each column whether its value may not be missing.
        log: Whether log(1 + x) is taken first.
    """

    names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    median: tuple[float, ...] = ()
    flag: tuple[str, ...] = ()
    required: tuple[bool, ...] = ()
    log: bool = False

    @classmethod
    def fit(cls, modality: str, config: TabularConfig, rows: pd.DataFrame, required: Collection[str]) -> NumericState:
        """Learn the statistics of training rows; arguments and errors as ``TableState.fit`` has them."""
        owner = _owners(config.numeric, rows.columns)
        names = list(owner)
        values = _read(rows, names, config.log, modality, None)
        seen = ~np.isnan(values)
        count = seen.sum(axis=0)
        named = np.array([owner[name] == name for name in names], dtype=bool)
        if (named & (count == 0)).any():
            empty = [names[k] for k in np.flatnonzero(named & (count == 0))]
            raise DataError(
                f"{quoted(empty)} {'has' if len(empty) == 1 else 'have'} no value in any training study",
                modality=modality,
                remedy="Remove it from 'numeric'",
            )
        mean = np.where(seen, values, 0).sum(axis=0) / count.clip(min=1)
        variance = np.square(np.where(seen, values - mean, 0)).sum(axis=0) / count.clip(min=1)
        # By the extremes: the variance of equal values is not always 0 in floating point.
        varies = np.where(seen, values, -np.inf).max(axis=0, initial=-np.inf) > np.where(seen, values, np.inf).min(
            axis=0, initial=np.inf
        )
        kept = np.flatnonzero(named | varies)
        if config.keep is not None:
            kept = np.sort(kept[np.argsort(-np.where(varies, variance, 0)[kept], kind="stable")[: config.keep]])
        must = np.array([name in required for name in names], dtype=bool)
        flagged = {owner[names[k]] for k in kept if count[k] < len(values) and not must[k]}
        return cls(
            names=tuple(names[k] for k in kept),
            mean=tuple(mean[kept].tolist()),
            std=tuple(np.where(varies, np.sqrt(variance), 1.0)[kept].tolist()),
            median=tuple(_medians(values[:, kept], count[kept]).tolist()),
            flag=tuple(
                f"{owner[names[k]]} missing" if owner[names[k]] in flagged and not must[k] else "" for k in kept
            ),
            required=tuple(must[kept].tolist()),
            log=config.log,
        )

    @property
    def features(self) -> list[str]:
        """Names of the features: each column, and each flag after the last column that it is of."""
        return [flag or self.names[k] for k, flag in self._layout()]

    def transform(self, modality: str, rows: pd.DataFrame, ids: Sequence[str] | None) -> np.ndarray:
        """Return (N, features) float32; arguments and errors as ``TableState.transform`` has them."""
        values = _read(rows, self.names, self.log, modality, ids)
        missing = np.isnan(values)
        refused = missing & np.array(self.required, dtype=bool)
        if refused.any():
            row, column = np.argwhere(refused)[0]
            raise DataError(
                f"'{self.names[column]}' is required and has no value",
                study=None if ids is None else ids[row],
                modality=modality,
                remedy="Fill the cell",
            )
        values = np.where(missing, np.array(self.median), values)
        scaled = ((values - np.array(self.mean)) / np.array(self.std)).clip(-CLIP, CLIP)
        layout = self._layout()
        features = np.empty((len(rows), len(layout)), np.float32)
        features[:, [place for place, (_, flag) in enumerate(layout) if not flag]] = scaled
        members: dict[str, list[int]] = {}
        for k, flag in enumerate(self.flag):
            members.setdefault(flag, []).append(k)
        for place, (_, flag) in enumerate(layout):
            if flag:
                features[:, place] = missing[:, members[flag]].mean(axis=1)
        return features

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> NumericState:
        """Return what ``to_dict`` gave, or what a bundle of the first kind holds: a dict a column."""
        columns: dict[str, Any]
        if isinstance(values, Mapping):
            columns = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
            return cls(**columns)
        columns = {key: tuple(column[key] for column in values) for key in ("mean", "std", "median", "required")}
        flag = tuple(f"{column['name']} missing" if column["flag"] else "" for column in values)
        return cls(tuple(column["name"] for column in values), flag=flag, **columns)

    def _layout(self) -> list[tuple[int, str]]:
        """Return the features in order, each a column and no flag, or a flag and the last column that it is of."""
        last = {flag: k for k, flag in enumerate(self.flag)}
        layout = []
        for k, flag in enumerate(self.flag):
            layout += [(k, ""), (k, flag)] if flag and last[flag] == k else [(k, "")]
        return layout


def quoted(names: Iterable[str]) -> str:
    """Return names for a message, the first ten where there are many.

    >>> quoted(["a", "b"])
    "'a', 'b'"
    """
    several = list(names)
    text = ", ".join(f"'{name}'" for name in several[:LISTED])
    return f"{text} and {len(several) - LISTED} more" if len(several) > LISTED else text


def _owners(patterns: Sequence[str], columns: Iterable[str]) -> dict[str, str]:
    """Return column -> the entry that it comes from, itself where it is named outright."""
    known = list(columns)
    named = set(patterns) & set(known)
    owner = {name: name if name in named else "" for name in expand_columns(patterns, known)}
    for pattern in patterns:
        if pattern not in named:
            for name in expand_columns([pattern], known):
                owner[name] = owner[name] or pattern
    return owner


def _read(rows: pd.DataFrame, names: Sequence[str], log: bool, modality: str, ids: Sequence[str] | None) -> np.ndarray:
    """Return (N, n) float64, NaN where missing; of numbers or text."""
    cells = rows[list(names)].to_numpy()
    if cells.dtype.kind in "fiub":
        values = cells.astype(np.float64)
    else:
        given = ~(pd.isna(cells) | (cells == ""))
        values = np.full(cells.shape, np.nan)
        try:
            values[given] = cells[given].astype(np.float64)
        except (TypeError, ValueError):
            values[given] = [_number(cell) for cell in cells[given]]
    for wrong, what, remedy in (
        (np.isinf(values), "not a number", "Give a number, or nothing where there is none"),
        (
            values < 0 if log else np.zeros(0, bool),
            "negative",
            "'log: true' takes log(1 + x) of counts: set it to false",
        ),
    ):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise DataError(
                f"'{names[column]}' is '{cells[row, column]}', {what}",
                study=None if ids is None else ids[row],
                modality=modality,
                remedy=remedy,
            )
    return np.log1p(values) if log else values


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return np.inf


def _medians(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the median of each column of (N, n), of ``count`` values that are not NaN."""
    if not values.size:
        return np.zeros(values.shape[1])
    ordered = np.sort(np.ascontiguousarray(values.T), axis=1)  # NaN come last
    middle = np.stack([(count - 1) // 2, count // 2], axis=1)
    return np.asarray(np.take_along_axis(ordered, middle, 1).mean(axis=1))
