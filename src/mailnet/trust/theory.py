"""How often sets must hold the true answer: the exact distribution that split conformal prediction gives."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mailnet.trust.arrays import Array

# Above so many studies in all the sum is normal to many digits, and its exact distribution costs seconds.
EXACT_UP_TO = 200_000


def covered_distribution(calibration: int, tested: int, alpha: float) -> Array:
    """Return the chance of each number of tested studies whose score is within the threshold.

    Of n + m scores without ties, in random order, how many of the m tested lie below the r-th smallest of the n, with
    r = ceil((n + 1)(1 - alpha)), is beta-binomial with parameters m, r and n + 1 - r, whatever the scores are. With
    ties, and where empty sets are filled, more are covered, never fewer.

    Args:
        calibration: n.
        tested: m.
        alpha: Chance of missing the true answer.

    Returns:
        (m + 1,) chances of 0 to m. All is on m where n is too small for a finite threshold.

    Source: Vovk 2012; Angelopoulos and Bates 2023.
    """
    from scipy.stats import betabinom

    rank = int(np.ceil((calibration + 1) * (1 - alpha) - 1e-9))
    if rank > calibration:
        return np.asarray(np.arange(tested + 1) == tested, dtype=np.float64)
    return np.asarray(betabinom.pmf(np.arange(tested + 1), tested, rank, calibration + 1 - rank))


def covered_interval(trials: Counter[tuple[int, int]], alpha: float, level: float) -> tuple[float, float]:
    """Return the central interval of the share of studies covered in several independent trials together.

    Args:
        trials: (calibration studies, tested studies) -> how many such trials.
        alpha: Chance of missing the true answer.
        level: Of the interval.

    Returns:
        Low and high, shares of all tested studies; both can be reached.
    """
    total = sum(tested * count for (_, tested), count in trials.items())
    tail = (1 - level) / 2
    parts = [(covered_distribution(n, m, alpha), count) for (n, m), count in trials.items()]
    if total > EXACT_UP_TO:
        from scipy.stats import norm

        numbers = [np.arange(len(chances)) for chances, _ in parts]
        means = [float(c @ k) for (c, _), k in zip(parts, numbers, strict=True)]
        mean = sum(m * count for m, (_, count) in zip(means, parts, strict=True))
        spread = sum(
            float(c @ np.square(k - m)) * count for (c, count), k, m in zip(parts, numbers, means, strict=True)
        )
        reach = float(norm.isf(tail)) * float(np.sqrt(spread))
        return max(mean - reach, 0) / total, min(mean + reach, total) / total
    # The distribution of a sum is the product of the transforms.
    size = 1 << total.bit_length()
    spectrum = np.ones(size // 2 + 1, dtype=complex)
    for chances, count in parts:
        spectrum *= np.fft.rfft(chances, size) ** count
    below = np.cumsum(np.fft.irfft(spectrum, size)[: total + 1])
    low, high = (int(np.searchsorted(below, chance)) for chance in (tail, 1 - tail))
    return low / total, min(high, total) / total
