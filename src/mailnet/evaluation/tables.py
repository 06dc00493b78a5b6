"""The metrics by subgroup, and with each modality alone and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mailnet.bundle import Predictor
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

    A column with more than 20 values is left to the 20 commonest.
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


def modality_tables(
    predictor: Predictor, data: StudyData, probabilities: Mapping[str, np.ndarray], measured: Measure
) -> dict[str, Any]:
    """Return the metrics with each modality alone and each left out, on the studies that have it.

    Returns:
        ``only`` and ``without``, modality -> task -> metrics. Of two modalities, leaving one out is having the other
        alone, and stands under ``only``. ``by_nature`` says that every study has but one modality, so that ``only``
        holds the plain results, by modality.
    """
    names = list(data.modalities)
    count = np.sum([data.present[name] for name in names], axis=0)
    by_nature = data.config.regime == "unpaired"
    only: dict[str, Any] = {}
    without: dict[str, Any] = {}
    for name in names if len(names) > 1 else []:
        others = [other for other in names if other != name]
        has = np.flatnonzero(data.present[name])
        if by_nature:
            only[name] = _tasks(data, probabilities, measured, has)
            continue
        only[name] = _hidden(predictor, data, measured, has, others)
        if len(others) > 1:
            without[name] = _hidden(predictor, data, measured, np.flatnonzero(data.present[name] & (count > 1)), [name])
    return {"by_nature": by_nature, "only": only, "without": without}


def _hidden(
    predictor: Predictor, data: StudyData, measured: Measure, rows: np.ndarray, hidden: Sequence[str]
) -> dict[str, Any]:
    if not len(rows):
        return {}
    found = predictor.predict_data(data, rows, without=hidden)
    return {
        task: result
        for task in data.tasks
        if _labelled(data, task, rows).any()
        for result in [measured(task, found[task], rows)]
    }


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
