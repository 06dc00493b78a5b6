"""The risk-coverage curve by its definition, and thresholds that keep their promise."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mailnet.trust.abstain import Abstention, abstain_threshold
from mailnet.trust.selective import risk_coverage

Array = np.ndarray[Any, Any]


def aurc(losses: Array) -> float:
    return float((np.cumsum(losses) / np.arange(1, len(losses) + 1)).mean())


def test_curve_by_hand() -> None:
    found = risk_coverage(np.array([0.9, 0.5, 0.7, 0.5, 0.1]), np.array([0, 1, 0, 0, np.nan]))
    assert found is not None
    assert found.coverage.tolist() == [0.25, 0.5, 1]
    assert found.risk.tolist() == [0, 0, 0.25]
    assert found.confidence.tolist() == [0.9, 0.7, 0.5]
    assert found.studies == 4
    assert json.dumps(found.as_dict(), allow_nan=False)
    assert risk_coverage(np.zeros(2), np.full(2, np.nan)) is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40))
def test_area_is_the_mean_of_risks_and_the_best_order_has_no_excess(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    sure, loss = rng.random(n), (rng.random(n) < 0.4).astype(float)
    found = risk_coverage(sure, loss)
    assert found is not None
    assert found.aurc == pytest.approx(aurc(loss[np.argsort(-sure)]))
    assert found.aurc - found.excess == pytest.approx(aurc(np.sort(loss)))
    best = risk_coverage(-loss + 0.1 * sure, loss)
    assert best is not None
    assert best.excess == pytest.approx(0, abs=1e-12)
    order = rng.permutation(n)
    again = risk_coverage(sure[order], loss[order])
    assert again is not None
    assert again.aurc == pytest.approx(found.aurc)


def test_equally_sure_studies_count_as_in_all_their_orders() -> None:
    losses = np.array([0, 1, 1, 0, 1.0])
    found = risk_coverage(np.array([2, 1, 1, 1, 0.0]), losses)
    assert found is not None
    wanted = np.mean([aurc(losses[[0, *middle, 4]]) for middle in permutations((1, 2, 3))])
    assert found.aurc == pytest.approx(float(wanted))


def test_long_curves_are_thinned() -> None:
    found = risk_coverage(np.arange(5000.0), np.zeros(5000))
    assert found is not None
    plain = found.as_dict()
    assert len(plain["coverage"]) == 160
    assert plain["coverage"][-1] == 1


def drawn(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Confidence, and errors whose chance falls with it from one half to nothing."""
    sure = rng.random(n)
    return sure, (rng.random(n) < 0.5 * (1 - sure)).astype(float)


def true_risk(threshold: float) -> float:
    return float(0.25 * (1 - max(threshold, 0)))


def test_the_promise_is_kept() -> None:
    """Of 120 thresholds at delta 0.2 at most one in five answers more often wrongly than is promised."""
    broken, found = 0, 0
    for seed in range(120):
        sure, wrong = drawn(600, np.random.default_rng(seed))
        chosen = abstain_threshold(sure, wrong, 0.1, 0.2)
        if chosen.threshold is not None:
            found += 1
            broken += true_risk(chosen.threshold) > 0.1
    assert found > 80
    assert broken / 120 < 0.2


@pytest.mark.parametrize("shape", ["flat", "first", "waves", "steps"])
@pytest.mark.parametrize("studies", [40, 200])
def test_the_promise_is_kept_where_it_is_hardest(shape: str, studies: int) -> None:
    """Networks at the edge of what is asked: any threshold, or those at the sure end, answer too many wrong."""
    risk, delta, times = 0.1, 0.2, 250
    grid = (np.arange(1000) + 0.5) / 1000  # share of studies that are surer
    chance = {
        "flat": np.full(1000, 0.1001),
        "first": np.where(grid < 0.4, 0.1001, 0.09),
        "waves": 0.101 + 0.1 * np.sin(8 * np.pi * grid),
        "steps": np.floor(8 * grid) * 0.03 + 0.01,
    }[shape]
    answered = np.cumsum(chance) / np.arange(1, 1001)  # true share of wrong answers at each threshold
    random, broken, found = np.random.default_rng(3), 0, 0
    for _ in range(times):
        place = random.integers(0, 1000, studies)
        sure = -np.floor(8 * grid[place]) / 8 if shape == "steps" else -grid[place]
        threshold = abstain_threshold(sure, random.random(studies) < chance[place], risk, delta).threshold
        if threshold is not None:
            found += 1
            above = -np.floor(8 * grid) / 8 > threshold if shape == "steps" else -grid > threshold
            broken += answered[above.sum() - 1] > risk
    assert found > 0
    assert broken / times < delta + 3 * np.sqrt(delta * (1 - delta) / times)


