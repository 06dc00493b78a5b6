"""The tables of a manifest as one table: read, filtered, pivoted, renamed, built, joined."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.columns import TEXT, as_text, canonical_column, is_number, matches, meets, text_of, tidy
from mailnet.data.config import Build, Join, ManifestSource, Pivot, StudyConfig
from mailnet.data.locations import Locator, folder_of, split_location
from mailnet.data.remedies import where_filled
from mailnet.data.tables import read_table
from mailnet.data.values import nearest
from mailnet.errors import DataError

FOLDER = "\0folder"


def read_sources(config: StudyConfig) -> pd.DataFrame:
    """Return every row of every source: columns of text, empty where absent, or of numbers.

    The column ``FOLDER``, a categorical, holds what the paths of a row are relative to.

    Raises:
        DataError: There is no table, it cannot be read, or a key of the source does not fit it.
    """
    if not config.manifest:
        raise DataError("names no table of studies", remedy="Name one in 'manifest', or give the studies in memory")
    tables = [read_source(source, Locator(config.root)) for source in config.manifest]
    if len(tables) == 1:
        return tables[0]
    folders = pd.api.types.union_categoricals([table.pop(FOLDER) for table in tables])
    tables = [_of_equal_kinds(table, tables) for table in tables]
    together = pd.concat(tables, ignore_index=True)
    return _with_folder(_filled(together), folders)


def rows_of(table: pd.DataFrame, folder: str) -> pd.DataFrame:
    """Return the rows of a table in memory as ``read_sources`` does; its paths are relative to ``folder``."""
    plain = table.reset_index(drop=True)
    cells = pd.DataFrame({str(column): tidy(plain[column]) for column in plain}, index=plain.index)
    return _with_folder(cells, _same(folder, len(cells)))


def read_source(source: ManifestSource, locator: Locator) -> pd.DataFrame:
    """Return one source's rows as ``read_sources`` does."""
    location = _located(source.table, locator)
    frame = _without(read_table(location), source.missing)
    for column, condition in source.where.items():
        _require(frame, [column], source, "where")
        frame = frame[meets(frame[column], condition)]
    frame = frame.reset_index(drop=True)
    if frame.empty:
        remedy = "Correct 'where'" if source.where else "Add a row a study"
        raise DataError("no row is left of the table", file=source.table, remedy=remedy)
    if source.pivot is not None:
        _require(frame, [source.pivot.index, source.pivot.columns], source, "pivot")
        frame = _pivot(frame, source.pivot, source.table)
    if source.columns:
        _require(frame, source.columns.values(), source, "columns")
        frame = pd.DataFrame({new: frame[old] for new, old in source.columns.items()})
    for name, build in source.build.items():
        frame = frame.assign(**{name: _built(frame, name, build, source)})
    for join in source.join:
        frame = _joined(frame, join, source, locator)
    return _with_folder(frame, _same(folder_of(location), len(frame)))


def _located(table: str, locator: Locator) -> str:
    location = locator.locate(table)
    file = split_location(location)[0]
    if os.path.isdir(file):
        raise DataError(
            "is a folder, no table", file=location, remedy="Give a table with a row a study, whose cells name its files"
        )
    if not os.path.isfile(file):
        raise DataError(
            "the table does not exist",
            file=location,
            remedy="Correct the path, or name the folder of the data with --data-root",
        )
    return location


def _without(frame: pd.DataFrame, missing: list[str | int | float | bool]) -> pd.DataFrame:
    """Return the table with the cells emptied that say that something is missing."""
    if not missing:
        return frame
    emptied = {}
    for name in frame.columns:
        column, absent = frame[name], matches(frame[name], missing)
        emptied[name] = column if not absent.any() else column.mask(absent, np.nan if is_number(column) else "")
    return pd.DataFrame(emptied, index=frame.index)


def _pivot(frame: pd.DataFrame, pivot: Pivot, table: str) -> pd.DataFrame:
    index, columns = as_text(frame[pivot.index]), as_text(frame[pivot.columns])
    frame = frame.assign(**{pivot.index: index, pivot.columns: columns})
    if empty := int(((index == "") | (columns == "")).sum()):
        remedy = f"Fill the cells, or leave the rows out with {where_filled(pivot.index, pivot.columns)}"
        message = f"pivot: {empty} rows have no '{pivot.index}' or no '{pivot.columns}'"
        raise DataError(message, file=table, remedy=remedy)
    twice = frame[frame.duplicated([pivot.index, pivot.columns])]
    if len(twice):
        raise DataError(
            f"pivot: two rows have {pivot.columns} '{twice[pivot.columns].iloc[0]}'",
            study=str(twice[pivot.index].iloc[0]),
            file=table,
            remedy="Leave one out with 'where' or choose another 'columns'",
        )
    order = index.drop_duplicates()
    result = {pivot.index: order.reset_index(drop=True)}
    views = {value: np.flatnonzero(columns == value) for value in sorted(columns.unique())}
    places = {value: pd.Index(index.iloc[rows]).get_indexer(order) for value, rows in views.items()}
    for column in frame.columns.difference([pivot.index, pivot.columns], sort=False):
        cells = as_text(frame[column])
        filled = pd.DataFrame({"index": index, "cell": cells})[cells != ""].drop_duplicates()
        if not filled["index"].duplicated().any():
            result[column] = _picked(filled["cell"], pd.Index(filled["index"]).get_indexer(order))
        for value, rows in views.items():
            result[f"{column}.{value}"] = _picked(cells.iloc[rows], places[value])
    return pd.DataFrame(result)


