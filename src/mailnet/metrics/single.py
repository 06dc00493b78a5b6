"""Metrics of tasks where a study has one class: binary, multiclass and ordinal."""

from __future__ import annotations

import numpy as np

from mailnet.metrics.ranking import Ranking
from mailnet.metrics.values import (
    Array,
    CalibrationErrors,
    Values,
    mean_defined,
    ratio,
)
from mailnet.specs import TaskSpec

SMALLEST = float(np.finfo(np.float64).eps)


class SingleLabel:
    """The metrics as a function of weights; the answer is the class of the highest probability.

    Class means are over the classes that occur among the weighted labels.

    Args:
        probabilities: (N, K).
        labels: (N,) int, all known.
        spec: The task.
        bins: Bins of the calibration errors: of equal width (``ece``, Guo et al. 2017), and with as many studies each
            (``adaptive_ece``, Nixon et al. 2019).
    """

    def __init__(self, probabilities: Array, labels: Array, spec: TaskSpec, bins: int) -> None:
        studies, classes = probabilities.shape
        said, each = probabilities.argmax(1), np.arange(studies)
        confidence = probabilities.max(1)
        self.spec = spec
        truth, answer = np.eye(classes)[labels], np.eye(classes)[said]
        self.calibration = CalibrationErrors(confidence - (said == labels), confidence, bins)
        squares = np.square(probabilities - truth).sum(1)
        surprise = -np.log(np.clip(probabilities[each, labels], SMALLEST, 1.0))
        distance = np.abs(said - labels).astype(float)
        # Of two classes the score is by custom that of one of them, half the sum over both.
        sums = [squares / 2 if spec.kind == "binary" else squares, surprise, distance, np.square(distance)]
        # One product adds up all that is a plain sum: labels, answers and right answers by class, then these.
        self.table = np.column_stack([truth, answer, truth * answer, *sums])
        self.rankings = [Ranking(labels == k, probabilities[:, k]) for k in range(classes)]

    def __call__(self, weights: Array) -> Values:
        total = weights.sum(1)
        size = len(self.spec.classes)
        support, given, hits, sums = np.split(weights @ self.table, [size, 2 * size, 3 * size], axis=1)
        squares, surprise, distance, apart = sums.T
        ece, adaptive = self.calibration(weights)
        sensitivity = ratio(hits, support)
        others = total[:, None] - support
        f1 = ratio(2 * hits, support + given)
        f1[support == 0] = np.nan
        areas = [ranking.areas(weights) for ranking in self.rankings]
        auroc, auprc = (np.stack(several, axis=1) for several in zip(*areas, strict=True))
        binary = self.spec.kind == "binary"
        overall = {
            "accuracy": ratio(hits.sum(1), total),
            "balanced_accuracy": mean_defined(sensitivity),
            "macro_f1": mean_defined(f1),
            "macro_auroc": auroc[:, 1] if binary else mean_defined(auroc),
            "macro_auprc": auprc[:, 1] if binary else mean_defined(auprc),
            "ece": ece,
            "adaptive_ece": adaptive,
            "brier": ratio(squares, total),
            "nll": ratio(surprise, total),
        }
        if self.spec.kind == "ordinal":
            overall["quadratic_kappa"] = _kappa(apart, support, given, total)
            overall["mean_absolute_error"] = ratio(distance, total)
        per_class = {
            "sensitivity": sensitivity,
            "specificity": ratio(others - (given - hits), others),
            "precision": ratio(hits, given),
            "f1": f1,
            "auroc": auroc,
            "auprc": auprc,
        }
        return Values(overall, per_class)


def _kappa(apart: Array, support: Array, given: Array, total: Array) -> Array:
    """Cohen's kappa with weights (i - j)^2 (Cohen 1968), of the sum of these, ``apart`` (D,)."""
    rank = np.arange(support.shape[1])
    cost = np.square(rank[:, None] - rank[None, :]).astype(float)
    expected = ((support @ cost) * given).sum(1)
    return 1 - ratio(apart * total, expected)
