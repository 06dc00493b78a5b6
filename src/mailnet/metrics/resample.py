"""Bootstrap draws as weights: how often each study is in each draw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mailnet.metrics.known import Array

# Draws at a time, so that the arrays of (draws, studies) stay in the processor's cache.
CHUNK_ELEMENTS = 200_000


def bootstrap_weights(groups: Array, draws: int, seed: int) -> Iterator[Array]:
    """Yield (d, N) weights, ``draws`` rows over all pieces.

    Whole groups are drawn with replacement, as many as there are, since studies of one patient are not independent.

    Args:
        groups: (N,) group of each study, of any type that sorts.
        draws: Number of draws.
        seed: Of the draws.

    Source:
        C. A. Field and A. H. Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69 (2007), 369-390.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    random = np.random.default_rng(seed)
    step = max(1, CHUNK_ELEMENTS // len(member))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = random.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield times[:, member.ravel()].astype(np.float64)


def percentile_interval(draws: Array, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval of a metric's draws, undefined draws (NaN) left out; None where most are.

    Source:
        B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3.
    """
    defined = draws[np.isfinite(draws)]
    if len(defined) == 0 or 2 * len(defined) < len(draws):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
