"""Every number against scikit-learn, plain and with the weights of a draw."""

from __future__ import annotations

import json
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn import metrics as sk

from mailnet.metrics import measure, summary
from mailnet.metrics.multilabel import MultiLabel
from mailnet.metrics.single import SingleLabel
from mailnet.metrics.values import Values
from mailnet.specs import TaskSpec

Array = np.ndarray[Any, Any]
TASKS = [
    TaskSpec("binary", ("no", "yes"), "binary"),
    TaskSpec("multiclass", tuple("abcde"), "multiclass"),
    TaskSpec("ordinal", tuple("abcd"), "ordinal"),
]


def made_up(spec: TaskSpec, n: int = 300, seed: int = 0) -> tuple[Array, Array]:
    """Probabilities, rounded so that there are ties, and labels of unequal frequency."""
    rng = np.random.default_rng(seed)
    classes = len(spec.classes)
    share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = rng.choice(classes, n, p=share)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.5
    steps = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    tied = np.maximum(np.round(steps, 2), 0.01)
    return tied / tied.sum(1, keepdims=True), labels


def made_up_labels(n: int = 300, classes: int = 3, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, classes)) < [0.5, 0.3, 0.1]).astype(float)
    return np.clip(np.round(0.3 * labels + rng.beta(2, 4, (n, classes)), 2), 0.01, 0.99), labels


def reference(spec: TaskSpec, p: Array, y: Array, w: Array) -> tuple[dict[str, float], dict[str, list[float]]]:
    classes, said = range(len(spec.classes)), p.argmax(1)
    one = np.eye(len(spec.classes))[y]
    auroc = [sk.roc_auc_score(one[:, k], p[:, k], sample_weight=w) for k in classes]
    auprc = [sk.average_precision_score(one[:, k], p[:, k], sample_weight=w) for k in classes]
    binary = spec.kind == "binary"
    overall = {
        "accuracy": sk.accuracy_score(y, said, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, said, sample_weight=w),
        "macro_f1": sk.f1_score(y, said, average="macro", sample_weight=w),
        "macro_auroc": auroc[1] if binary else np.mean(auroc),
        "macro_auprc": auprc[1] if binary else np.mean(auprc),
        "brier": sk.brier_score_loss(y, p[:, 1], sample_weight=w)
        if binary
        else np.average(((p - one) ** 2).sum(1), weights=w),
        "nll": sk.log_loss(y, p, labels=list(classes), sample_weight=w),
        "ece": plain_ece(p.max(1), said == y, w, 15),
        "adaptive_ece": even_ece(p.max(1), said == y, w, 15),
    }
    if spec.kind == "ordinal":
        overall["quadratic_kappa"] = sk.cohen_kappa_score(y, said, weights="quadratic", sample_weight=w)
        overall["mean_absolute_error"] = sk.mean_absolute_error(y, said, sample_weight=w)
    scores = {"labels": list(classes), "average": None, "sample_weight": w, "zero_division": 0}
    per_class = {
        "sensitivity": sk.recall_score(y, said, **scores),
        "precision": sk.precision_score(y, said, **scores),
        "f1": sk.f1_score(y, said, **scores),
        "specificity": [sk.recall_score(y != k, said != k, sample_weight=w) for k in classes],
        "auroc": auroc,
        "auprc": auprc,
    }
    return overall, {key: list(values) for key, values in per_class.items()}


def even_ece(confidence: Array, right: Array, weight: Array, bins: int) -> float:
    """Nixon et al. 2019, each study as often as it counts, in order, cut into parts of one size; equals share one."""
    repeated = np.repeat(np.arange(len(weight)), weight.astype(int))
    rank = rankdata(confidence[repeated], method="min") - 1
    edges = np.arange(bins + 1) * len(rank) / bins
    parts = [repeated[(rank >= low) & (rank < high)] for low, high in pairwise(edges)]
    return sum(abs(np.sum(confidence[part] - right[part])) for part in parts) / len(repeated)


