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


def binned(values: Array, confidence: Array, bins: int) -> Array:
    """Return (N, bins) with each value in the column of its bin, so that one product sums the bins of a weighting."""
    table = np.zeros((len(values), bins))
    table[np.arange(len(values)), place_in_bins(confidence, bins)] = values
    return table


def chunks(total: int, studies: int) -> Iterator[int]:
    """Yield sizes that add up to ``total``, each small enough for the processor's cache to hold its weights."""
    size = max(1, 200_000 // max(studies, 1))
    for start in range(0, total, size):
        yield min(size, total - start)
