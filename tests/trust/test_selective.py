"""The risk-coverage curve by its definition, and thresholds that keep their promise."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailnet.trust.abstain import Abstention, abstain_threshold, upper_bound
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
    """Of 200 thresholds at delta 0.2 at most one in five answers more often wrongly than is promised."""
    broken, found = 0, 0
    for seed in range(200):
        sure, wrong = drawn(600, np.random.default_rng(seed))
        chosen = abstain_threshold(sure, wrong, 0.1, 0.2)
        if chosen.threshold is not None:
            found += 1
            broken += true_risk(chosen.threshold) > 0.1
            assert chosen.bound is not None
            assert chosen.bound <= 0.1
    assert found > 100
    assert broken / 200 < 0.2


def test_a_useful_share_is_answered() -> None:
    sure, wrong = drawn(8000, np.random.default_rng(0))
    found = abstain_threshold(sure, wrong, 0.1)
    assert found.threshold is not None
    assert found.coverage == pytest.approx(0.3)  # the most possible is 0.4, where the bound would need luck
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


def test_bound_is_exact() -> None:
    from scipy.stats import binom

    for errors, n in ((0, 10), (3, 50), (20, 21)):
        assert binom.cdf(errors, n, upper_bound(errors, n, 0.05)) == pytest.approx(0.05)
    assert upper_bound(5, 5, 0.05) == 1


def test_json_and_refusals() -> None:
    sure, wrong = drawn(500, np.random.default_rng(0))
    for found in (abstain_threshold(sure, wrong, 0.1), abstain_threshold(sure[:9], wrong[:9], 0.1)):
        assert Abstention.from_dict(json.loads(json.dumps(found.as_dict()))) == found
        for change in ({"delta": 0}, {"threshold": "x"}, {"reason": "?", "bound": 0.1}, {"studies": -1}):
            with pytest.raises(ValueError, match=r"abstention|delta"):
                Abstention.from_dict(found.as_dict() | change)
    for call in ((sure, wrong, 0.0), (sure, wrong, 0.1, 1.0), (sure, wrong * 0.5, 0.1), (sure[1:], wrong, 0.1)):
        with pytest.raises(ValueError, match=r"must be"):
            abstain_threshold(*call)
    with pytest.raises(ValueError, match="NaN"):
        risk_coverage(np.array([np.nan]), np.zeros(1))
