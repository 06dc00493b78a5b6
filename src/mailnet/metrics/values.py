"""What the metrics of one task are computed from, and what they give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"

SINGLE = 10_000  # studies from which on draws are made one by one


@dataclass(frozen=True)
class Values:
    """Metrics under D weightings of the studies; NaN where one is not defined.

    Args:
        overall: Metric -> (D,).
        per_class: Metric -> (D, K).
    """

    overall: dict[str, Array]
    per_class: dict[str, Array]

    @staticmethod
    def stack(parts: list[Values]) -> Values:
        """Join the values of several sets of weightings."""
        return Values(
            {key: np.concatenate([part.overall[key] for part in parts]) for key in parts[0].overall},
            {key: np.concatenate([part.per_class[key] for part in parts]) for key in parts[0].per_class},
        )


class Statistics(Protocol):
    """The metrics of one task as a function of how often each study counts."""

    def __call__(self, weights: Array) -> Values:
        """Return the metrics.

        Args:
            weights: (D, N), how often each study counts; a row of ones gives the plain metrics.
        """
        ...


def ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; NaN where the denominator is zero.

    >>> ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    possible = denominator > 0
    quotient: Array = np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=possible)
    return quotient


def mean_defined(values: Array) -> Array:
    """Return the mean over the classes whose value is defined; NaN where none is.

    Args:
        values: (D, K) with NaN.

    >>> mean_defined(np.array([[1.0, np.nan, 0.0]]))
    array([0.5])
    """
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(1), defined.sum(1).astype(float))


def place_in_bins(confidence: Array, bins: int) -> Array:
    """Return the number of the equal-width bin on [0, 1] of each confidence; bins hold their upper edge."""
    return np.asarray(np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1))


class CalibrationErrors:
    """The calibration error over bins of equal width, and over bins that hold as many studies each.

    Equally confident studies share a bin. Studies are sorted once, so that both errors are sums along one order.

    Args:
        gaps: (N,) confidence less what it should be.
        confidence: (N,).
        bins: How many.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017; Nixon et al., "Measuring calibration in
        deep learning", CVPR workshops 2019.
    """

    def __init__(self, gaps: Array, confidence: Array, bins: int) -> None:
        self.order = np.argsort(confidence, kind="stable")
        ranked = confidence[self.order]
        first = np.searchsorted(ranked, ranked)
        self.first = None if (first == np.arange(len(first))).all() else first
        self.gaps, self.bins = gaps[self.order], bins
        self.starts = np.flatnonzero(np.diff(place_in_bins(ranked, bins), prepend=-1))  # of bins that hold any

    def __call__(self, weights: Array) -> tuple[Array, Array]:
        """Return both errors, each (D,), from how often each study counts, (D, N); NaN where none does.

        Even bins are even under each weighting.
        """
        draws = len(weights)
        if not len(self.order):
            return np.full(draws, np.nan), np.full(draws, np.nan)
        ranked = weights.T[self.order]  # studies as rows, see Ranking
        before = np.cumsum(ranked, axis=0)
        total = before[-1].copy()
        before -= ranked
        ranked *= self.gaps[:, None]
        wide = np.abs(np.add.reduceat(ranked, self.starts, axis=0)).sum(0)
        if self.first is not None:
            before = before[self.first]
        before *= self.bins
        before /= np.maximum(total, 1e-300)
        place = np.minimum(before.astype(int), self.bins - 1)
        place += np.arange(draws) * self.bins
        sums = np.bincount(place.ravel(), ranked.ravel(), draws * self.bins)
        even = np.abs(sums.reshape(draws, self.bins)).sum(1)
        return ratio(wide, total), ratio(even, total)


def chunks(total: int, studies: int) -> Iterator[int]:
    """Yield sizes that add up to ``total``, each small enough for the processor's cache to hold its weights.

    Of few studies many draws are made at once, since a call costs more than its work; of many one, since adding up a
    row of its own is twice as fast as adding up a few side by side.
    """
    size = max(1, 200_000 // max(studies, 1)) if studies < SINGLE else 1
    for start in range(0, total, size):
        yield min(size, total - start)
