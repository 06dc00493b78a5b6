"""Studies to predict, in whatever form they come, as cells by column name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.config import ManifestSource, ModalityConfig, PixelConfig, TabularConfig, load_config
from mailnet.data.images import load_image
from mailnet.data.locations import Locator
from mailnet.data.preprocess import prepare_array
from mailnet.data.sources import FOLDER, read_source, read_sources
from mailnet.data.table import TableState
from mailnet.data.values import cell_text, expand_columns, is_no_number, nearest
from mailnet.errors import DataError

Studies = str | Path | pd.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Requests:
    """N studies.

    Args:
        ids: Identifiers: the study's column of them or ``id`` where there is one, else ``row N`` counted from 1.
        cells: Column -> N cells; an image is a path or an array, an absent value None or empty.
        folders: What a study's relative paths start from.
        locator: Resolves paths and refuses those outside the data root.
    """

    ids: list[str]
    cells: dict[str, list[Any]]
    folders: list[str]
    locator: Locator

    def image(self, row: int, modality: str, section: PixelConfig) -> np.ndarray | None:
        """Return an image of a study as training prepared it, (C, H, W) uint8 or uint16; None where it is absent.

        Raises:
            DataError: It cannot be read or does not fit what the modality declares.
        """
        cell = self.cells.get(section.column or modality, [None] * len(self.ids))[row]
        if cell is None or (not isinstance(cell, np.ndarray) and not cell_text(cell)):
            return None
        file = None
        try:
            if isinstance(cell, np.ndarray):
                return prepare_array(cell, section)
            file = self.locator.locate(cell_text(cell), self.folders[row])
            return load_image(file, section)
        except DataError as error:
            raise DataError(
                error.message, study=self.ids[row], modality=modality, file=error.file or file, remedy=error.remedy
            ) from error

    def table(self, rows: Sequence[int], state: TableState) -> tuple[np.ndarray, np.ndarray]:
        """Return features (n, F) float32 of a tabular modality and which of the rows have any of its columns (n,).

        Raises:
            DataError: A value is no number, or a required one is missing where others are given.
        """
        cells = np.full((len(rows), len(state.columns)), "", dtype=object)
        numbers = set(state.numeric.names)
        for place, column in enumerate(state.columns):
            if given := self.cells.get(column):
                texts = [cell_text(given[row]) for row in rows]
                cells[:, place] = ["" if is_no_number(t) else t for t in texts] if column in numbers else texts
        frame = pd.DataFrame(cells, columns=state.columns)
        present: np.ndarray = (frame != "").any(axis=1).to_numpy(dtype=bool)
        features = np.zeros((len(rows), len(state.features)), np.float32)
        if present.any():
            names = [self.ids[row] for row, has in zip(rows, present, strict=True) if has]
            features[present] = state.transform(frame[present], names)
        return features, present


def gather(
    studies: Studies,
    preprocessing: Mapping[str, ModalityConfig],
    data_root: str | Path | None = None,
    id_column: str | None = None,
) -> Requests:
    """Bring studies into one form.

    Args:
        studies: Path of a CSV or Parquet table, whose paths are relative to it, or of a study.yaml, whose tables are
            read as it says; or a DataFrame, a dict or several, whose paths are relative to the data root, else to the
            working folder. Keys are columns as in training.
        preprocessing: The modalities.
        data_root: Folder that paths may not leave; default the table's own folder, or for studies in memory any.
        id_column: Column of the identifiers, used where it is given.

    Raises:
        DataError: The table cannot be read, or has no column of any modality.
    """
    if isinstance(studies, (str, Path)):
        file = Path(studies).resolve()
        if file.suffix in (".yaml", ".yml"):
            config = load_config(file, data_root=data_root)
            root, frame, id_column = config.root, read_sources(config), config.id or id_column
        else:
            root = Path(data_root).resolve() if data_root is not None else _folder(file)
            frame = read_source(ManifestSource(table=str(file)), Locator(root))
        folders = [str(folder) for folder in frame.pop(FOLDER)]
        cells = {str(column): list(frame[column]) for column in frame.columns}
        return _requests(cells, folders, Locator(root), preprocessing, id_column, str(studies))
    if isinstance(studies, pd.DataFrame):
        cells = {str(column): list(studies[column]) for column in studies.columns}
        count = len(studies)
    else:
        rows = [studies] if isinstance(studies, Mapping) else list(studies)
        count = len(rows)
        cells = {column: [row.get(column) for row in rows] for column in dict.fromkeys(c for row in rows for c in row)}
    base = Path.cwd() if data_root is None else Path(data_root).resolve()
    locator = Locator(Path(base.anchor) if data_root is None else base)
    return _requests(cells, [str(base)] * count, locator, preprocessing, id_column, None)


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
    ids = [cell_text(value) or f"row {row}" for row, value in enumerate(given or [""] * len(folders), start=1)]
    return Requests(ids, cells, folders, locator)