def test_nothing_is_given_away() -> None:
    """Where every threshold breaks the promise, one is found as often as delta allows, and not ten times less."""
    random = np.random.default_rng(0)
    found = [
        abstain_threshold(random.random(59), random.random(59) < 0.0501, 0.05, 0.05).threshold is not None
        for _ in range(600)
    ]
    assert np.mean(found) == pytest.approx(0.05, abs=0.027)


def test_tests_go_on_until_one_fails() -> None:
    """59 right answers let the first of 80 thresholds pass; each answer more is tested, to the first that fails."""
    for place in range(59, 80):
        wrong = np.zeros(80)
        wrong[[place, 79]] = 1
        found = abstain_threshold(-np.arange(80.0), wrong, 0.05)
        assert found.threshold == -place
        assert found.coverage == place / 80
        assert binomtest(1, place + 1, 0.05, "less").pvalue > 0.05
    assert abstain_threshold(-np.arange(80.0), (np.arange(80) == 58).astype(float), 0.05).threshold is None


def test_an_error_among_the_surest_ends_one_sequence_only() -> None:
    wrong = (np.arange(600) == 3).astype(float)
    assert abstain_threshold(-np.arange(600.0), wrong, 0.05).coverage == 1


def test_a_useful_share_is_answered() -> None:
    sure, wrong = drawn(8000, np.random.default_rng(0))
    found = abstain_threshold(sure, wrong, 0.1)
    assert found.threshold is not None
    assert 0.33 < found.coverage < 0.4  # the most possible is 0.4
    answered = found.answered(sure)
    assert answered.mean() == pytest.approx(found.coverage)
    assert wrong[answered].mean() == pytest.approx(found.wrong)
    assert "at most 0.1" in found.promise


def test_a_network_that_is_good_enough_always_answers() -> None:
    rng = np.random.default_rng(0)
    found = abstain_threshold(rng.random(1000), (rng.random(1000) < 0.01).astype(float), 0.05)
    assert found.coverage == 1
    assert found.answered(np.array([-1e30, 0.2])).all()
    json.dumps(found.as_dict(), allow_nan=False)


def test_nothing_is_promised_where_nothing_can_be() -> None:
    few = abstain_threshold(np.arange(40.0), np.zeros(40), 0.05)
    assert few.threshold is None
    assert few.reason == "40 patients, of whom at least 59 would have to be answered without an error"
    bad = abstain_threshold(np.arange(500.0), np.ones(500), 0.05)
    assert "too many answers are wrong" in bad.reason
    assert not bad.answered(np.array([1e9])).any()
    assert "Nothing is promised" in bad.promise


def test_a_patient_counts_once() -> None:
    many = abstain_threshold(np.ones(600), np.zeros(600), 0.05, patients=np.repeat(np.arange(20), 30))
    assert many.threshold is None
    assert many.studies == 20
    sure, wrong = drawn(900, np.random.default_rng(0))
    wrong[::3] = np.nan
    found = abstain_threshold(sure, wrong, 0.2, patients=np.repeat(np.arange(300), 3))
    assert found.studies == 300


def test_equally_sure_studies_are_answered_together() -> None:
    sure = np.repeat([1.0, 0.0], 300)
    wrong = np.r_[np.zeros(300), np.tile([0.0, 1.0], 150)]
    found = abstain_threshold(sure, wrong, 0.05)
    assert found.threshold == 0
    assert found.coverage == 0.5
    assert abstain_threshold(np.ones(600), wrong, 0.05).threshold is None


def test_json_and_refusals() -> None:
    sure, wrong = drawn(500, np.random.default_rng(0))
    for found in (abstain_threshold(sure, wrong, 0.1), abstain_threshold(sure[:9], wrong[:9], 0.1)):
        assert Abstention.from_dict(json.loads(json.dumps(found.as_dict()))) == found
        assert Abstention.from_dict(found.as_dict() | {"bound": 0.1}) == found
        for change in ({"delta": 0}, {"threshold": "x"}, {"reason": "?", "threshold": 0.1}, {"studies": -1}):
            with pytest.raises(ValueError, match=r"abstention|delta"):
                Abstention.from_dict(found.as_dict() | change)
    for call in ((sure, wrong, 0.0), (sure, wrong, 0.1, 1.0), (sure, wrong * 0.5, 0.1), (sure[1:], wrong, 0.1)):
        with pytest.raises(ValueError, match=r"must be"):
            abstain_threshold(*call)
    with pytest.raises(ValueError, match="NaN"):
        risk_coverage(np.array([np.nan]), np.zeros(1))
