"""The modalities' columns of a manifest: where images lie, what tables hold, and who has which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.cells import NAMED, Cells
from mailnet.data.config import ImageConfig, ModalityConfig, PixelConfig, StudyConfig, TabularConfig
from mailnet.data.locations import Locator
from mailnet.data.paths import locate_all, names_file
from mailnet.data.remedies import keep_filled
from mailnet.errors import DataError


def input_columns(name: str, section: ModalityConfig) -> list[str]:
    """Return the columns, or patterns of columns, that a modality names."""
    if isinstance(section, TabularConfig):
        return [*section.numeric, *section.categorical]
    return [section.column or name]


def modality_columns(cells: Cells, config: StudyConfig) -> dict[str, Any]:
    """Return ``path:<modality>``, ``raw:<column>`` and ``has:<modality>``, see ``Manifest``."""
    columns: dict[str, Any] = {}
    gaps: dict[str, dict[str, np.ndarray]] = {}
    for name, modality in config.modalities.items():
        if isinstance(modality, TabularConfig):
            gaps[name] = _add_table(columns, cells, name, modality)
        else:
            given = cells.text(modality.column or name, f"modalities.{name}")
            columns[f"path:{name}"] = _paths(cells, given, name, modality, config)
            columns[f"has:{name}"] = (given != "").to_numpy(dtype=bool)
    # In the unpaired regime a row without the table is one of another modality; one of none has a worse problem.
    some = np.any([columns[f"has:{name}"] for name in config.modalities], axis=0)
    for name, required in gaps.items():
        for column, gap in required.items():
            rows = np.flatnonzero(gap & (columns[f"has:{name}"] if config.regime == "unpaired" else some))
            remedy = f"Fill the cell, or take '{column}' out of 'required' so that it is imputed"
            cells.problem_of(rows, f"'{column}' is required and has no value", modality=name, remedy=remedy)
    return columns


def _paths(
    cells: Cells, given: pd.Series[Any], name: str, modality: PixelConfig, config: StudyConfig
) -> pd.Series[Any]:
    paths = _located(cells, given, name, config)
    if not isinstance(modality, ImageConfig) or modality.mask is None:
        return paths
    wanted = names_file(given)
    masks = cells.text(modality.mask, f"modalities.{name}.mask").where(wanted, "")
    if modality.mask in cells.missing:
        return paths
    without = np.flatnonzero(wanted & (masks == "").to_numpy(dtype=bool))
    remedy = "Fill the cell or choose another 'slice'"
    if keep := keep_filled(config, modality.mask):
        remedy = f"Fill the cell, choose another 'slice', or leave the row out with {keep}"
    cells.problem_of(without, f"'{modality.mask}' names no mask of the image", modality=name, remedy=remedy)
    masks = _located(cells, masks, name, config)
    return paths.where((masks == "") | (paths == ""), paths + "!largest/" + masks)


def _located(cells: Cells, given: pd.Series[Any], name: str, config: StudyConfig) -> pd.Series[Any]:
    locator = Locator(config.root)
    paths = locate_all(given, cells.folders, locator)
    refused = np.flatnonzero((given != "") & (paths == ""))
    for row in refused[:NAMED].tolist():
        try:
            locator.locate(str(given.iloc[row]), str(cells.folders[row]))
        except DataError as error:
            cells.problem(error.message, row=row, modality=name, file=error.file, remedy=error.remedy or "")
    if len(refused) > NAMED:
        remedy = "Correct these, which shows the others"
        cells.problem(f"{len(refused) - NAMED} more paths cannot be used", modality=name, remedy=remedy)
    return paths


def _add_table(columns: dict[str, Any], cells: Cells, name: str, modality: TabularConfig) -> dict[str, np.ndarray]:
    """Add the columns of a table, and return of each that is required where it has no value."""
    key = f"modalities.{name}"
    numeric, categorical = cells.names(modality.numeric), cells.names(modality.categorical)
    required = set(cells.names(modality.required))
    without = np.ones(len(cells), dtype=bool)
    absent: dict[str, np.ndarray] = {}
    for column, is_number in [*((c, True) for c in numeric), *((c, False) for c in categorical)]:
        known = columns.get(f"raw:{column}")
        if known is not None and isinstance(known, np.ndarray) != is_number:
            remedy = "Choose patterns that do not meet, or name the columns one by one"
            cells.problem(f"'{column}' is both numeric and categorical", modality=name, remedy=remedy)
        raw: Any
        if is_number:
            raw = cells.numbers(column, key, name)
            gap = np.isnan(raw)
        else:
            raw = cells.text(column, key)
            gap = (raw == "").to_numpy(dtype=bool)
        columns[f"raw:{column}"] = raw
        without &= gap
        if column in required and column not in cells.missing:
            absent[column] = gap
    columns[f"has:{name}"] = ~without
    return absent
