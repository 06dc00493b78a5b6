"""Intervals hold what they say, and patients are drawn whole."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mailnet.metrics import measure
from mailnet.metrics.bootstrap import draw_weights, interval
from mailnet.specs import TaskSpec

SPEC = TaskSpec("t", ("no", "yes"), "binary")


def test_each_draw_has_as_many_groups_and_whole_ones() -> None:
    groups = np.repeat(["c", "a", "b", "d"], [1, 2, 3, 4])
    weights = np.concatenate(list(draw_weights(10, groups, 500, 0)))
    assert weights.shape == (500, 10)
    firsts = [0, 1, 3, 6]
    assert (weights[:, firsts].sum(1) == 4).all()
    for start, size in zip(firsts, (1, 2, 3, 4), strict=True):
        assert (weights[:, start : start + size] == weights[:, [start]]).all()
    assert np.allclose(weights.mean(0), 1, atol=0.15)


def test_draws_repeat_with_their_seed() -> None:
    one, again, other = (np.concatenate(list(draw_weights(50, None, 20, seed))) for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()


def test_interval_leaves_undefined_draws_out() -> None:
    draws = np.r_[np.linspace(0, 1, 101), np.full(50, np.nan)]
    assert interval(draws) == pytest.approx((0.025, 0.975))
    assert interval(np.r_[np.zeros(5), np.full(5, np.nan)]) is None
    assert interval(np.zeros(0)) is None


def test_one_group_has_no_interval() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = measure(p, np.array([0, 1, 1]), SPEC, groups=np.array(["a"] * 3))
    assert set(found["metrics"]["accuracy"]) == {"value"}


def test_coverage() -> None:
    """Of 95% intervals of an accuracy of 80%, about 95% hold it; patients of four equal rows need the groups."""
    rng = np.random.default_rng(0)
    hits = {"groups": 0, "rows": 0}
    trials = 150
    for _ in range(trials):
        right = np.repeat(rng.random(60) < 0.8, 4)
        labels = np.tile([0, 1], 120)
        p = np.where((labels == right)[:, None], [[0.2, 0.8]], [[0.8, 0.2]])
        patients = np.repeat(np.arange(60), 4)
        for name, groups in (("groups", patients), ("rows", None)):
            found = measure(p, labels, SPEC, groups=groups, bootstrap=200)["metrics"]["accuracy"]
            hits[name] += found["low"] <= 0.8 <= found["high"]
    assert 0.88 <= hits["groups"] / trials <= 0.99
    assert hits["rows"] / trials < 0.8


def test_thousand_draws_of_two_thousand_studies_take_seconds() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(7), 2000)
    start = time.process_time()
    measure(p, rng.integers(0, 7, 2000), TaskSpec("t", tuple("abcdefg")))
    assert time.process_time() - start < 5
