"""Tables as files hold them: CSV, Parquet, Excel and MedMNIST-style npz, each as columns of text or numbers."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from mailnet.data.archives import MAX_BYTES, npz_arrays, read_bytes, read_npz
from mailnet.data.columns import TEXT, text_of
from mailnet.data.values import cell_text, nearest
from mailnet.errors import DataError

MEDMNIST_SPLITS = ("train", "val", "test")
# Of Excel files: bytes of XML, and rows.
MAX_SHEET = 2**28
MAX_ROWS = 2**20
_BLOCK = 2**24
_INDEX = re.compile(r"__index_level_\d+__")


def read_table(location: str) -> pd.DataFrame:
    """Return a table; its columns are text, empty where absent, or, where the file says so, numbers.

    A CSV may be separated by commas, semicolons or tabs, and packed with gzip. Of Excel (``.xlsx``) the first sheet is
    read. An npz with arrays ``train_images`` and ``train_labels`` (and ``val_``, ``test_``) gives a row an image with
    the columns ``file``, ``split`` and ``label``, or ``label.0``, ``label.1``, ... where an image has several.

    Raises:
        DataError: It is missing or cannot be read as a table.
    """
    name = location.lower()
    packed = name.endswith(".gz")
    suffix = name.removesuffix(".gz").rpartition(".")[2]
    if suffix == "npz":
        return _read_npz(location)
    content = read_bytes(location)
    if packed:
        content = _unpacked(content, location)
    readers: dict[str, Callable[[bytes, str], pd.DataFrame]] = {
        "parquet": _read_parquet,
        "pq": _read_parquet,
        "xlsx": _read_excel,
        "xls": _refuse_old_excel,
    }
    return readers.get(suffix, _read_csv)(content, location)


def _unpacked(content: bytes, location: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"is not a gzip file ({error})", file=location, remedy="Restore it") from error
    if len(unpacked) > MAX_BYTES:
        raise DataError("unpacks to more than 2 GiB", file=location, remedy="Divide it, or write it as Parquet")
    return unpacked


def _read_csv(content: bytes, location: str) -> pd.DataFrame:
    with _utf8(location):
        lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        first = lines.readline()
        separator = max(",;\t", key=first.count)
        lines.seek(0)
        rows = csv.reader(lines, delimiter=separator)
        header = [name.strip() for name in next(rows, [])]
    _refuse_repeated(header, location)
    remedy = "Give it a line of column names and a row a study"
    if not any(header):
        raise DataError("is not a CSV table (it is empty)", file=location, remedy=remedy)
    uneven: list[pyarrow.csv.InvalidRow] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        uneven.append(row)
        return "skip" if len(uneven) == 1 else "error"

    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            # In wide tables a block is all of it: pieces of thousands of columns are slow.
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK if len(header) < 100 else max(len(content), _BLOCK),
                column_names=header,
                skip_rows=rows.line_num,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator, newlines_in_values=b'"' in content, invalid_row_handler=skip
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.large_string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise _no_utf8(location, "it has other bytes") from error
        if not uneven:
            raise DataError(f"is not a CSV table ({error})", file=location, remedy=remedy) from error
    if uneven:
        with _utf8(location):
            # Arrow counts rows; a reader of the file looks for a line.
            line = next((rows.line_num for row in rows if row and len(row) != len(header)), uneven[0].number)
        _refuse_uneven(uneven[0], line, header, separator, location)
    return _framed(table)


def _refuse_uneven(row: pyarrow.csv.InvalidRow, line: int, header: list[str], separator: str, location: str) -> None:
    if row.actual_columns > row.expected_columns:
        raise DataError(
            f"has rows of more cells than the {len(header)} column names, the first in line {line}",
            file=location,
            remedy=f"Put cells that hold '{separator}' in quotes, or name the columns",
        )
    raise DataError(
        f"line {line} ends after {row.actual_columns} of {len(header)} cells",
        file=location,
        remedy=f"Restore the file if it was cut off; write '{separator}' for each empty cell",
    )


@contextmanager
def _utf8(location: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise _no_utf8(location, error.reason) from error
    except csv.Error as error:
        raise DataError(f"is not a CSV table ({error})", file=location, remedy="Mend its first line") from error


def _no_utf8(location: str, reason: str) -> DataError:
    return DataError(f"is not UTF-8 text ({reason})", file=location, remedy="Save it as UTF-8 CSV")


def _refuse_repeated(header: list[str], location: str) -> None:
    repeated = sorted(name for name, count in Counter(header).items() if count > 1)
    if repeated:
        raise DataError(f"names columns twice: {', '.join(repeated)}", file=location, remedy="Rename them")


def _read_parquet(content: bytes, location: str) -> pd.DataFrame:
    try:
        table = pyarrow.parquet.read_table(pa.BufferReader(content), use_threads=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"is not a Parquet table ({error})", file=location, remedy="Restore it") from error
    _refuse_repeated(table.column_names, location)
    return _framed(table.select([name for name in table.column_names if not _INDEX.fullmatch(name)]))


def _framed(table: pa.Table) -> pd.DataFrame:
    plain = pa.table([_plain(column) for column in table.itercolumns()], names=table.column_names)
    frame: pd.DataFrame = plain.to_pandas(types_mapper=_pandas_type, ignore_metadata=True, use_threads=False)
    return frame


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        values = [cell_text(value) for value in column.to_pandas().astype(object)]
        return pa.chunked_array([pa.array(values, pa.large_string())])
    text = column.cast(pa.large_string())
    return pc.utf8_trim_whitespace(text.fill_null("") if text.null_count else text)


def _pandas_type(kind: pa.DataType) -> Any:
    if pa.types.is_large_string(kind):
        return TEXT
    if pa.types.is_unsigned_integer(kind):
        return pd.UInt64Dtype()
    # Absent whole numbers would make the others floats, in which long ones lose digits.
    return pd.Int64Dtype() if pa.types.is_integer(kind) else None


def _read_excel(content: bytes, location: str) -> pd.DataFrame:
    try:
        rows = _sheet_rows(content, location)
        header = [cell_text(value) for value in next(rows, [])]
        columns: list[list[str]] = [[] for _ in header]
        for row in rows:
            cells = [cell_text(value) for value in row]
            if any(cells[len(header) :]) or any(c for c, name in zip(cells, header, strict=False) if not name):
                raise DataError(
                    "has cells in a column without a name", file=location, remedy="Name it in the first row"
                )
            # Sheets have empty rows where somebody once typed.
            if any(cells):
                for k, column in enumerate(columns):
                    column.append(cells[k] if k < len(cells) else "")
    except DataError:
        raise
    # openpyxl raises what a broken file makes of it: KeyError, ValueError, BadZipFile, ParseError, AttributeError.
    except Exception as error:
        raise DataError(f"is not an Excel table ({error})", file=location, remedy="Save it again, or as CSV") from error
    names = [name for name in header if name]
    if not names:
        remedy = "Give the first sheet a line of column names and a row a study"
        raise DataError("is not an Excel table (its first sheet is empty)", file=location, remedy=remedy)
    _refuse_repeated(names, location)
    return pd.DataFrame({name: text_of(cells) for name, cells in zip(header, columns, strict=True) if name})


def _sheet_rows(content: bytes, location: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the first sheet, at most as many as Excel itself allows, whatever size the file claims."""
    import openpyxl

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > MAX_SHEET:
        message = f"would unpack to {size:,} bytes, too many for a table of studies"
        raise DataError(message, file=location, remedy="Save it as CSV")
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    sheet = book.worksheets[0]
    sheet.reset_dimensions()
    for number, row in enumerate(sheet.iter_rows(values_only=True)):
        if number >= MAX_ROWS:
            raise DataError(f"has more than {MAX_ROWS:,} rows", file=location, remedy="Save it as CSV")
        yield row