def plain_ece(confidence: Array, right: Array, weight: Array, bins: int) -> float:
    """Guo et al. 2017, equations 2 and 3, bin by bin."""
    error = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if b == 0:
            inside |= confidence == 0
        if weight[inside].sum() > 0:
            gap = np.average(confidence[inside], weights=weight[inside]) - np.average(
                right[inside], weights=weight[inside]
            )
            error += weight[inside].sum() / weight.sum() * abs(gap)
    return error


@pytest.mark.parametrize("spec", TASKS, ids=lambda spec: spec.name)
def test_weighted_values_are_those_of_scikit_learn(spec: TaskSpec) -> None:
    p, y = made_up(spec)
    weights = np.vstack([np.ones(len(y)), np.random.default_rng(1).integers(0, 4, (4, len(y)))]).astype(float)
    found = SingleLabel(p, y, spec, 15)(weights)
    for d, w in enumerate(weights):
        overall, per_class = reference(spec, p, y, w)
        assert set(overall) == set(found.overall)
        for key, value in overall.items():
            assert found.overall[key][d] == pytest.approx(value, abs=1e-10), key
        for key, values in per_class.items():
            assert found.per_class[key][d] == pytest.approx(values, abs=1e-10), key


def test_weighted_values_of_multilabel() -> None:
    p, y = made_up_labels()
    weights = np.vstack([np.ones(len(y)), np.random.default_rng(1).integers(0, 4, (4, len(y)))]).astype(float)
    found = MultiLabel(p, y, 15)(weights)
    said = p > 0.5
    for d, w in enumerate(weights):
        each = {
            "auroc": [sk.roc_auc_score(y[:, k], p[:, k], sample_weight=w) for k in range(3)],
            "auprc": [sk.average_precision_score(y[:, k], p[:, k], sample_weight=w) for k in range(3)],
            "f1": [sk.f1_score(y[:, k], said[:, k], sample_weight=w) for k in range(3)],
            "accuracy": [sk.accuracy_score(y[:, k], said[:, k], sample_weight=w) for k in range(3)],
            "sensitivity": [sk.recall_score(y[:, k], said[:, k], sample_weight=w) for k in range(3)],
            "precision": [sk.precision_score(y[:, k], said[:, k], sample_weight=w, zero_division=0) for k in range(3)],
        }
        for key, values in each.items():
            assert np.nan_to_num(found.per_class[key][d]) == pytest.approx(values, abs=1e-10), key
        repeated = np.repeat(w, 3)
        overall = {
            "accuracy": sk.accuracy_score(y, said, sample_weight=w),
            "label_accuracy": np.mean(each["accuracy"]),
            "balanced_accuracy": np.mean(
                [sk.balanced_accuracy_score(y[:, k], said[:, k], sample_weight=w) for k in range(3)]
            ),
            "macro_f1": np.mean(each["f1"]),
            "macro_auroc": np.mean(each["auroc"]),
            "macro_auprc": np.mean(each["auprc"]),
            "brier": np.average((p - y).ravel() ** 2, weights=repeated),
            "nll": np.mean([sk.log_loss(y[:, k], p[:, k], sample_weight=w) for k in range(3)]),
            "ece": plain_ece(p.ravel(), y.ravel(), repeated, 15),
            "adaptive_ece": even_ece(p.ravel(), y.ravel(), repeated, 15),
        }
        assert set(overall) == set(found.overall)
        for key, value in overall.items():
            assert found.overall[key][d] == pytest.approx(value, abs=1e-10), key


def test_unknown_labels_are_left_out() -> None:
    spec = TASKS[1]
    p, y = made_up(spec)
    hidden = np.arange(len(y)) % 3 == 0
    left = measure(p, np.where(hidden, -1, y), spec, bootstrap=0)
    assert left == measure(p[~hidden], y[~hidden], spec, bootstrap=0)
    assert left["n"] == (~hidden).sum()


