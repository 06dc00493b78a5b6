"""Prediction sets: against MAPIE, and what they promise."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier  # type: ignore[import-untyped]
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedShuffleSplit

from mailnet.specs import TaskSpec
from mailnet.trust.conformal import fit_sets
from mailnet.trust.scores import conformal_quantile, growth, nonconformity
from mailnet.trust.sets import EVERYBODY, ConformalSets

Array = np.ndarray[Any, Any]
FIVE = TaskSpec("t", tuple("abcde"))
GRADES = TaskSpec("t", tuple("abcd"), "ordinal")
FINDINGS = TaskSpec("t", tuple("abc"), "multilabel")


def drawn(n: int, classes: int = 5, sharp: float = 1.5, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    z = sharp * rng.normal(size=(n, classes))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return p, (rng.random((n, 1)) > p.cumsum(1)).sum(1).clip(max=classes - 1)


class Said(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier for MAPIE whose inputs are the probabilities themselves."""

    classes_, n_features_in_, is_fitted_ = np.arange(5), 5, True

    def fit(self, x: Array, y: Array) -> Said:
        return self

    def predict_proba(self, x: Array) -> Array:
        return x

    def predict(self, x: Array) -> Array:
        return np.asarray(x.argmax(1))


def mapie(score: Any, p: Array, y: Array, alpha: float = 0.1) -> Any:
    return SplitConformalClassifier(
        Said(), confidence_level=1 - alpha, conformity_score=score, prefit=True, random_state=3
    ).conformalize(p, y)


def theirs(fitted: Any) -> float:
    return float(fitted._mapie_classifier.conformity_score_function_.quantiles_[0])


P, Y = drawn(400)
NEW, TRUE = drawn(300, seed=1)


@pytest.mark.parametrize("n", [400, 99, 57])
def test_lac_equals_mapie(n: int) -> None:
    fitted = mapie("lac", P[:n], Y[:n])
    _, sets = fitted.predict_set(NEW)
    ours = fit_sets(P[:n], Y[:n], FIVE, 0.1, empty="keep")
    assert ours.thresholds[EVERYBODY][0][0] == pytest.approx(theirs(fitted))
    assert (ours.predict(NEW) == sets[:, :, 0]).all()


def test_aps_equals_mapie() -> None:
    """Randomized as MAPIE calibrates it always; its sets too, with the same random numbers."""
    fitted = mapie("aps", P, Y)
    _, sets = fitted.predict_set(NEW, conformity_score_params={"include_last_label": "randomized"})
    u, v = (np.random.RandomState(3).uniform(size=(n, 1)) for n in (len(P), len(NEW)))
    ours = fit_sets(P, Y, FIVE, 0.1, "aps", uniform=u, empty="keep")
    assert ours.thresholds[EVERYBODY][0][0] == pytest.approx(theirs(fitted))
    assert (ours.predict(NEW, uniform=v) == sets[:, :, 0]).all()
    _, plain = fitted.predict_set(NEW)
    limit = ((theirs(fitted),),)
    without = ConformalSets(
        FIVE, 0.1, "aps", "all", False, "keep", 0, 1, False, {EVERYBODY: limit}, {EVERYBODY: ((400,),)}
    )
    assert (without.predict(NEW) == plain[:, :, 0]).all()


def test_raps_threshold_equals_mapie() -> None:
    """Its sets differ: an answer has no penalty for its own rank there, as it has in the paper and here."""
    fitted = mapie("raps", P, Y)
    fitted.predict_set(NEW)  # it chooses penalty and free ranks here
    score = fitted._mapie_classifier.conformity_score_function_
    kept = next(StratifiedShuffleSplit(1, random_state=3).split(P, Y))[0]  # MAPIE sets the others aside
    u = np.random.RandomState(3).uniform(size=(len(kept), 1))
    penalty, free = float(score.lambda_star), int(score.k_star[0])
    ours = fit_sets(P[kept], Y[kept], FIVE, 0.1, "raps", penalty=penalty, free=free, uniform=u)
    assert ours.thresholds[EVERYBODY][0][0] == pytest.approx(theirs(fitted))


