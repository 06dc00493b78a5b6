"""The metrics by subgroup, and with each modality alone and left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from mailnet.data.study import StudyData
from mailnet.evaluation.hiding import Answers, Hidden, leave_out, show_only
from mailnet.evaluation.subgroups import subgroups_of

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
    for column, of in subgroups_of(data).items():
        values = np.where(of.values == "", NO_VALUE, of.values)
        names, counts = np.unique(values, return_counts=True)
        common = set(names[np.argsort(-counts, kind="stable")[:MOST_VALUES]].tolist())
        tables[column] = {
            name: _tasks(data, probabilities, measured, np.flatnonzero(values == name))
            for name in [NO_VALUE, *of.order]
            if name in common
        }
    return tables


def plan_shares(data: StudyData) -> dict[str, dict[str, Hidden]]:
    """Return what shows each modality's share, each on the studies that have it: ``only`` and ``without``, by modality.

    Of two modalities, leaving one out is having the other alone, and is not planned twice. In the unpaired regime
    every study has but one modality, and nothing is left to hide.
    """
    names = list(data.modalities)
    unpaired = data.config.regime == "unpaired"
    return {
        "only": {name: show_only(data, (name,)) for name in names if unpaired or len(names) > 1},
        "without": {name: leave_out(data, name) for name in names if not unpaired and len(names) > 2},
    }


def modality_tables(
    data: StudyData, shares: Mapping[str, Mapping[str, Hidden]], answers: Answers, measured: Measure
) -> dict[str, Any]:
    """Return the metrics with each modality alone and each left out.

    Args:
        data: The studies.
        shares: From ``plan_shares``.
        answers: From ``predict_hidden``.
        measured: Measures a task.

    Returns:
        ``only`` and ``without``, modality -> task -> metrics; ``by_nature`` says that every study has but one modality,
        so that ``only`` holds the plain results by modality.
    """
    return {
        "by_nature": data.config.regime == "unpaired",
        **{
            group: {name: hidden_table(data, hidden, answers, measured) for name, hidden in of.items()}
            for group, of in shares.items()
        },
    }


def hidden_table(data: StudyData, hidden: Hidden, answers: Answers, measured: Measure) -> dict[str, Any]:
    """Return task -> metrics of studies with modalities hidden, ``small`` marking fewer than 30 labelled studies."""
    return _tasks(data, answers.get(hidden.without, answers[()]), measured, hidden.rows)


def _tasks(
    data: StudyData, probabilities: Mapping[str, np.ndarray], measured: Measure, rows: np.ndarray
) -> dict[str, Any]:
    found = {}
    for task in data.tasks:
        if labelled(data, task, rows).any():
            result = measured(task, probabilities[task][rows], rows)
            found[task] = {**result, "small": result["n"] < SMALL_GROUP}
    return found


def labelled(data: StudyData, task: str, rows: np.ndarray) -> np.ndarray:
    """Return (n,) bool, which of some studies have a label of a task."""
    labels = data.labels[task][rows]
    return np.asarray(np.isfinite(labels).any(1) if labels.ndim == 2 else labels >= 0)
