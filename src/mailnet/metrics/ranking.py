"""Areas under the ROC and the precision-recall curve, for many weightings of the studies at once."""

from __future__ import annotations

import numpy as np

from mailnet.metrics.known import Array


def areas(weights: Array, positive: Array, score: Array) -> tuple[Array, Array]:
    """Return AUROC and average precision, (D,) each; NaN where a draw has only one of the two answers.

    Studies of equal score count as one threshold: half a win in AUROC, one step in average precision.

    Args:
        weights: (D, N) weight of each study in each draw.
        positive: (N,) bool, the study has the class.
        score: (N,) its probability of the class.
    """
    order = np.argsort(score, kind="stable")
    score = score[order]
    weight = weights[:, order]
    hit = weight * positive[order]
    starts = np.flatnonzero(np.r_[True, np.diff(score) > 0])
    if len(starts) < len(score):
        weight, hit = np.add.reduceat(weight, starts, axis=1), np.add.reduceat(hit, starts, axis=1)
    # Rising scores: everything up to and including a threshold, so that the rest is at or above it.
    hits_to, all_to = np.cumsum(hit, axis=1), np.cumsum(weight, axis=1)
    hits, every = hits_to[:, -1:], all_to[:, -1:]
    misses_to = all_to - hits_to
    miss = weight - hit
    found, flagged = hits - hits_to + hit, every - all_to + weight
    with np.errstate(divide="ignore", invalid="ignore"):
        won = np.einsum("dn,dn->d", misses_to - 0.5 * miss, hit)
        auroc = won / (hits[:, 0] * misses_to[:, -1])
        precision = np.where(flagged > 0, found / flagged, 0.0)
        auprc = np.einsum("dn,dn->d", precision, hit) / hits[:, 0]
    one_sided = (hits[:, 0] == 0) | (misses_to[:, -1] == 0)
    return np.where(one_sided, np.nan, auroc), np.where(one_sided, np.nan, auprc)