def test_quantile_is_the_finite_sample_one() -> None:
    scores = np.random.default_rng(0).random(200)
    for n in (1, 9, 10, 19, 99, 199):
        for alpha in (0.05, 0.1, 0.25, 0.5):
            rank = int(np.ceil((n + 1) * (1 - alpha) - 1e-9))
            wanted = np.sort(scores[:n])[rank - 1] if rank <= n else np.inf
            assert conformal_quantile(scores[:n], np.arange(n), alpha) == wanted


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("by", [None, "class", "group"])
def test_coverage_is_within_binomial_bounds(score: str, by: str | None) -> None:
    """250 times new calibration and test studies: each stratum is covered as promised and, without ties, not more."""
    hits, seen = np.zeros(3), np.zeros(3)
    for seed in range(250):
        p, y = drawn(120, 3, seed=seed)
        strata = y if by != "group" else np.random.default_rng(seed).integers(0, 3, 120)
        given: Any = strata[:100] if by == "group" else by
        sets = fit_sets(p[:100], y[:100], TaskSpec("t", tuple("abc")), 0.2, score, by=given, empty="keep")
        members = sets.predict(p[100:], strata[100:] if by == "group" else None)
        covered = members[np.arange(20), y[100:]]
        hits += np.bincount(strata[100:], covered, minlength=3)
        seen += np.bincount(strata[100:], minlength=3)
    shares = hits / seen if by else [hits.sum() / seen.sum()]
    # Each of the 250 coverages is from about 33 calibration and 7 test studies, or three times as many.
    slack = 3 * np.sqrt(0.16 * (1 / 33 + 1 / 6.7) / 250)
    assert np.min(shares) > 0.8 - slack
    if score == "lac":
        assert np.max(shares) < 0.8 + 1 / 33 + slack


def test_patients_with_many_studies() -> None:
    """Studies of a patient are alike and one patient in five, a hard one, has 30: his studies do not count as 30."""
    spec, hits, plain = TaskSpec("t", ("no", "yes"), "binary"), 0.0, 0.0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        hard = rng.random(31) < 0.2
        count = np.where(hard, 1, 30)
        wrong = rng.random(31) * np.where(hard, 1.0, 0.4)
        patient = np.repeat(np.arange(31), count)
        p = np.clip(wrong[patient] + 0.01 * rng.random(len(patient)), 0, 1)
        said = np.stack([p, 1 - p], 1)
        known = patient < 30
        for weighted in (True, False):
            sets = fit_sets(
                said[known],
                np.ones(known.sum(), int),
                spec,
                0.1,
                patients=patient[known] if weighted else None,
                empty="keep",
            )
            covered = sets.predict(said[~known])[:, 1].mean()
            hits, plain = (hits + covered, plain) if weighted else (hits, plain + covered)
    assert hits / 300 > 0.9 - 3 * np.sqrt(0.09 / 300)
    assert plain / 300 < 0.87
    assert sets.patients[EVERYBODY] == ((int(known.sum()),),)


def test_one_study_a_patient_weighs_as_without_patients() -> None:
    names = np.array([f"p{n}" for n in range(400)], dtype=object)
    assert fit_sets(P, Y, FIVE, patients=names) == fit_sets(P, Y, FIVE)


def test_with_too_few_the_set_is_everything_and_says_so() -> None:
    sets = fit_sets(P[:8], Y[:8], FIVE)
    assert sets.notes == ("8 calibration patients where 9 are needed: every answer is in every set",)
    assert sets.predict(NEW).all()
    rare = fit_sets(P[Y != 3], Y[Y != 3], FIVE, by="class")
    assert rare.predict(NEW)[:, 3].all()
    assert rare.notes == ("class 'd', 0 calibration patients where 9 are needed: it is in every set",)


def test_a_group_that_was_not_seen_gets_everything() -> None:
    sites = np.array(["north", "south"])[np.arange(400) % 2]
    sets = fit_sets(P, Y, FIVE, by=sites)
    found = sets.predict(NEW, np.where(np.arange(300) < 10, "east", "north"))
    assert found[:10].all()
    assert found[10:].all(1).mean() < 0.1
    with pytest.raises(ValueError, match="asked with groups"):
        sets.predict(NEW)


def test_empty_sets() -> None:
    p, y = drawn(500, sharp=6)  # a network that is right in more than 90%
    sure = np.full((50, 5), 0.2)
    sets = {empty: fit_sets(p, y, FIVE, 0.2, empty=empty) for empty in ("keep", "top", "all")}
    assert not sets["keep"].predict(sure).any()
    assert (sets["top"].predict(sure).sum(1) == 1).all()
    assert sets["all"].predict(sure).all()
    assert sets["top"].unanswered(sure).all()
    assert fit_sets(p, y, FIVE, 0.2, "aps", empty="keep").predict(sure).any(1).all()


