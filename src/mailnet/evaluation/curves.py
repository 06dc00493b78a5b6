"""The curves of a task as JSON holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mailnet.metrics import precision_recall_curve, reliability, roc_curve
from mailnet.specs import TaskSpec


def task_curves(probabilities: np.ndarray, labels: np.ndarray, spec: TaskSpec, bins: int) -> dict[str, Any]:
    """Return the ROC and precision-recall curve of each class, and the reliability diagram.

    Args:
        probabilities: (N, K).
        labels: (N,) int with -1 where unknown, or (N, K) with NaN for multilabel.
        spec: The task.
        bins: Of the reliability diagram.

    Returns:
        ``roc`` (class -> ``x`` false-positive and ``y`` true-positive rate) and ``precision_recall`` (class -> ``x``
        recall and ``y`` precision), classes left out where a curve is not defined and of a binary task all but the
        second; ``reliability`` (``confidence``, ``accuracy`` and ``count`` of each bin that is not empty).
    """
    several = spec.kind == "multilabel"
    curves: dict[str, Any] = {"roc": {}, "precision_recall": {}}
    for k, name in enumerate(spec.classes):
        if spec.kind == "binary" and k == 0:
            continue
        known = np.isfinite(labels[:, k]) if several else labels >= 0
        positive = labels[known, k] == 1 if several else labels[known] == k
        for key, curve in (("roc", roc_curve), ("precision_recall", precision_recall_curve)):
            found = curve(positive, probabilities[known, k]) if known.any() else None
            if found is not None:
                curves[key][name] = {"x": _plain(found.x), "y": _plain(found.y)}
    if several:
        known = np.isfinite(labels)
        right, confidence = labels[known] == 1, probabilities[known]
    else:
        known = labels >= 0
        right, confidence = probabilities[known].argmax(1) == labels[known], probabilities[known].max(1)
    points = reliability(right, confidence, bins)
    curves["reliability"] = {
        "confidence": _plain(points.confidence),
        "accuracy": _plain(points.accuracy),
        "count": points.count.tolist(),
    }
    return curves


def _plain(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]