def _picked(column: pd.Series[Any], places: np.ndarray) -> pd.Series[Any]:
    """Return the cells at these places, empty where a place is -1."""
    found = column.reset_index(drop=True).reindex(places).reset_index(drop=True)
    return found if is_number(column) else found.fillna("")


def _built(frame: pd.DataFrame, name: str, build: Build, source: ManifestSource) -> pd.Series[Any]:
    if name in frame.columns:
        raise DataError(f"'build' makes the column '{name}', which there is", file=source.table, remedy="Rename it")
    parts = build.parts
    _require(frame, [*parts[1::2], *build.unless], source, "build")
    text = text_of([parts[0]] * len(frame))
    empty = np.zeros(len(frame), dtype=bool)
    for column, literal in zip(parts[1::2], parts[2::2], strict=True):
        cells = as_text(frame[column])
        empty |= (cells == "").to_numpy()
        text = text + cells + literal
    for column, condition in build.unless.items():
        empty |= meets(frame[column], condition)
    return text.mask(empty, "")


def _joined(frame: pd.DataFrame, join: Join, source: ManifestSource, locator: Locator) -> pd.DataFrame:
    other = _without(read_table(_located(join.table, locator)), source.missing)
    _require(frame, [join.on], source, "join.on")
    key = join.key or join.on
    if join.transpose:
        keys, other = _transposed(other, join.table)
    else:
        if key not in other.columns:
            raise DataError(
                f"'join' names the column '{key}', which the table does not have",
                file=join.table,
                remedy=nearest(key, other.columns),
            )
        keys = as_text(other.pop(key))
    plain = canonical_column(keys)
    twice = keys[plain.duplicated() & (plain != "")]
    if len(twice):
        message = f"has {len(twice.unique())} keys more than once, '{twice.iloc[0]}' among them"
        raise DataError(message, file=join.table, remedy=f"Keep one row for each '{key}'")
    other.columns = pd.Index([f"{join.prefix}{name}" for name in other.columns])
    both = other.columns.intersection(frame.columns)
    if len(both):
        raise DataError(
            f"'{source.table}' and '{join.table}' both have the column '{both[0]}'",
            remedy="Begin the names of the second with 'prefix', or choose columns of the first with 'columns'",
        )
    own = canonical_column(frame[join.on])
    places = np.where(own == "", -1, pd.Index(plain).get_indexer(own) if plain.is_unique else _first(plain, own))
    if (places < 0).all():
        raise DataError(
            f"no '{join.on}' of '{source.table}', such as '{own.iloc[0]}', is a key of '{join.table}', such as "
            f"'{keys.iloc[0] if len(keys) else ''}'",
            remedy="Name the columns that hold the same identifiers in 'on' and 'key'",
        )
    added = other.reindex(places)
    added.index = frame.index
    joined = pd.concat([frame, added], axis=1)
    return _filled(joined) if (places < 0).any() else joined


def _first(keys: pd.Series[Any], wanted: pd.Series[Any]) -> np.ndarray:
    """Return the place of each wanted key; only empty keys may come more than once."""
    given = np.flatnonzero(keys != "")
    found = pd.Index(keys.iloc[given]).get_indexer(wanted)
    return np.where(found < 0, -1, given[found])


def _transposed(table: pd.DataFrame, name: str) -> tuple[pd.Series[Any], pd.DataFrame]:
    """Return keys and columns of a table with a column a row and a row a column."""
    names = as_text(table.iloc[:, 0])
    twice = names[names.duplicated()]
    if len(twice) or (names == "").any():
        message = f"names '{twice.iloc[0]}' twice in its first column" if len(twice) else "has rows without a name"
        raise DataError(message, file=name, remedy="Name every row in the first column, as they become columns")
    cells = table.iloc[:, 1:]
    keys = text_of(cells.columns)
    if all(is_number(cells[column]) for column in cells):
        return keys, pd.DataFrame(cells.to_numpy(np.float64, na_value=np.nan).T, columns=names.tolist())
    # One column after another, then taken row by row, without an object a cell.
    whole = pd.concat([as_text(cells[column]) for column in cells], ignore_index=True).array
    turned = whole.take(np.arange(len(whole)).reshape(-1, len(cells)).T.ravel())
    width = len(cells.columns)
    rows = {row: turned[k * width : (k + 1) * width] for k, row in enumerate(names)}
    return keys, pd.DataFrame(rows)


def _of_equal_kinds(table: pd.DataFrame, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return a table with the columns as text that another table has as text."""
    text = {name for other in tables for name in other.columns if other[name].dtype == TEXT}
    turned = {name: as_text(table[name]) for name in table.columns if name in text and is_number(table[name])}
    return table.assign(**turned)


def _filled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose absent cells of text are empty."""
    holes = {name: column.fillna("") for name, column in frame.items() if column.dtype == TEXT and column.hasnans}
    return frame if not holes else pd.DataFrame({name: holes.get(name, frame[name]) for name in frame.columns})


def _same(folder: str, count: int) -> pd.Categorical[Any]:
    return pd.Categorical.from_codes(np.zeros(count, dtype=np.int8), categories=pd.Index([folder]))


def _with_folder(frame: pd.DataFrame, folders: pd.Categorical[Any]) -> pd.DataFrame:
    return frame.assign(**{FOLDER: folders})


def _require(frame: pd.DataFrame, columns: Iterable[str], source: ManifestSource, key: str) -> None:
    for column in columns:
        if column not in frame.columns:
            raise DataError(
                f"'{key}' names the column '{column}', which the table does not have",
                file=source.table,
                remedy=nearest(column, frame.columns),
            )
