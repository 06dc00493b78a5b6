"""The tables of a manifest as one table of text: read, filtered, pivoted, renamed, joined."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd

from mailnet.data.archives import npz_arrays, read_bytes, read_npz
from mailnet.data.config import ManifestSource, StudyConfig
from mailnet.data.locations import Locator, folder_of, split_location
from mailnet.data.values import canonical, cell_text, nearest
from mailnet.errors import DataError

FOLDER = "\0folder"
MEDMNIST_SPLITS = ("train", "val", "test")


def read_sources(config: StudyConfig) -> pd.DataFrame:
    """Return every row of every source, each cell as text, empty where absent.

    The column ``FOLDER`` holds what the paths of a row are relative to.

    Raises:
        DataError: There is no table, it cannot be read, or ``where``, ``pivot`` or ``columns`` do not fit it.
    """
    if not config.manifest:
        raise DataError("names no table of studies", remedy="Name one in 'manifest', or give the studies in memory")
    tables = [read_source(source, Locator(config.root)) for source in config.manifest]
    return pd.concat(tables, ignore_index=True).fillna("").astype(object)


def rows_of(table: pd.DataFrame, folder: str) -> pd.DataFrame:
    """Return the rows of a table in memory as ``read_sources`` does; its paths are relative to ``folder``."""
    cells = {str(column): [cell_text(value) for value in table[column].astype(object)] for column in table}
    return pd.DataFrame(cells, dtype=object).assign(**{FOLDER: folder})


def read_source(source: ManifestSource, locator: Locator) -> pd.DataFrame:
    """Return one source's rows as ``read_sources`` does."""
    location = locator.locate(source.table)
    if not os.path.isfile(split_location(location)[0]):
        raise DataError(
            "the table of studies does not exist",
            file=location,
            remedy="Correct the path, or name the folder of the data with --data-root",
        )
    frame = read_table(location)
    if source.missing:
        frame = frame.mask(_isin(frame, source.missing), "")
    for column, values in source.where.items():
        _require(frame, [column], source, "where")
        frame = frame[_isin(frame[[column]], values if isinstance(values, list) else [values])[column]]
    if frame.empty:
        remedy = "Correct 'where'" if source.where else "Add a row a study"
        raise DataError("no row is left of the table", file=source.table, remedy=remedy)
    if source.pivot is not None:
        _require(frame, [source.pivot.index, source.pivot.columns], source, "pivot")
        frame = _pivot(frame, source.pivot.index, source.pivot.columns, source.table)
    if source.columns:
        _require(frame, source.columns.values(), source, "columns")
        frame = pd.DataFrame({new: frame[old] for new, old in source.columns.items()})
    return frame.assign(**{FOLDER: folder_of(location)})


def read_table(location: str) -> pd.DataFrame:
    """Return a CSV, Parquet or MedMNIST-style npz table with every cell as text.

    A CSV may be separated by commas, semicolons or tabs. An npz with arrays ``train_images`` and ``train_labels`` (and
    ``val_``, ``test_``) gives a row an image with the columns ``file``, ``split`` and ``label``, or ``label.0``,
    ``label.1``, ... where an image has several.

    Raises:
        DataError: It is missing or cannot be read as a table.
    """
    suffix = location.lower().rpartition(".")[2]
    if suffix == "npz":
        return _read_npz(location)
    content = read_bytes(location)
    if suffix in ("parquet", "pq"):
        try:
            frame = pd.read_parquet(io.BytesIO(content))
        except (OSError, ValueError) as error:
            raise DataError(f"is not a Parquet table ({error})", file=location, remedy="Restore it") from error
        return pd.DataFrame({str(c): [cell_text(v) for v in frame[c].astype(object)] for c in frame}, dtype=object)
    return _read_csv(content, location)


