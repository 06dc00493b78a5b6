"""Ranks against Demsar's published numbers and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mailnet.benchmark.ranks import cliques, critical_difference, friedman, holm, iman_davenport, pairwise, rank


def test_critical_values_are_those_of_demsar() -> None:
    # Table 5(a) of Demsar 2006, two-tailed Nemenyi test at 0.05 and 0.10, for 2 to 10 classifiers.
    published = {
        0.05: [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164],
        0.10: [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920],
    }
    for level, values in published.items():
        for k, value in enumerate(values, 2):
            assert critical_difference(k, 6, level) / math.sqrt(k * (k + 1) / 36) == pytest.approx(value, abs=1.1e-3)


def test_demsars_example() -> None:
    # Four versions of C4.5 on 14 data sets: CD 1.25 at 0.05 and 1.12 at 0.10, F 3.69 from a chi-squared of 9.28.
    assert round(critical_difference(4, 14), 2) == 1.25
    assert round(critical_difference(4, 14, 0.10), 2) == 1.12
    assert round(iman_davenport(9.28, 4, 14), 2) == 3.69


@pytest.mark.parametrize("digits", [8, 1])
def test_friedman_is_scipys_with_and_without_ties(digits: int) -> None:
    scores = np.random.default_rng(0).random((9, 5)).round(digits)
    if digits == 1:
        assert any(len(set(row)) < 5 for row in scores.tolist())
    found = friedman(rank(scores))
    expected = stats.friedmanchisquare(*scores.T)
    assert (found["chi2"], found["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert found["f"] == pytest.approx(8 * found["chi2"] / (36 - found["chi2"]))


def test_friedman_at_its_ends() -> None:
    agreed = friedman(rank(np.tile([0.9, 0.8, 0.7], (4, 1))))
    assert (agreed["chi2"], agreed["f"], agreed["p_f"]) == (pytest.approx(8), math.inf, 0.0)
    tied = friedman(rank(np.ones((4, 3))))
    assert (tied["chi2"], tied["p"], tied["p_f"]) == (0.0, 1.0, 1.0)


def test_cliques_are_the_largest_runs() -> None:
    assert cliques(np.array([1.0, 1.5, 3.0, 3.2, 5.0]), 1.6) == [(0, 1), (1, 2), (2, 3)]
    assert cliques(np.array([1.0, 1.2, 1.4]), 1.0) == [(0, 2)]
    assert cliques(np.array([1.0, 2.0]), 1.0) == []  # as far apart as the critical difference is different


def test_pairs_are_scipys_corrected_for_their_number() -> None:
    scores = np.random.default_rng(1).random((10, 3)) + np.array([0.0, 0.2, 0.6])
    found = pairwise(scores)
    plain = [stats.wilcoxon(scores[:, a], scores[:, b]).pvalue for a, b in ((0, 1), (0, 2), (1, 2))]
    assert [p for _, _, p, _ in found] == pytest.approx(plain)
    assert [corrected for _, _, _, corrected in found] == holm(plain)
    assert pairwise(np.ones((5, 2))) == [(0, 1, 1.0, 1.0)]
    control = pairwise(scores, 1)
    assert [(a, b) for a, b, _, _ in control] == [(0, 1), (1, 2)]
    assert [corrected for _, _, _, corrected in control] == holm([plain[0], plain[2]])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
