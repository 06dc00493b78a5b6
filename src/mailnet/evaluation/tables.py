"""The metrics by subgroup, and with each modality alone and left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mailnet.data.study import StudyData

SMALL_GROUP = 30
MOST_VALUES = 20
NO_VALUE = "(no value)"


class Measure(Protocol):
    """Measures one task on some studies."""

    def __call__(self, task: str, probabilities: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """Return the metrics.

        Args:
            task: Name of the task.
            probabilities: (n, K), of these studies.
            rows: (n,) row numbers of the studies.
        """
        ...


def subgroup_tables(
    data: StudyData, probabilities: Mapping[str, np.ndarray], measured: Measure
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return column -> value -> task -> metrics, ``small`` marking fewer than 30 labelled studies.

    Of a column with more than 20 values the 20 commonest; how many there are stands under ``data`` of the evaluation.
    """
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for column in data.config.subgroups:
        values = data.frame[f"subgroup:{column}"].astype(str).replace("", NO_VALUE)
        common = values.value_counts().index[:MOST_VALUES]
        tables[column] = {
            str(value): _tasks(data, probabilities, measured, np.flatnonzero((values == value).to_numpy()))
            for value in sorted(common)
        }
    return tables


@dataclass(frozen=True)
class Hidden:
    """A prediction with modalities hidden: its place in the tables, the studies and what they lack."""

    group: str
    modality: str
    rows: np.ndarray
    without: tuple[str, ...]


def plan_hiding(data: StudyData) -> list[Hidden]:
    """Return the predictions that show what each modality gives, each on the studies that have the modality.

    Of two modalities, leaving one out is having the other alone, and is not planned twice. In the unpaired regime
    every study has but one modality, and nothing is left to hide.
    """
    names = list(data.modalities)
    if len(names) == 1 or data.config.regime == "unpaired":
        return []
    count = np.sum([data.present[name] for name in names], axis=0)
    plan = []
    for name in names:
        others = tuple(other for other in names if other != name)
        plan.append(Hidden("only", name, np.flatnonzero(data.present[name]), others))
        if len(others) > 1:
            plan.append(Hidden("without", name, np.flatnonzero(data.present[name] & (count > 1)), (name,)))
    return plan


def modality_tables(
    data: StudyData,
    probabilities: Mapping[str, np.ndarray],
    plan: Sequence[Hidden],
    predict: Callable[[np.ndarray, tuple[str, ...]], dict[str, np.ndarray]],
    measured: Measure,
) -> dict[str, Any]:
    """Return the metrics with each modality alone and each left out.

    Args:
        data: The studies.
        probabilities: Task -> (N, K), with all modalities.
        plan: From ``plan_hiding``.
        predict: Row numbers (n,) and hidden modalities -> task -> (n, K).
        measured: Measures a task.

    Returns:
        ``only`` and ``without``, modality -> task -> metrics; ``by_nature`` says that every study has but one modality,
        so that ``only`` holds the plain results by modality.
    """
    tables: dict[str, Any] = {"by_nature": data.config.regime == "unpaired", "only": {}, "without": {}}
    if tables["by_nature"]:
        for name, present in data.present.items():
            tables["only"][name] = _tasks(data, probabilities, measured, np.flatnonzero(present))
    for hidden in plan:
        found = predict(hidden.rows, hidden.without)
        tables[hidden.group][hidden.modality] = {
            task: measured(task, found[task], hidden.rows)
            for task in data.tasks
            if _labelled(data, task, hidden.rows).any()
        }
    return tables


def _tasks(
    data: StudyData, probabilities: Mapping[str, np.ndarray], measured: Measure, rows: np.ndarray
) -> dict[str, Any]:
    found = {}
    for task in data.tasks:
        if _labelled(data, task, rows).any():
            result = measured(task, probabilities[task][rows], rows)
            found[task] = {**result, "small": result["n"] < SMALL_GROUP}
    return found


def _labelled(data: StudyData, task: str, rows: np.ndarray) -> np.ndarray:
    labels = data.labels[task][rows]
    return np.asarray(np.isfinite(labels).any(1) if labels.ndim == 2 else labels >= 0)
