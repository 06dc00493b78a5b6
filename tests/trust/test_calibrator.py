"""Calibration: against scikit-learn, and what it must never do."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from mailnet.metrics import measure
from mailnet.specs import TaskSpec
from mailnet.trust.calibration import Calibrator
from mailnet.trust.fitting import fit_calibrator

Array = np.ndarray[Any, Any]
BINARY = TaskSpec("t", ("no", "yes"), "binary")
FIVE = TaskSpec("t", tuple("abcde"))
GRADES = TaskSpec("t", tuple("abcd"), "ordinal")
FINDINGS = TaskSpec("t", tuple("abc"), "multilabel")


def too_sure(spec: TaskSpec, n: int = 1500, by: float = 3.0, seed: int = 0) -> tuple[Array, Array, Array]:
    """True probabilities, those of a network whose logits are ``by`` times too large, and labels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, len(spec.classes)))
    if spec.kind == "multilabel":
        true, said = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(-by * z))
        return true, said, (rng.random(z.shape) < true).astype(float)
    true, said = (np.exp(k * z) / np.exp(k * z).sum(1, keepdims=True) for k in (1, by))
    return true, said, (rng.random((n, 1)) > true.cumsum(1)).sum(1).clip(max=z.shape[1] - 1)


@pytest.mark.parametrize("spec", [BINARY, FIVE, GRADES, FINDINGS], ids=lambda spec: spec.kind)
def test_temperature_finds_how_much_too_sure(spec: TaskSpec) -> None:
    true, said, labels = too_sure(spec)
    found = fit_calibrator(said, labels, spec)
    assert found.temperature == pytest.approx([3.0] * len(found.temperature), rel=0.15)
    assert np.abs(found.apply(said) - true).mean() < 0.02 < np.abs(said - true).mean()


def test_temperature_has_the_least_log_loss_of_scikit_learn() -> None:
    _, said, labels = too_sure(FIVE)
    said = np.clip(said, 1e-6, 1) / np.clip(said, 1e-6, 1).sum(1, keepdims=True)

    def cost(log_scale: float) -> float:
        powers = said ** np.exp(log_scale)
        return float(log_loss(labels, powers / powers.sum(1, keepdims=True)))

    best = float(np.exp(minimize_scalar(cost, bounds=(-3, 3), options={"xatol": 1e-9}).x))
    ours = fit_calibrator(said, labels, FIVE, spread=np.inf)
    assert ours.scale[0] == pytest.approx(best, rel=1e-5)
    assert ours.apply(said) == pytest.approx(said**best / (said**best).sum(1, keepdims=True), abs=1e-5)


def test_calibrated_probabilities_have_little_error() -> None:
    _, said, labels = too_sure(BINARY, n=8000)
    before, after = (
        measure(p, labels, BINARY, bootstrap=0)["metrics"]["adaptive_ece"]["value"]
        for p in (said, fit_calibrator(said, labels, BINARY).apply(said))
    )
    assert after < 0.02 < 0.1 < before


def test_vector_of_a_label_equals_logistic_regression() -> None:
    _, said, labels = too_sure(FINDINGS)
    said = 1 / (1 + np.exp(-(np.log(said / (1 - said)) + np.array([0, 1, -2]))))
    ours = fit_calibrator(said, labels, FINDINGS, "vector", spread=np.inf).apply(said)
    for k in range(3):
        z = np.log(said[:, [k]] / (1 - said[:, [k]]))
        theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z, labels[:, k]).predict_proba(z)[:, 1]
        assert ours[:, k] == pytest.approx(theirs, abs=1e-4)


def test_vector_of_two_classes_is_beta_calibration() -> None:
    _, said, labels = too_sure(BINARY)
    ours = fit_calibrator(said, labels, BINARY, "vector", spread=np.inf).apply(said)
    logs = np.log(said) * [-1, 1]
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logs, labels).predict_proba(logs)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_vector_mends_a_class_that_was_weighted() -> None:
    true, _, labels = too_sure(FIVE)
    said = true * [1, 1, 1, 1, 6]
    said /= said.sum(1, keepdims=True)
    mended = {method: fit_calibrator(said, labels, FIVE, method).apply(said) for method in ("temperature", "vector")}
    assert np.abs(mended["vector"] - true).mean() < 0.02 < np.abs(mended["temperature"] - true).mean()


