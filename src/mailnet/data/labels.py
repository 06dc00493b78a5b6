"""Labels of the tasks of a study, from the cells of its tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.cells import Cells
from mailnet.data.config import StudyConfig, TaskConfig
from mailnet.data.values import canonical

Columns = dict[str, np.ndarray]
_REMEDY = "Correct the cells, add the value to 'classes', or empty the cells"
_TRUTH = {"": np.nan, "0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


def label_columns(name: str, task: TaskConfig) -> set[str]:
    """Return the columns of the tables that hold a task's labels."""
    if task.kind == "multilabel":
        return {column for (column,) in task.class_values.values()}
    return {task.column or name}


def read_labels(cells: Cells, config: StudyConfig) -> Columns:
    """Return ``label:<task>`` (N,) int64, -1 unknown, or ``label:<task>:<class>`` (N,) float, NaN unknown."""
    columns: Columns = {}
    for name, task in config.tasks.items():
        if task.kind == "multilabel":
            for label, (column,) in task.class_values.items():
                given = cells.text(column, f"tasks.{name}")
                truth = cells.translate(
                    given, _TRUTH, np.nan, column=column, noun="0 or 1", remedy="Correct or empty the cells", task=name
                )
                columns[f"label:{name}:{label}"] = truth
            continue
        known = {canonical(value): k for k, several in enumerate(task.class_values.values()) for value in several}
        column = task.column or name
        given = cells.text(column, f"tasks.{name}")
        labels = cells.translate(given, {"": -1} | known, -1, column=column, noun="class", remedy=_REMEDY, task=name)
        columns[f"label:{name}"] = labels.astype(np.int64)
    return columns


def is_labelled(name: str, config: StudyConfig, columns: Columns) -> np.ndarray:
    """Return (N,) bool: the row has a label of the task."""
    if config.tasks[name].kind != "multilabel":
        return columns[f"label:{name}"] >= 0
    labels = np.stack([columns[f"label:{name}:{label}"] for label in config.tasks[name].class_values])
    known: np.ndarray = ~np.isnan(labels).all(axis=0)
    return known


def strata(columns: Columns, owner: pd.Categorical[Any]) -> tuple[np.ndarray, list[tuple[tuple[str, str], ...]]]:
    """Return the labels that splits keep in proportion, once for all rows that are alike in them.

    Args:
        columns: What ``read_labels`` gives.
        owner: Stands for the labels of a row that has none, so that such rows are divided in proportion too (N,).

    Returns:
        (N,) place in the second, and of each kind of row its labels.
    """
    kinds = np.asarray(owner.codes, dtype=np.int64)
    for values in columns.values():
        places = pd.factorize(values)[0] + 1
        kinds = pd.factorize(kinds * (int(places.max(initial=0)) + 1) + places)[0]
    _, first, kinds = np.unique(kinds, return_index=True, return_inverse=True)
    labels = []
    for row in first:
        texts = {name: str(values[row]) for name, values in columns.items()}
        own = tuple((name, text) for name, text in texts.items() if text not in ("-1", "nan"))
        labels.append(own or ((str(owner[row]), "unlabelled"),))
    return kinds, labels
