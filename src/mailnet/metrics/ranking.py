"""Areas under the ROC and the precision-recall curve, for many weightings of the same studies at once."""

from __future__ import annotations

import numpy as np

from mailnet.metrics.values import Array, ratio


class Ranking:
    """Studies in the order of one score, sorted once.

    Args:
        positive: (N,) bool, the study has the class.
        score: (N,) probability of the class.
    """

    def __init__(self, positive: Array, score: Array) -> None:
        self.order = np.argsort(-score, kind="stable")
        self.positive = positive[self.order].astype(float)
        ordered = score[self.order]
        # Ties stand at one point of a curve: only the last of equal scores counts.
        self.last = np.r_[np.flatnonzero(np.diff(ordered)), len(ordered) - 1] if len(ordered) else np.zeros(0, int)

    def areas(self, weights: Array) -> tuple[Array, Array]:
        """Return AUROC and average precision.

        The first by trapezoids, so that ties count one half (Hanley and McNeil 1982); the second as the sum of
        precision times the step in recall, without interpolation.

        Args:
            weights: (D, N).

        Returns:
            Two arrays (D,); NaN where positives are missing and, for AUROC, where negatives are.
        """
        if not len(self.last):
            return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
        # Studies as rows: gathering and adding up whole rows is several times faster than along them.
        ordered = weights.T[self.order]
        hits = np.cumsum(ordered * self.positive[:, None], axis=0)[self.last]
        both = np.cumsum(ordered, axis=0)[self.last]
        alarms = both - hits
        steps = np.diff(hits, axis=0, prepend=0.0)
        positives, negatives = hits[-1], alarms[-1]
        before = hits - steps / 2
        auroc = ratio((np.diff(alarms, axis=0, prepend=0.0) * before).sum(0), positives * negatives)
        precision = np.divide(hits, both, out=np.zeros_like(hits), where=both > 0)
        return auroc, ratio((precision * steps).sum(0), positives)