def test_isotonic_equals_scikit_learn() -> None:
    _, said, labels = too_sure(BINARY)
    said = np.round(said, 2)
    ours = fit_calibrator(said, labels, BINARY, "isotonic").apply(said)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(said[:, 1], labels).predict(said[:, 1])
    assert ours[:, 1] == pytest.approx(np.clip(theirs, 1 / 1502, 1501 / 1502))
    assert ours.sum(1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("spec", "labels", "method", "word"),
    [
        (FIVE, np.arange(9) % 5, "temperature", "9 labelled patients, 10 are needed"),
        (FIVE, np.full(50, 2), "temperature", "all labels are the same"),
        (FIVE, np.full(50, -1), "temperature", "0 labelled patients"),
        (FIVE, np.arange(96) % 4, "vector", "a class with 0"),
        (BINARY, np.arange(99) % 2, "isotonic", "99 labelled patients, 100"),
        (BINARY, np.arange(300) < 5, "isotonic", "a class with 5"),
    ],
)
def test_too_little_leaves_probabilities_alone(spec: TaskSpec, labels: Array, method: str, word: str) -> None:
    rng = np.random.default_rng(0)
    said = rng.dirichlet(np.ones(len(spec.classes)), len(labels))
    found = fit_calibrator(said, labels.astype(int), spec, method)
    assert found.method == "none"
    assert word in found.reason
    assert (found.apply(said) == said).all()


def test_a_class_of_one_patient_is_held_by_the_prior() -> None:
    rng = np.random.default_rng(0)
    labels = np.r_[np.arange(400) % 4, 4]
    said = rng.dirichlet(np.ones(5), len(labels))
    found = fit_calibrator(said, labels, FIVE, "vector")
    assert found.method == "vector"
    assert abs(found.shift[4]) < 5
    assert 0.1 < found.scale[4] < 10
    assert 0 < found.apply(said)[:, 4].mean() < 0.1


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_a_label_with_one_answer_is_left_alone(method: str) -> None:
    _, said, labels = too_sure(FINDINGS, n=300)
    labels[:, 1] = 0
    labels[:290, 2] = np.nan
    found = fit_calibrator(said, labels, FINDINGS, method)
    assert "label 'b': all labels are the same" in found.reason
    assert found.apply(said)[:, 1] == pytest.approx(said[:, 1], abs=1e-7)
    assert np.abs(found.apply(said)[:, 0] - said[:, 0]).max() > 0.1


def test_a_patient_with_many_studies_is_not_many_patients() -> None:
    _, said, labels = too_sure(FIVE, n=9)
    many = fit_calibrator(np.repeat(said, 20, 0), np.repeat(labels, 20), FIVE, patients=np.repeat(np.arange(9), 20))
    assert "9 labelled patients" in many.reason
    assert (many.studies, many.patients) == (180, 9)
    _, said, labels = too_sure(FIVE, n=30)
    once = fit_calibrator(said, labels, FIVE)
    twice = fit_calibrator(np.repeat(said, 2, 0), np.repeat(labels, 2), FIVE, patients=np.repeat(np.arange(30), 2))
    assert twice.scale == pytest.approx(once.scale)
    right = np.linspace(0, 1, 100)
    said, labels = np.stack([1 - right, right], 1), (right > 0.5).astype(int)
    alike = np.repeat(said, 3, 0), np.repeat(labels, 3), BINARY, "isotonic"
    steps = fit_calibrator(*alike, patients=np.repeat(np.arange(100), 3))
    assert steps.apply(said).max() == pytest.approx(1 - 1 / 102)


def test_studies_that_are_all_right_do_not_make_the_network_certain() -> None:
    labels = np.arange(20) % 2
    said = np.where(labels[:, None] == [0, 1], 0.8, 0.2)
    top = fit_calibrator(said, labels, BINARY).apply(said).max(1)
    assert (top > 0.8).all()
    assert (top < 0.99).all()
    assert fit_calibrator(said, labels, BINARY, spread=np.inf).apply(said).max() > 0.9999