def _read_csv(content: bytes, location: str) -> pd.DataFrame:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text ({error.reason})", file=location, remedy="Save it as UTF-8 CSV") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"names columns twice: {', '.join(repeated)}", file=location, remedy="Rename them")
    try:
        # pandas only warns where it drops the last cells of a row, as after a comma in an unquoted name.
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text), sep=separator, header=0, names=header, dtype=str, keep_default_na=False,
                index_col=False,
            )  # fmt: skip
    except pd.errors.ParserWarning as error:
        raise DataError(
            f"has rows of more cells than the {len(header)} column names",
            file=location,
            remedy=f"Put cells that hold '{separator}' in quotes, or name the columns",
        ) from error
    except ValueError as error:
        raise DataError(
            f"is not a CSV table ({str(error).strip() or 'it is empty'})",
            file=location,
            remedy="Give it a line of column names and a row a study",
        ) from error
    frame = frame.fillna("").astype(object)
    return pd.DataFrame({name: [cell.strip() for cell in frame[name]] for name in frame}, dtype=object)


def _read_npz(path: str) -> pd.DataFrame:
    arrays = npz_arrays(path)
    parts = []
    for split in MEDMNIST_SPLITS:
        images, labels = f"{split}_images", f"{split}_labels"
        if images not in arrays:
            continue
        count = arrays[images][0][0]
        part = {"file": [f"{images}/{i}" for i in range(count)], "split": [split] * count}
        if labels in arrays:
            part |= _label_columns(read_npz(f"{path}!{labels}"), count, path, labels)
        parts.append(pd.DataFrame(part, dtype=object))
    if not parts:
        raise DataError(
            "has no array 'train_images', 'val_images' or 'test_images'",
            file=path,
            remedy=f"Write a CSV whose paths are FILE.npz!ARRAY/INDEX. {nearest('', arrays)}",
        )
    return pd.concat(parts, ignore_index=True).fillna("").astype(object)


def _label_columns(values: np.ndarray, count: int, path: str, name: str) -> dict[str, list[str]]:
    if len(values) != count:
        raise DataError(f"'{name}' has {len(values)} rows for {count} images", file=path, remedy="Restore the file")
    table = values.reshape(count, -1)
    names = ["label"] if table.shape[1] == 1 else [f"label.{k}" for k in range(table.shape[1])]
    return {column: [cell_text(value.item()) for value in table[:, k]] for k, column in enumerate(names)}


def _pivot(frame: pd.DataFrame, index: str, columns: str, table: str) -> pd.DataFrame:
    empty = frame[(frame[index] == "") | (frame[columns] == "")]
    if len(empty):
        remedy = "Fill the cells or leave the rows out with 'where'"
        raise DataError(f"pivot: {len(empty)} rows have no '{index}' or no '{columns}'", file=table, remedy=remedy)
    twice = frame[frame.duplicated([index, columns])]
    if len(twice):
        raise DataError(
            f"pivot: two rows have {columns} '{twice[columns].iloc[0]}'",
            study=str(twice[index].iloc[0]),
            file=table,
            remedy="Leave one out with 'where' or choose another 'columns'",
        )
    order = frame[index].drop_duplicates()
    result = {index: order.to_numpy()}
    for column in frame.columns.difference([index, columns], sort=False):
        filled = frame[frame[column] != ""]
        distinct = filled.drop_duplicates([index, column])
        if not distinct[index].duplicated().any():
            result[column] = order.map(distinct.set_index(index)[column]).to_numpy()
        for value in sorted(frame[columns].unique()):
            rows = frame[frame[columns] == value].set_index(index)[column]
            result[f"{column}.{value}"] = order.map(rows).to_numpy()
    return pd.DataFrame(result).fillna("").astype(object)


def _isin(frame: pd.DataFrame, values: Iterable[object]) -> pd.DataFrame:
    wanted = {canonical(value) for value in values}
    known: dict[str, bool] = {}

    def member(text: str) -> bool:
        if text not in known:
            known[text] = canonical(text) in wanted
        return known[text]

    return pd.DataFrame({name: frame[name].map(member).astype(bool) for name in frame})


def _require(frame: pd.DataFrame, columns: Iterable[str], source: ManifestSource, key: str) -> None:
    for column in columns:
        if column not in frame.columns:
            raise DataError(
                f"'{key}' names the column '{column}', which the table does not have",
                file=source.table,
                remedy=nearest(column, frame.columns),
            )
