"""What is added up in few passes is what plain formulas give, and draws do not depend on how many are made at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mailnet.metrics import bootstrap, measure
from mailnet.metrics.bootstrap import draw_weights
from mailnet.metrics.ranking import Ranking
from mailnet.metrics.values import SINGLE, CalibrationErrors, chunks, place_in_bins
from mailnet.specs import TaskSpec

Array = np.ndarray[Any, Any]


def areas_by_points(positive: Array, score: Array, weights: Array) -> tuple[float, float]:
    """AUROC and average precision from the points of the curves, a threshold a score."""
    thresholds = np.unique(score)[::-1]
    hits = np.array([weights[positive & (score >= t)].sum() for t in thresholds])
    alarms = np.array([weights[~positive & (score >= t)].sum() for t in thresholds])
    rises, falls = np.diff(hits, prepend=0), np.diff(alarms, prepend=0)
    precision = np.divide(hits, hits + alarms, out=np.zeros(len(hits)), where=hits + alarms > 0)
    with np.errstate(invalid="ignore"):
        auroc = (falls * (hits - rises / 2)).sum() / (hits[-1] * alarms[-1])
        return float(auroc), float((precision * rises).sum() / hits[-1])


@pytest.mark.parametrize("decimals", [1, 2, 12])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_areas_are_those_of_the_curves(decimals: int, share: float) -> None:
    random = np.random.default_rng(3)
    for studies in (1, 2, 37):
        positive, score = random.random(studies) < share, random.random(studies).round(decimals)
        weights = random.integers(0, 4, (5, studies)).astype(float)
        weights[0] = 1
        found = Ranking(positive, score).areas(weights)
        wanted = [areas_by_points(positive, score, own) for own in weights]
        np.testing.assert_allclose(np.stack(found, 1), wanted, rtol=1e-12)


def test_no_study_has_no_area() -> None:
    auroc, auprc = Ranking(np.zeros(0, bool), np.zeros(0)).areas(np.ones((2, 0)))
    assert np.isnan(auroc).all()
    assert np.isnan(auprc).all()
    assert len(auroc) == len(auprc) == 2


@pytest.mark.parametrize("decimals", [1, 12])
def test_calibration_errors_are_sums_over_bins(decimals: int) -> None:
    random = np.random.default_rng(0)
    confidence = random.random(60).round(decimals)
    gaps = confidence - (random.random(60) < confidence)
    weights = random.integers(0, 4, (6, 60)).astype(float)
    weights[1] = 0
    wide, even = CalibrationErrors(gaps, confidence, 7)(weights)
    for draw, own in enumerate(weights):
        if not own.any():
            assert np.isnan([wide[draw], even[draw]]).all()
            continue
        place = place_in_bins(confidence, 7)
        before = np.array([own[confidence < c].sum() for c in confidence])
        for found, bins in ((wide, place), (even, np.minimum(before * 7 // own.sum(), 6))):
            wanted = sum(abs((own * gaps)[bins == b].sum()) for b in range(7)) / own.sum()
            assert found[draw] == pytest.approx(wanted, rel=1e-12)


def test_draws_are_the_same_however_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for groups in (None, np.arange(301) // 2):
        one: list[Array] = []
        all_: list[Array] = []
        for kept, sizes in ((one, [1] * 20), (all_, [20])):
            monkeypatch.setattr(bootstrap, "chunks", lambda total, studies, sizes=sizes: iter(sizes))
            kept += draw_weights(301, groups, 20, 7)
        assert (np.concatenate(one) == np.concatenate(all_)).all()


def test_many_studies_are_drawn_one_by_one() -> None:
    assert list(chunks(3, SINGLE)) == [1, 1, 1]
    assert list(chunks(45, SINGLE - 1)) == [20, 20, 5]


def test_intervals_of_many_studies_are_those_of_a_normal_share() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, SINGLE)
    answers = np.where(random.random(SINGLE) < 0.8, labels, 1 - labels)
    probabilities = np.stack([0.9 - 0.8 * answers, 0.1 + 0.8 * answers], axis=1)
    found = measure(probabilities, labels, TaskSpec("t", ("no", "yes"), "binary"), bootstrap=100)["metrics"]["accuracy"]
    assert found["value"] == pytest.approx(0.8, abs=0.02)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * np.sqrt(0.16 / SINGLE), rel=0.3)