def test_a_network_that_is_wrong_with_probability_zero_is_softened() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    told = np.where(rng.random(200) < 0.7, labels, 1 - labels)
    said = np.eye(2, dtype=np.float32)[told]
    assert fit_calibrator(said, labels, BINARY).apply(said).max(1) == pytest.approx(0.7, abs=0.05)


tiny = np.finfo(np.float32).smallest_subnormal
values = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 0.5, float(tiny), 1 - 2**-24, 0.5 + 2**-24]))


@settings(max_examples=80, deadline=None)
@given(
    raw=hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=values),
    scale=st.floats(0.05, 20),
    kind=st.sampled_from(["multiclass", "ordinal"]),
)
def test_temperature_never_changes_the_top_class(raw: Array, scale: float, kind: str) -> None:
    raw[raw.sum(1) == 0] = 0.25
    said = (raw / raw.sum(1, keepdims=True)).astype(np.float32)
    changed = Calibrator(kind, 4, "temperature", (scale,)).apply(said)
    assert changed.dtype == np.float32
    assert (changed.argmax(1) == said.argmax(1)).all()
    assert changed.sum(1) == pytest.approx(1, abs=1e-5)


@settings(max_examples=80, deadline=None)
@given(
    said=hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(2)), elements=values),
    scale=st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)),
)
def test_temperature_never_changes_the_side_of_a_label(said: Array, scale: tuple[float, float]) -> None:
    changed = Calibrator("multilabel", 2, "temperature", scale).apply(said)
    half = np.float32(0.5)
    assert (np.sign(changed - half) == np.sign(said - half)).all()
    assert ((changed >= 0) & (changed <= 1)).all()


def test_equal_probabilities_stay_equal() -> None:
    said = np.array([[0.1, 0.45, 0.45], [0.0, 0.5, 0.5]])
    changed = Calibrator("multiclass", 3, "temperature", (1.7,)).apply(said)
    assert (changed[:, 1] == changed[:, 2]).all()


@pytest.mark.parametrize("spec", [BINARY, FINDINGS], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic", "none"])
def test_json_and_back(spec: TaskSpec, method: str) -> None:
    _, said, labels = too_sure(spec, n=200)
    found = fit_calibrator(said, labels, spec, method)
    again = Calibrator.from_dict(json.loads(json.dumps(found.as_dict(), allow_nan=False)))
    assert again == found
    assert (again.apply(said) == found.apply(said)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"scale": [0.0]},
        {"scale": [float("inf")]},
        {"scale": [1.0, 1.0]},
        {"scale": "1"},
        {"method": "magic"},
        {"kind": "regression"},
        {"classes": 2.5},
        {"knots": [[[0.5, 0.1], [0.1, 0.2]]], "method": "isotonic", "scale": [], "kind": "binary"},
        {"more": 1},
    ],
)
def test_changed_json_is_refused(change: dict[str, Any]) -> None:
    good = Calibrator("multiclass", 3, "temperature", (1.2,)).as_dict()
    with pytest.raises(ValueError, match=r"."):
        Calibrator.from_dict(good | change)


def test_wrong_input_is_refused() -> None:
    said, labels = np.full((20, 5), 0.2), np.arange(20) % 5
    with pytest.raises(ValueError, match="do not sum to one"):
        fit_calibrator(said * 3, labels, FIVE)
    with pytest.raises(ValueError, match="binary and multilabel"):
        fit_calibrator(said, labels, FIVE, "isotonic")
    with pytest.raises(ValueError, match="temperature, vector"):
        fit_calibrator(said, labels, FIVE, "platt")
    with pytest.raises(ValueError, match="whole numbers from -1"):
        fit_calibrator(said, labels + 1, FIVE)
    with pytest.raises(ValueError, match="diverged"):
        fit_calibrator(said * np.nan, labels, FIVE)
    with pytest.raises(ValueError, match="must be floats"):
        Calibrator("multiclass", 5, "none").apply(np.eye(5, dtype=int))
