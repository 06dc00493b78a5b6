"""Scores of foreign studies, against references where there are some, and alarms at their rate."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from mailnet.specs import TaskSpec
from mailnet.trust.alarm import STEP, Alarm, fit_alarm
from mailnet.trust.foreign import ForeignScore, fit_mahalanobis, fit_neighbors, foreign_score
from mailnet.trust.outputs import energy, max_logit, unsureness

Array = np.ndarray[Any, Any]


def features(n: int, seed: int = 0, shift: float = 0.0) -> tuple[Array, Array]:
    """Three classes apart, of correlated features, of which the last never changes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    mix = np.random.default_rng(9).normal(size=(8, 8))
    values = rng.normal(size=(n, 8)) @ mix + 6 * np.random.default_rng(8).normal(size=(3, 8))[labels] + shift
    return np.c_[values, np.ones(n)].astype(np.float32), labels


def auroc(foreign: Array, known: Array) -> float:
    return float((foreign[:, None] > known).mean())


def test_mahalanobis_equals_ledoit_wolf() -> None:
    """Without labels, on features of deviation 1, it is the distance of scikit-learn's shrunk covariance."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5))
    values = (values - values.mean(0)) / values.std(0)
    ours = fit_mahalanobis(values).score(values)
    assert ours == pytest.approx(LedoitWolf().fit(values).mahalanobis(values), rel=1e-3)


def test_neighbors_equal_scikit_learn() -> None:
    train, _ = features(300)
    new, _ = features(50, seed=1)
    score = fit_neighbors(train, neighbors=7)
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (train, new)]
    wanted = NearestNeighbors(n_neighbors=7).fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    assert score.score(new) == pytest.approx(wanted, abs=1e-3)
    assert len(fit_neighbors(train, limit=40).points) == 40
    assert fit_neighbors(train[:3]).neighbors == 3


def test_blocks_do_not_change_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = features(100)
    score = fit_neighbors(train)
    whole = score.score(train)
    monkeypatch.setattr("mailnet.trust.foreign.BLOCK", 700)
    assert score.score(train) == pytest.approx(whole, abs=1e-6)
    assert score.score(train[:0]).shape == (0,)


@pytest.mark.parametrize("labelled", [True, False])
def test_foreign_studies_stand_out(labelled: bool) -> None:
    train, labels = features(500)
    known, _ = features(200, seed=1)
    rng = np.random.default_rng(2)
    foreign = np.c_[rng.normal(size=(200, 8)) * train[:, :8].std(0) + train[:, :8].mean(0), np.ones(200)]
    score = fit_mahalanobis(train, labels if labelled else None)
    # As wide as all the classes together, but with none of their structure.
    assert auroc(score.score(foreign), score.score(known)) > (0.95 if labelled else 0.7)
    assert auroc(fit_neighbors(train).score(foreign), fit_neighbors(train).score(known)) > 0.85


def test_more_features_than_studies_and_rare_classes() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(20, 64)).astype(np.float32)
    labels = np.r_[np.zeros(10, int), np.ones(8, int), 2, -1]
    score = fit_mahalanobis(train, labels)
    assert len(score.means) == 2
    assert np.isfinite(score.score(train)).all()
    assert auroc(score.score(train + 5), score.score(rng.normal(size=(20, 64)))) > 0.95


@pytest.mark.parametrize("kind", ["mahalanobis", "neighbors"])
def test_scores_are_kept_as_arrays_and_json(kind: str) -> None:
    train, labels = features(100)
    score: ForeignScore = fit_mahalanobis(train, labels) if kind == "mahalanobis" else fit_neighbors(train)
    assert all(array.dtype == np.float32 for array in score.arrays().values())
    values = json.loads(json.dumps(score.as_dict()))
    assert (foreign_score(score.arrays(), values).score(train) == score.score(train)).all()
    with pytest.raises(ValueError, match="kind"):
        foreign_score(score.arrays(), {"kind": "magic"})
    with pytest.raises(ValueError, match="expected the arrays"):
        foreign_score({"other": train}, values)
    with pytest.raises(ValueError, match=r"fields|points"):
        foreign_score(score.arrays(), values | {"neighbors": 0})
    with pytest.raises(ValueError, match="must be"):
        score.score(train[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        score.score(np.full((1, 9), np.nan))


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = fit_mahalanobis(*features(50)).arrays()
    with pytest.raises(ValueError, match="do not fit"):
        foreign_score(arrays | {"means": arrays["means"][:, :4]}, {"kind": "mahalanobis"})
    with pytest.raises(ValueError, match="two training studies"):
        fit_mahalanobis(np.ones((1, 3)))
    with pytest.raises(ValueError, match="the same in all"):
        fit_mahalanobis(np.ones((5, 3)))
    with pytest.raises(ValueError, match="one study or more"):
        fit_neighbors(np.ones((0, 3)))


def test_outputs_against_their_formulas() -> None:
    z = np.random.default_rng(0).normal(size=(20, 3)) * 5
    task = TaskSpec("t", tuple("abc"))
    assert energy(z, task) == pytest.approx(-logsumexp(z, axis=1))
    assert max_logit(z, task) == pytest.approx(-z.max(1))
    p = np.exp(z - logsumexp(z, axis=1, keepdims=True))
    assert unsureness(p, task) == pytest.approx(1 - p.max(1))
    labels = TaskSpec("t", tuple("abc"), "multilabel")
    assert energy(z, labels) == pytest.approx(-np.log(2 * np.cosh(z / 2)).sum(1))
    assert energy(-z, labels) == pytest.approx(energy(z, labels))
    assert max_logit(-z, labels) == pytest.approx(max_logit(z, labels))
    assert unsureness(np.array([[0.9, 0.4, 0.0]]), labels) == pytest.approx([0.4])
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        energy(z[:, :2], task)
    with pytest.raises(ValueError, match="diverged"):
        max_logit(z * np.nan, task)


def test_false_alarms_come_at_their_rate() -> None:
    rng = np.random.default_rng(0)
    rate = np.mean([fit_alarm(rng.normal(size=59), 0.1).sounds(rng.normal(size=40)).mean() for _ in range(300)])
    assert rate == pytest.approx(0.1, abs=0.012)


def test_patients_with_many_studies_do_not_rule_the_alarm() -> None:
    """One patient in five has 20 studies, all strange; sound half as often as is stated it must not, nor twice."""
    rng = np.random.default_rng(0)
    sounded = []
    for _ in range(300):
        strange = rng.random(60) < 0.2
        patients = np.repeat(np.arange(60), np.where(strange, 20, 1))
        scores = rng.normal(size=len(patients)) + 3 * strange[patients]
        old = patients < 59
        sounded.append(fit_alarm(scores[old], 0.1, patients=patients[old]).sounds(scores[~old]).mean())
    assert np.mean(sounded) == pytest.approx(0.1, abs=3 * np.sqrt(0.09 / 300))


def test_threshold_is_where_the_alarm_sounds() -> None:
    rng = np.random.default_rng(1)
    for n, rate in ((19, 0.05), (40, 0.1), (200, 0.03), (9, 0.9)):
        scores = np.round(rng.normal(size=n), 1)
        alarm = fit_alarm(scores, rate)
        assert alarm.patients == n
        assert alarm.threshold is not None
        new = np.r_[np.linspace(-4, 4, 801).round(2), scores]
        assert (alarm.sounds(new) == (new > alarm.threshold)).all()
        wanted = (1 + (scores[None] >= new[:, None]).sum(1)) / (n + 1)
        assert alarm.p_value(new) == pytest.approx(wanted)


def test_no_score_of_a_study_is_kept_and_alarms_move_by_a_step_at_most() -> None:
    rng = np.random.default_rng(0)
    scores, patients = rng.normal(5, 0.5, 900), rng.integers(0, 400, 900)
    exact, kept = (fit_alarm(scores, patients=patients, step=step) for step in (0, STEP))
    assert exact.scores == tuple(np.sort(scores))
    steps = np.array(kept.scores) / STEP
    np.testing.assert_allclose(steps, steps.round(), atol=1e-6)
    assert len(kept.scores) < 320, "studies of one step are one number"
    assert kept.patients == exact.patients
    new = np.r_[rng.normal(5, 0.7, 5000), scores]
    p = kept.p_value(new)
    # Never smaller than the exact one, so that the rate holds, and no larger than that of a score a step lower.
    assert (p >= exact.p_value(new) - 1e-9).all()
    assert (p <= exact.p_value(new - STEP) + 1e-9).all()
    assert exact.threshold is not None
    moved = new[kept.sounds(new) != exact.sounds(new)]
    assert (np.abs(moved - exact.threshold) <= STEP).all()
    assert not (kept.sounds(new) & ~exact.sounds(new)).any()
    with pytest.raises(ValueError, match="step"):
        fit_alarm(scores, step=-1)


def test_too_few_never_sound_and_say_so() -> None:
    alarm = fit_alarm(np.arange(18.0), 0.05)
    assert alarm.threshold is None
    assert alarm.reason == "18 validation patients, 19 are needed for one false alarm in 20"
    assert not alarm.sounds(np.array([1e9])).any()
    assert fit_alarm(np.zeros(0)).reason.startswith("0 validation patients")
    assert fit_alarm(np.arange(19.0)).sounds(np.array([np.nan, np.inf, 18.5, 17.5])).tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_alarm_to_json_and_back() -> None:
    alarm = fit_alarm(np.random.default_rng(0).normal(size=30), patients=np.arange(30) // 2)
    assert Alarm.from_dict(json.loads(json.dumps(alarm.as_dict()))) == alarm
    for change in ({"rate": 1.0}, {"scores": [2.0, 1.0], "weights": [0.1, 0.1]}, {"weights": [0.5] * 30}, {"x": 1}):
        with pytest.raises(ValueError, match=r"alarm|rate"):
            Alarm.from_dict(alarm.as_dict() | change)
    with pytest.raises(ValueError, match="finite"):
        fit_alarm(np.array([np.nan]))
