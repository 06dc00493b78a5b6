"""What the metrics of one task are computed from, and what they give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"


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


class EvenBins:
    """The calibration error over bins that hold as many studies each; equally confident studies share one.

    Args:
        gaps: (N,) confidence less what it should be.
        confidence: (N,).
        bins: How many.

    Source: Nixon et al., "Measuring calibration in deep learning", CVPR workshops 2019.
    """

    def __init__(self, gaps: Array, confidence: Array, bins: int) -> None:
        self.order = np.argsort(confidence, kind="stable")
        ranked = confidence[self.order]
        self.first, self.gaps, self.bins = np.searchsorted(ranked, ranked), gaps[self.order], bins

    def __call__(self, weights: Array) -> Array:
        """Return (D,) from (D, N), how often each study counts; bins are even under each weighting."""
        ranked = weights[:, self.order]
        after = np.cumsum(ranked, 1)
        total = after[:, -1:]
        before = (after - ranked)[:, self.first]
        place = np.minimum((before * self.bins / np.maximum(total, 1e-300)).astype(int), self.bins - 1)
        place += np.arange(len(weights))[:, None] * self.bins
        sums = np.bincount(place.ravel(), (ranked * self.gaps).ravel(), len(weights) * self.bins)
        return ratio(np.abs(sums.reshape(len(weights), self.bins)).sum(1), total[:, 0])


def binned(values: Array, places: Array, bins: int) -> Array:
    """Return (N, bins) with each value in the column of its bin, so that one product sums the bins of a weighting."""
    table = np.zeros((len(values), bins))
    table[np.arange(len(values)), places] = values
    return table


def chunks(total: int, studies: int) -> Iterator[int]:
    """Yield sizes that add up to ``total``, each small enough for the processor's cache to hold its weights."""
    size = max(1, 200_000 // max(studies, 1))
    for start in range(0, total, size):
        yield min(size, total - start)