def test_unknown_labels_of_one_class_leave_the_others() -> None:
    spec = TaskSpec("signs", ("a", "b", "c"), "multilabel")
    p, y = made_up_labels()
    hidden = np.arange(len(y)) % 3 == 0
    partly = y.copy()
    partly[hidden, 1] = np.nan
    whole, found = measure(p, y, spec, bootstrap=0), measure(p, partly, spec, bootstrap=0)
    assert found["per_class"]["a"] == whole["per_class"]["a"]
    known = ~hidden
    assert found["per_class"]["b"]["auroc"]["value"] == pytest.approx(sk.roc_auc_score(y[known, 1], p[known, 1]))
    exact = sk.accuracy_score(y[known], p[known] > 0.5)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(exact)


def test_absent_class_is_named_and_leaves_the_means() -> None:
    spec = TASKS[1]
    p, y = made_up(spec)
    kept = y != 0
    found = measure(p[kept], y[kept], spec, bootstrap=20)
    assert found["absent"] == ["a"]
    assert found["per_class"]["a"]["n"] == 0
    assert found["per_class"]["a"]["sensitivity"] is None
    assert found["per_class"]["a"]["specificity"]["value"] < 1
    present = [found["per_class"][name]["sensitivity"]["value"] for name in "bcde"]
    assert found["metrics"]["balanced_accuracy"]["value"] == pytest.approx(np.mean(present))
    expected = sk.f1_score(y[kept], p[kept].argmax(1), labels=[1, 2, 3, 4], average="macro")
    assert found["metrics"]["macro_f1"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize("spec", [*TASKS, TaskSpec("signs", ("a", "b"), "multilabel")], ids=lambda spec: spec.name)
def test_few_studies_give_plain_json_and_no_warning(spec: TaskSpec) -> None:
    classes = len(spec.classes)
    for n in (0, 1, 2):
        p = np.full((n, classes), 1 / classes)
        y = np.zeros((n, classes)) if spec.kind == "multilabel" else np.zeros(n, np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = measure(p, y, spec, bootstrap=20)
            summary(p, y, spec)
        json.dumps(found, allow_nan=False)
        assert found["n"] == n


def test_certain_and_wrong_is_finite() -> None:
    found = measure(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([1, 0]), TASKS[0], bootstrap=0)
    assert 10 < found["metrics"]["nll"]["value"] < 100


def test_confusion_matrix() -> None:
    p, y = made_up(TASKS[1])
    assert measure(p, y, TASKS[1], bootstrap=0)["confusion"] == sk.confusion_matrix(y, p.argmax(1)).tolist()


@pytest.mark.parametrize("spec", TASKS, ids=lambda spec: spec.name)
def test_summary_agrees_with_the_whole(spec: TaskSpec) -> None:
    p, y = made_up(spec)
    whole = measure(p, y, spec, bootstrap=0)["metrics"]
    quick = summary(p, y, spec)
    assert quick.pop("loss") == whole["nll"]["value"]
    assert quick == {key: whole[key]["value"] for key in quick}


def test_summary_of_nothing_is_undefined() -> None:
    found = summary(np.full((2, 2), 0.5), np.array([-1, -1]), TASKS[0])
    assert set(found) == {"accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "loss"}
    assert np.isnan(list(found.values())).all()


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        (np.full((3, 3), 0.3), np.zeros(3, int), r"probabilities must be \(N, 2\)"),
        (np.full((3, 2), 0.5), np.zeros(2, int), r"labels must be \(3,\)"),
        (np.full((3, 2), 0.5), np.full(3, 2), "whole numbers from -1"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "NaN"),
    ],
)
def test_arrays_that_do_not_fit(p: Array, y: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(p, y, TASKS[0])


def test_stack_keeps_the_order() -> None:
    parts = [Values({"a": np.array([k])}, {"b": np.array([[k, k]])}) for k in range(3)]
    assert Values.stack(parts).overall["a"].tolist() == [0, 1, 2]
