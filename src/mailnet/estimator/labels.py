"""Labels beside the studies, as scikit-learn gives them: a task of a study, and the way back to their own values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets

from mailnet.data.config import TaskConfig
from mailnet.data.values import canonical, cell_text

LABEL = "label"


def declare_task(labels: np.ndarray) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return the task that labels answer, without its column, as ``study.yaml`` has it.

    Args:
        labels: (N,) of any type that can be sorted.

    Returns:
        The task, (N,) the codes that its column holds, and the K classes, rising, of the type of the labels.

    Raises:
        ValueError: A label is missing or a measurement, or there are fewer than two classes.
    """
    if pd.isna(labels).any():
        raise ValueError("y has missing labels; declare the classes with 'tasks' to learn from studies without one")
    check_classification_targets(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y holds one class, {classes[0]!r}; two classes or more are needed")
    names = [cell_text(value) for value in classes]
    if "" in names or len(set(names)) < len(names):
        names = [f"class {k}" for k in range(len(classes))]
    kind = "binary" if len(classes) == 2 else "multiclass"
    return {"kind": kind, "classes": {name: k for k, name in enumerate(names)}}, codes, classes


def own_classes(task: TaskConfig, labels: np.ndarray) -> np.ndarray | None:
    """Return the (K,) classes of a task as labels have them, so that predictions are compared with these.

    A class that is not among the labels, as in a fold of a rare one, is as it was declared. Where a class stands for
    several values its name is all there is, and the answer None.
    """
    if any(len(several) != 1 for several in task.class_values.values()):
        return None
    declared = task.classes if isinstance(task.classes, list) else list(task.classes.values())
    plain = [value[0] if isinstance(value, list) else value for value in declared]
    seen = {canonical(value): value for value in pd.unique(pd.Series(labels).dropna())}
    classes = np.array([seen.get(canonical(value), value) for value in plain])
    return classes.astype(labels.dtype) if labels.dtype.kind in "biu" and classes.dtype.kind in "biuf" else classes


def class_numbers(meanings: Sequence[Sequence[str]], labels: Iterable[Any]) -> np.ndarray:
    """Return (N,) places of labels among classes, -1 where they are none of them.

    Args:
        meanings: The values of each class.
        labels: N of them.
    """
    places = {canonical(value): k for k, several in enumerate(meanings) for value in several}
    return np.array([places.get(canonical(label), -1) for label in labels], dtype=np.int64)
