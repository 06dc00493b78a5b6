"""Fairness: how far subgroups of patients lie apart, in every metric that a reader would ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mailnet.data.config import EvaluationConfig
from mailnet.data.study import StudyData
from mailnet.evaluation.subgroups import subgroups_of
from mailnet.metrics import weighted_metric
from mailnet.trust.fairness import holm, measure_gap

COMPARED = ("balanced_accuracy", "macro_auroc", "ece")


def gap_tables(
    data: StudyData, probabilities: Mapping[str, np.ndarray], settings: EvaluationConfig
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return column -> task -> metric -> the gap between the column's subgroups, with each group's value.

    ``corrected`` is ``chance`` after Holm's correction for all gaps of the evaluation, which are looked at together.

    Args:
        data: The studies.
        probabilities: Task -> (N, K).
        settings: Draws of the intervals, bins and seed.
    """
    patients = data.frame["group"].to_numpy(dtype=str)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for column, of in subgroups_of(data).items():
        found[column] = {task: {} for task in data.tasks}
        for task, spec in data.tasks.items():
            for name in COMPARED:
                gap = measure_gap(
                    weighted_metric(name, probabilities[task], data.labels[task], spec, bins=settings.bins),
                    of.values,
                    patients=patients,
                    bootstrap=settings.bootstrap,
                    permutations=settings.bootstrap,
                    seed=settings.seed,
                ).as_dict()
                found[column][task][name] = {**gap, **{key: of.ordered(gap[key]) for key in ("groups", "left_out")}}
    every = [gap for tasks in found.values() for metrics in tasks.values() for gap in metrics.values()]
    tested = [gap for gap in every if gap["chance"] is not None]
    for gap in every:
        gap["corrected"] = None
    for gap, corrected in zip(tested, holm([gap["chance"] for gap in tested]), strict=True):
        gap["corrected"] = corrected
    return found
