"""Columns of tables as pandas holds them frugally: text in Arrow's memory, or numbers; never an object a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mailnet.data.config import Condition
from mailnet.data.values import canonical, cell_text, is_no_number

# The type that pandas 3 gives to text by itself; an absent cell is NaN.
TEXT = pd.StringDtype("pyarrow", na_value=np.nan)


def text_of(values: Iterable[Any]) -> pd.Series[Any]:
    """Return a column of text."""
    return pd.Series(values if isinstance(values, pd.Series) else list(values), dtype=TEXT)


def is_number(column: pd.Series[Any]) -> bool:
    """Return whether a column holds numbers rather than text."""
    return bool(column.dtype.kind in "iuf")


def tidy(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return any column of a table as numbers, if it has such a type, or as text without spaces around it."""
    if is_number(column):
        return column
    if not isinstance(column.dtype, pd.StringDtype):
        # By value: to pandas, True and 1 would be one.
        column = pd.Series([cell_text(value) for value in column.astype(object)], dtype=TEXT, index=column.index)
    return column.astype(TEXT).fillna("").str.strip()


def as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a tidy column as text, empty where absent."""
    if is_number(column):
        return recode(column, cell_text)
    return column.fillna("") if column.hasnans else column


def in_one_piece(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose text lies in one piece a column.

    Tables are read in pieces, and Arrow joins all of them whenever some rows are taken, so that batch after batch an
    epoch would take the square of its rows.
    """
    whole: dict[str, Any] = {}
    joined: dict[int, tuple[Any, Any]] = {}  # of columns that share their memory, which they go on sharing
    for name, column in frame.items():
        if column.dtype == TEXT:
            held = pa.array(column.array)
            if isinstance(held, pa.ChunkedArray) and held.num_chunks > 1:
                if id(held) not in joined:
                    joined[id(held)] = held, pd.array(held.combine_chunks(), dtype=TEXT)
                whole[str(name)] = pd.Series(joined[id(held)][1], index=frame.index)
    return frame.assign(**whole)


def distinct(column: pd.Series[Any]) -> tuple[np.ndarray, list[Any]]:
    """Return of each cell the place of its value among the distinct ones, -1 where absent, and these as they come."""
    places, values = pd.factorize(column)
    return np.asarray(places), values.tolist()


def translated(column: pd.Series[Any], function: Callable[[Any], Any], kind: Any) -> np.ndarray:
    """Return ``function`` of every cell as an array, having called it once for each distinct value.

    Args:
        column: Without absent cells.
        function: Takes a value.
        kind: numpy's type of the result.
    """
    places, values = distinct(column)
    meanings = np.array([function(value) for value in values], dtype=kind)
    return np.asarray(meanings[places])


def recode(column: pd.Series[Any], function: Callable[[Any], str]) -> pd.Series[Any]:
    """Return ``function`` of every cell as text, empty where absent, having called it once for each distinct value."""
    places, values = distinct(column)
    texts = pd.array([*(function(value) for value in values), ""], dtype=TEXT)
    return pd.Series(texts.take(places), index=column.index)


def canonical_column(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return the text by which cells are compared, see ``values.canonical``."""
    return recode(as_text(column), canonical)


def matches(column: pd.Series[Any], values: Iterable[Any]) -> np.ndarray:
    """Return (N,) bool: the cell is one of the values, as people read them."""
    wanted = {canonical(value) for value in values}
    return translated(as_text(column), lambda text: canonical(text) in wanted, bool)


def meets(column: pd.Series[Any], condition: Condition) -> np.ndarray:
    """Return (N,) bool: the cell is (one of) the values, or with ``{not: ...}`` none of them."""
    if isinstance(condition, dict):
        return ~meets(column, condition["not"])
    return matches(column, condition if isinstance(condition, list) else [condition])


def numbers(column: pd.Series[Any]) -> np.ndarray:
    """Return (N,) float64: NaN where absent, infinite where a cell is no finite number."""
    if is_number(column):
        return np.array(column.to_numpy(np.float64, na_value=np.nan))
    try:
        return np.array(pc.cast(pa.array(column.array), pa.float64()), dtype=np.float64)
    except pa.ArrowInvalid:
        return translated(as_text(column), _number, np.float64)


def _number(text: str) -> float:
    if is_no_number(text):
        return np.nan
    try:
        return float(text)
    except ValueError:
        return np.inf
