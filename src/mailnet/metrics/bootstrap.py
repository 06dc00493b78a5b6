"""Percentile intervals by resampling studies, or whole groups of them (Efron 1979; Field and Welsh 2007)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mailnet.metrics.values import Array, chunks

LEVEL = 0.95


def draw_weights(studies: int, groups: Array | None, draws: int, seed: int) -> Iterator[Array]:
    """Yield how often each study counts in each draw, some draws at a time.

    Args:
        studies: N.
        groups: (N,) any values; the studies of one group are drawn together, since they resemble each other. None draws
            single studies.
        draws: Number of draws in all.
        seed: Of the draws.

    Yields:
        (d, N) float64, whole numbers.
    """
    member = np.arange(studies) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    units = int(member.max()) + 1
    random = np.random.default_rng(seed)
    for size in chunks(draws, studies):
        drawn = random.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        yield counts.astype(np.float64).T[member].T


def interval(draws: Array) -> tuple[float, float] | None:
    """Return the 95% percentile interval.

    Args:
        draws: (D,) with NaN where a draw lacks what the metric needs, as a rare class.

    Returns:
        Low and high; None where half of the draws or more are not defined.
    """
    defined = draws[np.isfinite(draws)]
    if not len(draws) or 2 * len(defined) <= len(draws):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
