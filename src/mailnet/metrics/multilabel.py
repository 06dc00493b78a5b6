"""Metrics of tasks where a study may have any number of classes."""

from __future__ import annotations

import numpy as np

from mailnet.metrics.ranking import Ranking
from mailnet.metrics.single import SMALLEST
from mailnet.metrics.values import (
    Array,
    CalibrationErrors,
    Values,
    mean_defined,
    ratio,
)

THRESHOLD = 0.5


class MultiLabel:
    """The metrics as a function of weights; a class is answered where its probability is above one half.

    ``accuracy`` is the share of fully labelled studies with every label right, ``label_accuracy`` the mean of the
    labels' own; Brier score, log loss and calibration error are over single known labels, all classes together.

    Args:
        probabilities: (N, K).
        labels: (N, K) with 0, 1 and NaN where unknown.
        bins: Bins of the calibration errors, see ``SingleLabel``.
    """

    def __init__(self, probabilities: Array, labels: Array, bins: int) -> None:
        known = np.isfinite(labels)
        truth = np.where(known, labels, 0.0)
        said = (probabilities > THRESHOLD).astype(float)
        right = (said == truth) & known
        self.known = known.astype(float)
        self.positive, self.negative = self.known * truth, self.known * (1 - truth)
        self.said, self.right = self.known * said, right.astype(float)
        self.whole = known.all(1).astype(float)
        self.exact = right.all(1).astype(float)
        gap = self.known * (probabilities - truth)
        self.calibration = CalibrationErrors(gap[known], probabilities[known], bins)
        self.labelled = np.nonzero(known)[0]
        self.squares = (self.known * np.square(probabilities - truth)).sum(1)
        likelihood = np.clip(np.where(truth == 1, probabilities, 1 - probabilities), SMALLEST, 1.0)
        self.surprise = -(self.known * np.log(likelihood)).sum(1)
        self.answers = self.known.sum(1)
        self.rows = [np.flatnonzero(column) for column in known.T]
        self.rankings = [Ranking(truth[rows, k] == 1, probabilities[rows, k]) for k, rows in enumerate(self.rows)]

    def __call__(self, weights: Array) -> Values:
        support, negatives, given = weights @ self.positive, weights @ self.negative, weights @ self.said
        hits = weights @ (self.positive * self.said)
        f1 = ratio(2 * hits, support + given)
        f1[support == 0] = np.nan
        sensitivity = ratio(hits, support)
        specificity = ratio(negatives - (given - hits), negatives)
        areas = [ranking.areas(weights[:, rows]) for ranking, rows in zip(self.rankings, self.rows, strict=True)]
        auroc, auprc = (np.stack(several, axis=1) for several in zip(*areas, strict=True))
        accuracy = ratio(weights @ self.right, weights @ self.known)
        answers = weights @ self.answers
        ece, adaptive = self.calibration(weights[:, self.labelled])
        overall = {
            "accuracy": ratio(weights @ self.exact, weights @ self.whole),
            "label_accuracy": mean_defined(accuracy),
            "balanced_accuracy": mean_defined((sensitivity + specificity) / 2),
            "macro_f1": mean_defined(f1),
            "macro_auroc": mean_defined(auroc),
            "macro_auprc": mean_defined(auprc),
            "ece": ece,
            "adaptive_ece": adaptive,
            "brier": ratio(weights @ self.squares, answers),
            "nll": ratio(weights @ self.surprise, answers),
        }
        per_class = {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "precision": ratio(hits, given),
            "f1": f1,
            "auroc": auroc,
            "auprc": auprc,
            "accuracy": accuracy,
        }
        return Values(overall, per_class)
