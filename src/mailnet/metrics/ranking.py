"""Areas under the ROC and the precision-recall curve, for many weightings of the same studies at once."""

from __future__ import annotations

import numpy as np

from mailnet.metrics.values import Array, ratio


class Ranking:
    """Studies in the order of one score, sorted once.

    Both areas are sums over the positives of what stands above each, so a weighting is added up along positives and
    along negatives, and only positives are looked at again. Equal scores stand at one point of a curve, at its end.

    Args:
        positive: (N,) bool, the study has the class.
        score: (N,) probability of the class.
    """

    def __init__(self, positive: Array, score: Array) -> None:
        order = np.argsort(-score, kind="stable")
        ordered, has = score[order], positive[order]
        self.positives, self.negatives = order[has], order[~has]
        change = np.flatnonzero(np.diff(ordered))
        starts, ends = np.r_[0, change + 1], np.r_[change + 1, len(ordered)]
        place = np.searchsorted(starts, np.flatnonzero(has), side="right") - 1  # of each positive among the scores
        count = np.r_[0, np.cumsum(has)]  # positives among the first so many
        above, self.within = starts[place] - count[starts[place]], ends[place] - count[ends[place]]
        last = count[ends[place]] - 1
        # Most scores are equal to no other, and then there is nothing to look up.
        self.above = None if (above == self.within).all() else above
        self.last = None if (last == np.arange(len(last))).all() else last

    def areas(self, weights: Array) -> tuple[Array, Array]:
        """Return AUROC and average precision.

        The first by trapezoids, so that ties count one half (Hanley and McNeil 1982); the second as the sum of
        precision times the step in recall, without interpolation.

        Args:
            weights: (D, N).

        Returns:
            Two arrays (D,); NaN where positives are missing and, for AUROC, where negatives are.
        """
        if not len(self.positives):
            return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
        # Studies as rows: gathering and adding up whole rows is several times faster than along them.
        columns = weights.T
        own = columns[self.positives]
        hits = np.cumsum(own, axis=0)
        alarms = np.zeros((len(self.negatives) + 1, len(weights)))
        np.cumsum(columns[self.negatives], axis=0, out=alarms[1:])
        positives, negatives = hits[-1], alarms[-1]
        within = alarms[self.within]  # negatives down to the score of each positive, its own included
        before = within if self.above is None else (within + alarms[self.above]) / 2
        auroc = ratio(positives * negatives - (own * before).sum(0), positives * negatives)
        if self.last is not None:
            hits = hits[self.last]
        both = hits + within
        precision = np.divide(hits, both, out=np.zeros_like(hits), where=both > 0)
        return auroc, ratio((precision * own).sum(0), positives)
