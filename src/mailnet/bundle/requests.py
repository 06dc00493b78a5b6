"""Studies to predict, in whatever form they come, as cells by column name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mailnet.data.config import ImageConfig, ManifestSource, ModalityConfig, PixelConfig, TabularConfig, load_config
from mailnet.data.images import count_planes, load_image, owner_of_image
from mailnet.data.locations import Locator, split_plane
from mailnet.data.memory import Items, Prepare, read_cells
from mailnet.data.preprocess import prepare
from mailnet.data.scan import has_planes, reading_of, scan_of_array
from mailnet.data.sources import FOLDER, read_source, read_sources
from mailnet.data.table import TableState
from mailnet.data.tensors import is_tensor, scan_of_tensor
from mailnet.data.values import cell_text, expand_columns, is_no_number, nearest
from mailnet.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mailnet.data.dicom.owner import Owner


@dataclass(frozen=True)
class StudyTable:
    """A table of studies as read from disk, or some rows of it.

    Args:
        frame: The rows, with the column ``FOLDER`` of ``read_sources``.
        root: Folder that paths may not leave.
        file: The table.
        id_column: Column of the identifiers.
        first: Rows before the first one, so that ``row N`` counts as in the whole table.
    """

    frame: pd.DataFrame
    root: Path
    file: Path
    id_column: str | None = None
    first: int = 0

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: range) -> StudyTable:
        """Return some rows, one after the other."""
        return replace(self, frame=self.frame.iloc[rows.start : rows.stop], first=self.first + rows.start)


Studies = str | Path | StudyTable | pd.DataFrame | Mapping[str, Any] | Items


@dataclass(frozen=True)
class Requests:
    """N predictions, of as many studies, or of each plane of those whose modality says ``slice: all``.

    Args:
        ids: Identifiers: the study's column of them or ``id`` where there is one, else ``row N`` counted from 1; of a
            plane followed by ``slice`` and its number, as in training.
        rows: The row of the cells that each is made of.
        planes: The number of its plane, -1 where it is a whole study.
        cells: Column -> cells; an image is a path or an array, an absent value None or empty.
        folders: What a row's relative paths start from.
        locator: Resolves paths and refuses those outside the data root.
    """

    ids: list[str]
    rows: list[int]
    planes: list[int]
    cells: dict[str, list[Any]]
    folders: list[str]
    locator: Locator

    def image(self, number: int, modality: str, section: PixelConfig) -> np.ndarray | None:
        """Return an image of a study as training prepared it, uint8 or uint16; None where it is absent.

        Args:
            number: Of the prediction.
            modality: Name of the modality.
            section: The modality.

        Returns:
            (C, H, W), of a volume (C, D, H, W).

        Raises:
            DataError: It cannot be read or does not fit what the modality declares.
        """
        row, place = self.rows[number], None
        cell = _cell(self.cells, section.column or modality, row)
        if cell is None:
            return None
        if isinstance(section, ImageConfig) and section.slice == "all" and self.planes[number] >= 0:
            place = self.planes[number]
        file = None
        try:
            if is_tensor(cell):
                return prepare(scan_of_tensor(cell, section), section)
            if isinstance(cell, np.ndarray):
                return prepare(scan_of_array(cell, reading_of(section, place)), section)
            if isinstance(section, ImageConfig) and section.mask is not None and split_plane(cell)[1] is None:
                mask = _cell(self.cells, section.mask, row)
                if not isinstance(mask, str):
                    raise DataError(f"'{section.mask}' names no mask of the image", remedy="Give the mask's path")
                cell = f"{cell}!largest/{mask}"
            elif place is not None and split_plane(cell)[1] is None:
                cell = f"{cell}!slice/{place}"
            file = self.locator.locate(cell, self.folders[row])
            return load_image(file, section)
        except DataError as error:
            raise DataError(
                error.message, study=self.ids[number], modality=modality, file=error.file or file, remedy=error.remedy
            ) from error

    def owner(self, number: int, modality: str, section: PixelConfig) -> Owner | None:
        """Return whose image a study has, as far as its DICOM header tells; None where nothing does.

        Raises:
            DataError: The header cannot be read.
        """
        row = self.rows[number]
        cell = _cell(self.cells, section.column or modality, row)
        return owner_of_image(self.locator.locate(cell, self.folders[row]), section) if isinstance(cell, str) else None

    def table(self, numbers: Sequence[int], state: TableState) -> tuple[np.ndarray, np.ndarray]:
        """Return features (n, F) float32 of a tabular modality and which of the n have any of its columns (n,).

        Raises:
            DataError: A value is no number, or a required one is missing where others are given.
        """
        rows = [self.rows[number] for number in numbers]
        cells = np.full((len(rows), len(state.columns)), "", dtype=object)
        numeric = set(state.numeric.names)
        for place, column in enumerate(state.columns):
            if given := self.cells.get(column):
                read = _number if column in numeric else cell_text
                cells[:, place] = [read(given[row]) for row in rows]
        frame = pd.DataFrame(cells, columns=state.columns)
        present: np.ndarray = (frame != "").any(axis=1).to_numpy(dtype=bool)
        features = np.zeros((len(rows), len(state.features)), np.float32)
        if present.any():
            names = [self.ids[number] for number, has in zip(numbers, present, strict=True) if has]
            features[present] = state.transform(frame[present], names)
        return features, present

    def texts(self, numbers: Sequence[int], columns: Sequence[str]) -> dict[str, list[str]]:
        """Return column -> n cells as text, empty where missing."""
        rows = [self.rows[number] for number in numbers]
        empty = [""] * len(rows)
        return {
            column: [cell_text(given[row]) for row in rows] if (given := self.cells.get(column)) else empty
            for column in columns
        }


def gather(
    studies: Studies,
    preprocessing: Mapping[str, ModalityConfig],
    data_root: str | Path | None = None,
    id_column: str | None = None,
    prepared_by: Prepare | None = None,
) -> Requests:
    """Bring studies into one form.

    Args:
        studies: Path of a CSV or Parquet table, whose paths are relative to it, or of a study.yaml, whose tables are
            read as it says; or what ``read_studies`` gave of one; or a DataFrame, a dict, several or a data set of
            them, whose paths are relative to the data root, else to the working folder. Keys are columns as in
            training, or of images their modalities. An image is a path, an array (H, W), (H, W, C) and so on, or a
            tensor (C, H, W) or (C, D, H, W).
        preprocessing: The modalities.
        data_root: Folder that paths may not leave; default the table's own folder, or for studies in memory any.
        id_column: Column of the identifiers, used where it is given.
        prepared_by: Applied to each study in memory first, see ``iterate_items``.

    Raises:
        ConfigError: It draws random numbers, or the studies lie in a file.
        DataError: The table cannot be read, has two columns of one name, or no column of any modality.
    """
    if isinstance(studies, (str, Path, StudyTable)):
        if prepared_by is not None:
            file = studies.file if isinstance(studies, StudyTable) else studies
            raise ConfigError("'prepare' takes studies in memory", file=file, remedy="Read the table with pandas")
        table = studies if isinstance(studies, StudyTable) else read_studies(studies, data_root, id_column)
        cells = {str(column): table.frame[column].tolist() for column in table.frame.columns if column != FOLDER}
        folders = [str(folder) for folder in table.frame[FOLDER]]
        return _requests(
            cells, folders, Locator(table.root), preprocessing, table.id_column, str(table.file), table.first
        )
    if isinstance(studies, pd.DataFrame) and prepared_by is None:
        twice = studies.columns[studies.columns.duplicated()]
        if len(twice):
            raise DataError(f"the table has two columns '{twice[0]}'", remedy="Give each column a name of its own")
        cells = {str(column): studies[column].tolist() for column in studies.columns}
        count = len(studies)
    else:
        count, cells = read_cells(studies, prepared_by)
    base = Path.cwd() if data_root is None else Path(data_root).resolve()
    locator = Locator(Path(base.anchor) if data_root is None else base)
    cells = _by_column(cells, preprocessing)
    return _requests(cells, [str(base)] * count, locator, preprocessing, id_column, None)


def read_studies(studies: str | Path, data_root: str | Path | None = None, id_column: str | None = None) -> StudyTable:
    """Read a table of studies, or the tables of a study.yaml.

    Args:
        studies: As of ``gather``.
        data_root: As of ``gather``.
        id_column: As of ``gather``.

    Raises:
        DataError: It cannot be read.
    """
    file = Path(studies).resolve()
    if file.suffix in (".yaml", ".yml"):
        config = load_config(file, data_root=data_root)
        return StudyTable(read_sources(config), config.root, file, config.id or id_column)
    root = Path(data_root).resolve() if data_root is not None else _folder(file)
    return StudyTable(read_source(ManifestSource(table=str(file)), Locator(root)), root, file, id_column)


def _folder(file: Path) -> Path:
    # A table inside a zip: the zip's folder.
    return Path(str(file).partition("!")[0]).parent


def _requests(
    cells: dict[str, list[Any]],
    folders: list[str],
    locator: Locator,
    preprocessing: Mapping[str, ModalityConfig],
    id_column: str | None,
    file: str | None,
    first: int = 0,
) -> Requests:
    wanted: list[str] = []
    for name, section in preprocessing.items():
        wanted += section.numeric + section.categorical if isinstance(section, TabularConfig) else [
            section.column or name
        ]  # fmt: skip
    if not set(expand_columns(wanted, cells)) & set(cells):
        raise DataError(
            f"no column belongs to a modality; the model reads {', '.join(wanted[:20])}",
            file=file,
            remedy=nearest(wanted[0], cells) or "Name the columns as in training",
        )
    given = cells.get(id_column or "id") or cells.get("id")
    ids = [cell_text(value) or f"row {row}" for row, value in enumerate(given or [""] * len(folders), first + 1)]
    counts = [
        [_planes(_cell(cells, section.column or name, row), section, locator, folders[row]) for row in range(len(ids))]
        for name, section in preprocessing.items()
        if isinstance(section, ImageConfig) and section.slice == "all"
    ]
    return _expanded(Requests(ids, [], [], cells, folders, locator), counts)


def _by_column(cells: dict[str, list[Any]], preprocessing: Mapping[str, ModalityConfig]) -> dict[str, list[Any]]:
    """Return the cells with images that are given by the modality's name in its column, where that is empty."""
    columns = {name: section.column for name, section in preprocessing.items() if isinstance(section, PixelConfig)}
    tables = [section for section in preprocessing.values() if isinstance(section, TabularConfig)]
    taken = {*columns.values(), *(column for table in tables for column in table.numeric + table.categorical)}
    found = dict(cells)
    for name, column in columns.items():
        if column and name in cells and name not in taken:
            rows = range(len(cells[name]))
            given = [_cell(cells, column, row) for row in rows]
            found[column] = [cells[name][row] if given[row] is None else given[row] for row in rows]
    return found