def _refuse_old_excel(content: bytes, location: str) -> pd.DataFrame:
    raise DataError("is an Excel table of the old kind", file=location, remedy="Save it as .xlsx or CSV")


def _read_npz(path: str) -> pd.DataFrame:
    arrays = npz_arrays(path)
    parts = []
    for split in MEDMNIST_SPLITS:
        images, labels = f"{split}_images", f"{split}_labels"
        if images not in arrays:
            continue
        count = arrays[images][0][0]
        part = {"file": text_of(f"{images}/{i}" for i in range(count)), "split": text_of([split] * count)}
        if labels in arrays:
            part |= _label_columns(read_npz(f"{path}!{labels}"), count, path, labels)
        parts.append(pd.DataFrame(part))
    if not parts:
        raise DataError(
            "has no array 'train_images', 'val_images' or 'test_images'",
            file=path,
            remedy=f"Write a CSV whose paths are FILE.npz!ARRAY/INDEX. {nearest('', arrays)}",
        )
    return pd.concat(parts, ignore_index=True)


def _label_columns(values: np.ndarray, count: int, path: str, name: str) -> dict[str, pd.Series[str]]:
    if len(values) != count:
        raise DataError(f"'{name}' has {len(values)} rows for {count} images", file=path, remedy="Restore the file")
    table = values.reshape(count, -1)
    names = ["label"] if table.shape[1] == 1 else [f"label.{k}" for k in range(table.shape[1])]
    return {column: text_of(cell_text(value.item()) for value in table[:, k]) for k, column in enumerate(names)}
