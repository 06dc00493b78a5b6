"""What the user's folder holds, matched with an entry's layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mailnet.data.catalog.entry import Entry, Item
from mailnet.data.catalog.pattern import path_expression
from mailnet.data.tables import read_table
from mailnet.data.values import cell_text, nearest
from mailnet.errors import DataError

ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz")


class Folder:
    """The files below a folder.

    Args:
        entry: The data set that should lie there.
        path: The folder.
        skip: A folder in it that is not looked at: what an earlier run wrote.

    Raises:
        DataError: There is no such folder.
    """

    def __init__(self, entry: Entry, path: Path, skip: Path) -> None:
        self.entry = entry
        self.path = path
        if not path.is_dir():
            raise DataError("there is no such folder", file=path, remedy=how_to_get(entry))
        self.files: list[str] = []
        for parent, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if Path(parent, name) != skip)
            prefix = Path(parent).relative_to(path).as_posix()
            # macOS leaves ._names beside real files in the zips that it writes.
            real = sorted(name for name in names if not name.startswith("._"))
            self.files += [name if prefix == "." else f"{prefix}/{name}" for name in real]

    def rows(self, items: Sequence[Item]) -> pd.DataFrame:
        """Return the rows that items of one name give: a file or a table's line each.

        Raises:
            DataError: An item that one may not do without is not there, or a table lacks a column.
        """
        found: list[pd.DataFrame] = []
        for item in items:
            frame = self._read(item)
            if item.kind == "files" and not frame.empty:
                # A file that several patterns fit is the first one's.
                taken = {path for earlier in found for path in earlier.get(item.name, [])}
                frame = frame[~frame[item.name].isin(taken)]
            found.append(frame)
        there = [frame for frame in found if not frame.empty]
        missing = [item for item, frame in zip(items, found, strict=True) if frame.empty and not item.optional]
        if missing or (not there and not items[0].optional):
            raise self.lacks(missing or items)
        return pd.concat(there, ignore_index=True).fillna("").astype(object) if there else pd.DataFrame(dtype=object)

    def matches(self, item: Item) -> pd.DataFrame:
        """Return the files of an item with their fields, paths in the column of its name."""
        expression = path_expression(item.path)
        hits = [(file, match) for file in self.files if (match := expression.fullmatch(file))]
        rows = [match.groupdict() | item.values | {item.name: str(self.path / file)} for file, match in hits]
        return pd.DataFrame(rows, dtype=object)

    def lacks(self, items: Sequence[Item]) -> DataError:
        """Return the error that says what of the layout is not there."""
        archives = [file for file in self.files if file.lower().endswith(ARCHIVES) and not file.endswith(".nii.gz")]
        found = f"it holds {len(self.files)} files" + (f", such as {', '.join(self.files[:3])}" if self.files else "")
        remedy = f"Unpack {', '.join(archives[:5])}" if archives else how_to_get(self.entry)
        what = "; ".join(f"{item.path} ({item.holds})" for item in items)
        return DataError(f"{self.entry.name}: nothing here is named {what}; {found}", file=self.path, remedy=remedy)

    def _read(self, item: Item) -> pd.DataFrame:
        files = self.matches(item)
        if item.kind == "files" or files.empty:
            return files
        if item.kind == "npz":
            path = files[item.name].iloc[0]
            arrays = read_table(path)
            arrays["file"] = [f"{path}!{place}" for place in arrays["file"]]
            return arrays.rename(columns={"file": item.name})
        fields = files.drop(columns=item.name)
        read = [self._table(item, p).assign(**f) for p, f in zip(files[item.name], _records(fields), strict=True)]
        return pd.concat(read, ignore_index=True)

    def _table(self, item: Item, path: str) -> pd.DataFrame:
        if path.lower().endswith((".xlsx", ".xls")):
            try:
                sheet = pd.read_excel(path, dtype=object, skiprows=item.skip)
            except (ImportError, OSError, ValueError) as error:
                raise DataError(f"is not an Excel table ({error})", file=path, remedy="Restore it") from error
            frame = pd.DataFrame(
                {str(c).strip(): [cell_text(v).strip() for v in sheet[c]] for c in sheet}, dtype=object
            )
        elif not item.header:
            lines = [line.strip() for line in Path(path).read_text("utf-8-sig").splitlines() if line.strip()]
            frame = pd.DataFrame({next(iter(item.columns)): lines}, dtype=object)
        else:
            frame = read_table(path)
        for column in item.columns:
            if column not in frame:
                raise DataError(
                    f"has no column '{column}'", file=path,
                    remedy=f"{nearest(column, frame.columns)}. Get the table from {self.entry.url}",
                )  # fmt: skip
        frame = frame[list(item.columns)]
        return frame.assign(**{item.number: [str(k) for k in range(len(frame))]}) if item.number else frame


def how_to_get(entry: Entry) -> str:
    """Return where a data set is to be had, and what its folder should then look like."""
    lines = [f"Nothing is downloaded for you: get {entry.name} from {entry.url}, unpack it, and give its folder."]
    lines += ["It should hold:", *(f"  {line}" for line in layout_lines(entry))]
    return "\n".join(lines)


def layout_lines(entry: Entry) -> list[str]:
    """Return the layout of a download, a line an item."""
    optional = " (may be absent)"
    return [f"{item.path}  {item.holds}{optional if item.optional else ''}" for item in entry.layout]


def _records(frame: pd.DataFrame) -> list[dict[str, str]]:
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False)]