def _expanded(given: Requests, counts: list[list[int]]) -> Requests:
    """Return the predictions of all rows: of each plane of those that have any to expand."""
    ids: list[str] = []
    rows: list[int] = []
    planes: list[int] = []
    for row, name in enumerate(given.ids):
        most = max((own[row] for own in counts), default=0)
        ids += [f"{name} slice {plane}" for plane in range(most)] if most else [name]
        rows += [row] * max(most, 1)
        planes += range(most) if most else [-1]
    return replace(given, ids=ids, rows=rows, planes=planes)


def _planes(cell: Any, section: ImageConfig, locator: Locator, folder: str) -> int:
    """Return the planes of an image that says none itself, 0 for others; one that cannot be read counts as one."""
    if cell is None:
        return 0
    if is_tensor(cell):
        return 1
    if isinstance(cell, np.ndarray):
        return len(cell) if has_planes(cell.ndim, reading_of(section)) else 1
    if split_plane(cell)[1] is not None:
        return 0
    try:
        return count_planes(locator.locate(cell, folder), section)
    except DataError:
        return 1


def _cell(cells: Mapping[str, list[Any]], column: str, row: int) -> Any:
    """Return the array, tensor or path in a cell, None where it is empty or there is no such column."""
    cell = cells[column][row] if column in cells else None
    return cell if isinstance(cell, np.ndarray) or is_tensor(cell) else cell_text(cell) or None


def _number(cell: Any) -> Any:
    """Return the cell of a numeric column, empty where it says that there is none."""
    if isinstance(cell, float):  # numpy's among them; a table of omics has millions
        return "" if math.isnan(cell) else cell
    text = cell_text(cell)
    return "" if is_no_number(text) else text
