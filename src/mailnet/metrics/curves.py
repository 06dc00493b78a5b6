"""Points of ROC, precision-recall and reliability curves, few enough to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mailnet.metrics.values import Array, place_in_bins

DRAWN_POINTS = 160


@dataclass(frozen=True)
class Curve:
    """A curve as two arrays of P points, each in [0, 1]."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Reliability:
    """Per non-empty bin of the top probability: mean confidence, share of right answers, number of studies."""

    confidence: Array
    accuracy: Array
    count: Array


def roc_curve(positive: Array, score: Array) -> Curve | None:
    """Return false-positive against true-positive rate.

    Args:
        positive: (N,) bool, the study has the class.
        score: (N,) probability of the class.

    Returns:
        The curve from (0, 0) to (1, 1), or None where only one of the two answers occurs.
    """
    hits, misses = _cumulative(positive, score)
    if not hits[-1] or not misses[-1]:
        return None
    return _thin(np.r_[0.0, misses / misses[-1]], np.r_[0.0, hits / hits[-1]])


def precision_recall_curve(positive: Array, score: Array) -> Curve | None:
    """Return recall against precision, from the highest threshold down.

    Args:
        positive: (N,) bool, the study has the class.
        score: (N,) probability of the class.

    Returns:
        The curve, or None where no study has the class.
    """
    hits, misses = _cumulative(positive, score)
    if not hits[-1]:
        return None
    precision = hits / (hits + misses)
    return _thin(np.r_[0.0, hits / hits[-1]], np.r_[precision[0], precision])


def reliability(right: Array, confidence: Array, bins: int) -> Reliability:
    """Return the reliability diagram of equal-width bins.

    Args:
        right: (N,) bool, the prediction is right.
        confidence: (N,) its probability.
        bins: Number of bins on [0, 1].
    """
    place = place_in_bins(confidence, bins)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    share = np.bincount(place, weights=right.astype(float), minlength=bins)[filled] / count[filled]
    mean = np.bincount(place, weights=confidence, minlength=bins)[filled] / count[filled]
    return Reliability(mean, share, count[filled])


def _cumulative(positive: Array, score: Array) -> tuple[Array, Array]:
    """Return positives and negatives at or above each distinct score, highest score first."""
    order = np.argsort(-score, kind="stable")
    hits, score = np.cumsum(positive[order].astype(float)), score[order]
    last = np.r_[np.flatnonzero(np.diff(score)), len(score) - 1]
    return hits[last], last + 1 - hits[last]


def _thin(x: Array, y: Array) -> Curve:
    """Keep about DRAWN_POINTS points, evenly spaced along the length of the curve."""
    if len(x) > DRAWN_POINTS:
        length = np.r_[0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y)))]
        keep = np.searchsorted(length, np.linspace(0, length[-1], DRAWN_POINTS))
        keep = np.unique(np.r_[0, np.minimum(keep, len(x) - 1), len(x) - 1])
        x, y = x[keep], y[keep]
    return Curve(x, y)
