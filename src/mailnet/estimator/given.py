"""What ``fit`` is given, in any form, as a configuration and rows of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import column_or_1d

from mailnet.data.config import StudyConfig, parse_config
from mailnet.data.memory import MemoryStudies, holds_arrays, read_studies
from mailnet.data.values import cell_text
from mailnet.errors import ConfigError
from mailnet.estimator.labels import LABEL, declare_task, own_classes

TABLE = "table"


@dataclass(frozen=True)
class Given:
    """Studies to learn from.

    Args:
        config: What they are.
        rows: The rows, None where they lie in the config's table.
        classes: (K,) classes as ``y`` has them, None where labels are the table's own.
        meanings: What each class is called among labels, None where the config says it.
    """

    config: StudyConfig
    rows: pd.DataFrame | MemoryStudies | None
    classes: np.ndarray | None
    meanings: list[list[str]] | None = None

    @property
    def answer(self) -> tuple[str, list[list[str]]] | None:
        """The column of the labels of the only task and the values of each class; None of several tasks or columns."""
        task = next(iter(self.config.tasks.values()))
        if len(self.config.tasks) > 1 or task.kind == "multilabel":
            return None
        return column_of(self.config), self.meanings or list(task.class_values.values())


def given_array(settings: Mapping[str, Any], values: np.ndarray, columns: Sequence[str], y: Any) -> Given:
    """Return an array (N, F) with its labels (N,) as a study of one table.

    Args:
        settings: Parameters of the estimator.
        values: Features, NaN where missing.
        columns: F names of them.
        y: Labels.

    Raises:
        ConfigError: A parameter is wrong, or means columns of a table of studies.
        ValueError: The labels are none of classes.
    """
    for key in ("group", "split"):
        if isinstance(settings[key], str):
            raise ConfigError(f"'{key}' names a column, and X is an array of features", remedy="Describe 'modalities'")
    table = {TABLE: {"kind": "tabular", "numeric": list(columns)}}
    return _labelled({**settings, "modalities": table}, pd.DataFrame(values, columns=list(columns)), y)


def given_studies(settings: Mapping[str, Any], studies: Any, y: Any) -> Given:
    """Return studies, whose labels are columns (or keys) of them or ``y``.

    Args:
        settings: Parameters of the estimator.
        studies: A path, a DataFrame, or dicts in a list or a data set.
        y: (N,) labels or None.

    Raises:
        ConfigError: A parameter is wrong, or the labels of a file are given beside it.
        DataError: A dict cannot be used.
        ValueError: ``y`` has another length, or holds no classes.
    """
    if not isinstance(studies, (str, Path)):
        return _labelled(settings, studies, y)
    if y is not None:
        raise ConfigError("labels of a file are a column of it", file=studies, remedy="Leave y out, or read the file")
    if settings["prepare"] is not None:
        raise ConfigError("'prepare' takes studies in memory", file=studies, remedy="Read the table with pandas")
    file = Path(studies).resolve()
    root = Path(settings["data_root"]).resolve() if settings["data_root"] else file.parent
    return Given(_config(settings, manifest=[str(file)], data_root=str(root)), None, None)


def column_of(config: StudyConfig) -> str:
    """Return the column of the labels of the only task.

    Raises:
        ConfigError: There are several tasks, or one of several columns.
    """
    remedy = "Leave y out: columns of the table hold the labels"
    if len(config.tasks) != 1:
        raise ConfigError(f"y answers one task, there are {len(config.tasks)}", remedy=remedy)
    name, task = next(iter(config.tasks.items()))
    if task.kind == "multilabel":
        raise ConfigError(f"y answers one question, the multilabel task '{name}' asks several", remedy=remedy)
    return task.column or name


def _labelled(settings: Mapping[str, Any], source: Any, y: Any) -> Given:
    if y is None:
        config = _config(settings)
        return Given(config, _rows(source, config, settings), None)
    labels = column_or_1d(y, warn=True)
    if len(labels) != len(source):
        raise ValueError(f"X has {len(source)} studies and y {len(labels)} labels")
    if settings["tasks"] is not None:
        config = _config(settings)
        column, cells, meanings = column_of(config), labels, None
        classes = own_classes(next(iter(config.tasks.values())), labels)
    else:
        task, cells, classes = declare_task(labels)
        column, meanings = LABEL, [[cell_text(value)] for value in classes]
        taken = _columns(settings["modalities"]) | (set(source) if isinstance(source, pd.DataFrame) else set())
        while column in taken:
            column += "_"
        config = _config({**settings, "tasks": {LABEL: {**task, "column": column}}})
    rows = _rows(source, config, settings)
    labelled = rows.assign(**{column: cells}) if isinstance(rows, pd.DataFrame) else rows.with_column(column, cells)
    return Given(config, labelled, classes, meanings)


def _columns(modalities: Mapping[str, Any]) -> set[str]:
    """Return the columns that modalities read, as far as they are declared rightly, which is checked later."""
    found: set[str] = set()
    for name, section in modalities.items():
        declared = section if isinstance(section, Mapping) else {}
        found |= {
            name,
            str(declared.get("column")),
            *(declared.get("numeric") or ()),
            *(declared.get("categorical") or ()),
        }
    return found


def _rows(source: Any, config: StudyConfig, settings: Mapping[str, Any]) -> pd.DataFrame | MemoryStudies:
    if isinstance(source, pd.DataFrame) and settings["prepare"] is None and not holds_arrays(source):
        return source
    return read_studies(source, config, settings["prepare"])


def _config(settings: Mapping[str, Any], **changes: Any) -> StudyConfig:
    if settings["tasks"] is None:
        raise ConfigError("there is nothing to learn", remedy="Give 'tasks', or the labels as y")
    split = settings["split"] or {"train": 0.8, "val": 0.2, "test": 0.0}
    values = {
        "name": "study",
        "manifest": [],
        "data_root": str(Path(settings["data_root"] or ".").resolve()),
        "regime": settings["regime"],
        "group": settings["group"],
        "split": split if isinstance(split, str) else dict(split),
        "modalities": dict(settings["modalities"]),
        "tasks": dict(settings["tasks"]),
        "model": {"name": settings["model"], "options": dict(settings["model_options"] or {})},
        "train": {"device": settings["device"], **(settings["train"] or {})},
    }
    return parse_config({**values, **changes})
