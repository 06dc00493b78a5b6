"""Networks ranked over several data sets, after Demsar, JMLR 7 (2006): Friedman, Nemenyi, Wilcoxon with Holm.

Source: J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7:1-30, 2006; Holm 1979.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

Array = np.ndarray[Any, Any]
LEVEL = 0.05


def rank(scores: Array) -> Array:
    """Return ranks, 1 for the highest score of a data set, the mean of their places for equal ones.

    Args:
        scores: (N, k), a row a data set and a column a network.

    >>> rank(np.array([[0.9, 0.7, 0.9]])).tolist()
    [[1.5, 3.0, 1.5]]
    """
    return np.asarray(stats.rankdata(-scores, axis=1))


def friedman(ranks: Array) -> dict[str, float]:
    """Test whether all networks are equal.

    Args:
        ranks: (N, k) of ``rank``, N and k 2 or more.

    Returns:
        ``chi2`` (Friedman's statistic, corrected for ties) and its ``p``, and ``f`` (Iman and Davenport 1980, less
        conservative) and its ``p_f``; the latter are infinity and 0 where all data sets agree.

    >>> friedman(np.array([[1, 2, 3], [1, 2, 3], [2, 1, 3]]))["chi2"].__round__(3)
    4.667
    """
    sets, networks = ranks.shape
    means = ranks.mean(0)
    chi2 = 12 * sets / (networks * (networks + 1)) * (np.square(means).sum() - networks * (networks + 1) ** 2 / 4)
    tied = sum((np.unique(row, return_counts=True)[1] ** 3.0).sum() - networks for row in ranks)
    left = 1 - tied / (sets * networks * (networks**2 - 1))
    if left <= 0:  # all networks tie on every data set
        return {"chi2": 0.0, "p": 1.0, "f": 0.0, "p_f": 1.0}
    chi2 = float(chi2 / left)
    f = iman_davenport(chi2, networks, sets)
    p_f = 0.0 if math.isinf(f) else float(stats.f.sf(f, networks - 1, (networks - 1) * (sets - 1)))
    return {"chi2": chi2, "p": float(stats.chi2.sf(chi2, networks - 1)), "f": f, "p_f": p_f}


def iman_davenport(chi2: float, networks: int, sets: int) -> float:
    """Return the F statistic of Friedman's, with k - 1 and (k - 1)(N - 1) degrees of freedom.

    >>> round(iman_davenport(9.28, 4, 14), 2)
    3.69
    """
    rest = sets * (networks - 1) - chi2
    return math.inf if rest <= 1e-9 else (sets - 1) * chi2 / rest


def critical_difference(networks: int, sets: int, level: float = LEVEL) -> float:
    """Return how far two mean ranks must be apart to differ, all pairs taken together (Nemenyi 1963).

    Args:
        networks: k.
        sets: N, number of data sets.
        level: Chance of any false finding.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    quantile = float(stats.studentized_range.ppf(1 - level, networks, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(networks * (networks + 1) / (6 * sets))


def cliques(means: Array, difference: float) -> list[tuple[int, int]]:
    """Return the largest runs of networks whose mean ranks do not differ.

    Args:
        means: (k,) mean ranks, rising.
        difference: The critical difference.

    Returns:
        First and last place of each run of two or more, none within another.

    >>> cliques(np.array([1.0, 2.0, 2.5, 4.0]), 1.6)
    [(0, 2), (2, 3)]
    """
    runs: list[tuple[int, int]] = []
    for first in range(len(means)):
        last = int(np.searchsorted(means, means[first] + difference, side="left")) - 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def pairwise(scores: Array, control: int | None = None) -> list[tuple[int, int, float, float]]:
    """Compare every two networks over the data sets, or only a control with every other.

    Args:
        scores: (N, k).
        control: Its place, where one was named beforehand: fewer comparisons leave more power to each.

    Returns:
        First and second network, the two-sided p of Wilcoxon's signed ranks, and the same after Holm's correction for
        the comparisons that were made.
    """
    pairs = [pair for pair in combinations(range(scores.shape[1]), 2) if control is None or control in pair]
    p = [_wilcoxon(scores[:, a] - scores[:, b]) for a, b in pairs]
    return [(a, b, one, corrected) for (a, b), one, corrected in zip(pairs, p, holm(p), strict=True)]


def holm(p: list[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the same order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p)
    largest = 0.0
    for place, number in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - place) * p[number]))
        corrected[number] = largest
    return corrected


def _wilcoxon(differences: Array) -> float:
    return 1.0 if not differences.any() else float(stats.wilcoxon(differences).pvalue)
