"""Gaps between subgroups: values by hand, intervals that hold the truth, chance that is uniform."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mailnet.trust.fairness import by_rows, measure_gap

Array = np.ndarray[Any, Any]


class Share:
    """The weighted share of studies that are right, NaN without any."""

    def __init__(self, right: Array) -> None:
        self.right = right.astype(float)

    def __call__(self, weights: Array) -> Array:
        total = weights.sum(1)
        out = np.full(len(total), np.nan)
        return np.asarray(np.divide(weights @ self.right, total, out=out, where=total > 0))


def made(n: int, shares: tuple[float, ...], seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, len(shares), n)
    return rng.random(n) < np.asarray(shares)[group], np.array([f"g{k}" for k in group])


def test_gap_by_hand() -> None:
    right = np.repeat([1, 0, 1, 0, 1], [30, 10, 20, 20, 5])
    group = np.repeat(["a", "b", "c"], [40, 40, 5])
    group[-1] = ""
    found = measure_gap(Share(right), group)
    assert found.value == pytest.approx(0.25)
    assert (found.lowest, found.highest, found.smallest) == ("b", "a", 40)
    assert {name: g.value for name, g in found.groups.items()} == {"a": 0.75, "b": 0.5}
    assert found.left_out == {"c": "4 patients, 20 are needed"}
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.25 < found.high
    json.dumps(found.as_dict(), allow_nan=False)


def test_rows_and_weights_are_the_same() -> None:
    right, group = made(120, (0.9, 0.6), 0)
    ours = measure_gap(Share(right), group, bootstrap=50, permutations=50)
    theirs = measure_gap(by_rows(lambda rows: float(right[rows].mean())), group, bootstrap=50, permutations=50)
    for name in ("value", "low", "high", "chance"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name))


@pytest.mark.parametrize(("shares", "least"), [((0.9, 0.7), 0.88), ((0.8, 0.8), 0.88), ((0.9, 0.85, 0.85, 0.8), 0.75)])
def test_intervals_hold_the_gap(shares: tuple[float, ...], least: float) -> None:
    """Also where there is no gap, which percentiles of a highest less a lowest value would never say."""
    held, gap = 0, max(shares) - min(shares)
    for seed in range(100):
        right, group = made(100 * len(shares), shares, seed)
        found = measure_gap(Share(right), group, bootstrap=200, permutations=0, seed=seed)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= gap <= found.high
    assert held / 100 >= least


def test_chance_is_even_where_there_is_no_gap_and_small_where_there_is() -> None:
    chances = []
    for seed in range(150):
        right, group = made(150, (0.8, 0.8, 0.8), seed)
        chances.append(measure_gap(Share(right), group, bootstrap=0, permutations=99, seed=seed).chance)
    assert np.mean(np.array(chances, dtype=float) <= 0.1) == pytest.approx(0.1, abs=0.07)
    right, group = made(300, (0.95, 0.6), 0)
    assert measure_gap(Share(right), group, bootstrap=0, permutations=199).chance == 1 / 200


def test_patients_are_drawn_whole() -> None:
    """Forty studies of each patient alike: the interval is as wide as without the copies."""
    right, group = made(100, (0.9, 0.6), 0)
    once = measure_gap(Share(right), group)
    patients = np.repeat(np.arange(100), 40)
    copies = measure_gap(Share(np.repeat(right, 40)), np.repeat(group, 40), patients=patients)
    assert copies.high is not None
    assert once.high is not None
    assert copies.high == pytest.approx(once.high, abs=0.03)
    assert copies.chance == pytest.approx(once.chance, abs=0.03)
    assert copies.groups["g0"].patients == once.groups["g0"].studies


def test_a_patient_in_several_subgroups_cannot_be_dealt() -> None:
    right, group = made(100, (0.9, 0.6), 0)
    found = measure_gap(Share(right), group, patients=np.arange(100) // 2, bootstrap=100)
    assert found.chance is None
    assert found.low is not None


def test_nothing_to_compare() -> None:
    right, group = made(100, (0.9, 0.6), 0)
    alone = measure_gap(Share(right), np.full(100, "all"))
    assert alone.value is None
    assert alone.smallest == 100
    assert set(alone.groups) == {"all"}
    undefined = measure_gap(lambda weights: np.where(weights[:, group == "g0"].any(1), 0.5, np.nan), group)
    assert undefined.left_out == {"g1": "the metric is not defined, as where a class is missing"}
    assert measure_gap(Share(np.zeros(0)), np.zeros(0, dtype=str)).groups == {}
    with pytest.raises(ValueError, match="one number a draw"):
        measure_gap(lambda weights: weights, group)
    with pytest.raises(ValueError, match="one value a study"):
        measure_gap(Share(right), group[:, None])