def test_sets_of_grades_are_intervals() -> None:
    p, y = drawn(400, 4, seed=2)
    for score in ("lac", "aps", "raps"):
        for by in (None, "class"):
            members = fit_sets(p, y, GRADES, 0.1, score, by=by).predict(p)
            assert (np.abs(np.diff(np.pad(members, ((0, 0), (1, 1))).astype(int))).sum(1) == 2).all()
    loose = fit_sets(p, y, GRADES, 0.1, contiguous=False)
    assert loose.thresholds == fit_sets(p, y, TaskSpec("t", tuple("abcd"))).thresholds


def test_labels_are_questions_of_their_own() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((2000, 3))
    labels = (rng.random(p.shape) < p).astype(float)
    labels[:, 1] = np.nan
    sets = fit_sets(p[:1000], labels[:1000], FINDINGS, 0.2, by="class")
    members = sets.predict(p[1000:])
    assert members.shape == (1000, 3, 2)
    assert members[:, 1].all()
    assert "label 'b', absent, 0 calibration patients" in sets.notes[0]
    for k in (0, 2):
        for value in (0, 1):
            chosen = labels[1000:, k] == value
            assert members[chosen, k, value].mean() == pytest.approx(0.8, abs=0.05)


def test_the_order_of_equal_probabilities_is_that_of_the_task() -> None:
    scored = nonconformity(np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]]), "aps")
    assert scored.tolist() == [[0, 0.25, 0.5, 0.75], [0, 0.5, 1, 1]]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), score=st.sampled_from(["lac", "aps", "raps"]))
def test_sets_shrink_with_alpha_and_know_no_order(seed: int, score: str) -> None:
    p, y = drawn(60, seed=seed)
    order = np.random.default_rng(seed).permutation(60)
    last = np.ones((60, 5), dtype=bool)
    for alpha in (0.02, 0.1, 0.3, 0.6):
        sets = fit_sets(p, y, FIVE, alpha, score)
        assert sets == fit_sets(p[order], y[order], FIVE, alpha, score)
        members = sets.predict(p)
        assert (members <= last).all()
        last = members


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_an_interval_grows_by_its_better_neighbour(seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet(np.ones(6), 4)
    for row, order in zip(p, growth(p), strict=True):
        inside = [int(row.argmax())]
        while len(inside) < 6:
            beside = [k for k in (min(inside) - 1, max(inside) + 1) if 0 <= k < 6]
            inside.append(max(beside, key=lambda k: row[k]))
        assert order.tolist() == inside


@pytest.mark.parametrize("by", [None, "class", "group"])
def test_sets_to_json_and_back(by: str | None) -> None:
    groups = np.arange(400) // 395
    sets = fit_sets(P, Y, FIVE, by=groups if by == "group" else by)
    again = ConformalSets.from_dict(json.loads(json.dumps(sets.as_dict(), allow_nan=False)))
    assert again == sets
    assert "90%" not in sets.promise
    assert "0.9 probability" in sets.promise


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0},
        {"score": "best"},
        {"thresholds": {"": [[0.1, 0.2]]}},
        {"thresholds": {"x": [[0.1]]}},
        {"patients": {"": [[-1]]}},
        {"spec": {"name": "t"}},
        {"spec": {"name": "t", "kind": "multiclass", "classes": 5}},
        {"contiguous": True},
        {"notes": "none"},
    ],
)
def test_changed_sets_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ConformalSets.from_dict(fit_sets(P, Y, FIVE).as_dict() | change)


def test_wrong_choices_are_refused() -> None:
    for wrong in ({"alpha": 1.0}, {"score": "naive"}, {"by": "site"}, {"empty": "none"}, {"contiguous": True}):
        with pytest.raises(ValueError, match=r"alpha|score|by|empty|contiguous"):
            fit_sets(P, Y, FIVE, **wrong)
    with pytest.raises(ValueError, match="no randomized form"):
        fit_sets(P, Y, FIVE, uniform=np.zeros((400, 1)))
    with pytest.raises(ValueError, match="were not fitted"):
        fit_sets(P, Y, FIVE, 0.1, "aps").predict(NEW, uniform=np.zeros((300, 1)))
