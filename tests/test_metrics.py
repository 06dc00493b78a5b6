"""Every number against scikit-learn, the calibration error against a plain loop, the intervals against the truth."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from mailnet.metrics import measure, summary
from mailnet.metrics.bootstrap import draw_weights
from mailnet.metrics.ranking import Ranking
from mailnet.specs import TaskSpec

MULTI = TaskSpec("t", ("a", "b", "c", "d"))
ORDINAL = TaskSpec("t", ("a", "b", "c", "d"), "ordinal")
BINARY = TaskSpec("t", ("no", "yes"), "binary")
FINDINGS = TaskSpec("t", ("a", "b", "c"), "multilabel")


def studies(n: int, classes: int, seed: int = 0, digits: int | None = 2) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, classes), coarse so that there are ties, and labels (n,)."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = random.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if digits is not None:
        probabilities = probabilities.round(digits)
        probabilities[:, 0] += 1 - probabilities.sum(1)
    probabilities = np.clip(probabilities, 1e-6, 1)
    return probabilities / probabilities.sum(1, keepdims=True), labels


def findings(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 3) and labels (n, 3) of which a tenth is unknown."""
    random = np.random.default_rng(seed)
    truth = (random.random((n, 3)) < (0.5, 0.3, 0.1)).astype(float)
    probabilities = np.clip(truth * 0.3 + random.beta(2, 3, (n, 3)) * 0.7, 1e-6, 1 - 1e-6).round(2)
    truth[random.random(truth.shape) < 0.1] = np.nan
    return probabilities, truth


def plain_ece(right: np.ndarray, confidence: np.ndarray, bins: int) -> float:
    """The calibration error as it is defined, bin by bin."""
    total = 0.0
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if k == 0:
            inside |= confidence == 0
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def values(found: dict[str, Any]) -> dict[str, float]:
    return {key: estimate["value"] for key, estimate in found.items() if isinstance(estimate, dict)}


@pytest.mark.parametrize("spec", [MULTI, ORDINAL])
def test_many_classes_against_scikit_learn(spec: TaskSpec) -> None:
    p, y = studies(400, 4)
    said, one = p.argmax(1), np.eye(4)[y]
    found = measure(p, y, spec, bootstrap=0)
    expected = {
        "accuracy": sk.accuracy_score(y, said),
        "balanced_accuracy": sk.balanced_accuracy_score(y, said),
        "macro_f1": sk.f1_score(y, said, average="macro"),
        "macro_auroc": sk.roc_auc_score(y, p, multi_class="ovr"),
        "macro_auprc": np.mean([sk.average_precision_score(one[:, k], p[:, k]) for k in range(4)]),
        "ece": plain_ece(said == y, p.max(1), 15),
        "brier": np.square(p - one).sum(1).mean(),
        "nll": sk.log_loss(y, p),
    }
    if spec.kind == "ordinal":
        expected |= {
            "quadratic_kappa": sk.cohen_kappa_score(y, said, weights="quadratic"),
            "mean_absolute_error": sk.mean_absolute_error(y, said),
        }
    assert values(found["metrics"]) == pytest.approx(expected)
    assert found["confusion"] == sk.confusion_matrix(y, said).tolist()
    precision, recall, f1, support = sk.precision_recall_fscore_support(y, said)
    for k, name in enumerate(spec.classes):
        cells = sk.confusion_matrix(y == k, said == k)
        assert found["per_class"][name]["n"] == support[k]
        assert values(found["per_class"][name]) == pytest.approx(
            {
                "sensitivity": recall[k],
                "specificity": cells[0, 0] / cells[0].sum(),
                "precision": precision[k],
                "f1": f1[k],
                "auroc": sk.roc_auc_score(y == k, p[:, k]),
                "auprc": sk.average_precision_score(y == k, p[:, k]),
            }
        )


def test_two_classes_are_ranked_by_the_second() -> None:
    p, y = studies(300, 2)
    found = values(measure(p, y, BINARY, bootstrap=0)["metrics"])
    assert found["macro_auroc"] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert found["macro_auprc"] == pytest.approx(sk.average_precision_score(y, p[:, 1]))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(y, p[:, 1]))
    assert found["ece"] == pytest.approx(plain_ece(p.argmax(1) == y, p.max(1), 15))


def test_several_labels_against_scikit_learn() -> None:
    p, y = findings()
    found = measure(p, y, FINDINGS, bootstrap=0)
    known = np.isfinite(y)
    each = [(y[known[:, k], k], p[known[:, k], k]) for k in range(3)]
    whole = known.all(1)
    expected = {
        "accuracy": sk.accuracy_score(y[whole], p[whole] > 0.5),
        "label_accuracy": np.mean([sk.accuracy_score(t, s > 0.5) for t, s in each]),
        "balanced_accuracy": np.mean([sk.balanced_accuracy_score(t, s > 0.5) for t, s in each]),
        "macro_f1": np.mean([sk.f1_score(t, s > 0.5) for t, s in each]),
        "macro_auroc": np.mean([sk.roc_auc_score(t, s) for t, s in each]),
        "macro_auprc": np.mean([sk.average_precision_score(t, s) for t, s in each]),
        "ece": plain_ece(y[known], p[known], 15),
        "brier": sk.brier_score_loss(y[known], p[known]),
        "nll": sk.log_loss(y[known], p[known]),
    }
    assert values(found["metrics"]) == pytest.approx(expected)
    assert "confusion" not in found
    for k, name in enumerate(FINDINGS.classes):
        truth, score = each[k]
        cells = sk.confusion_matrix(truth, score > 0.5)
        assert values(found["per_class"][name]) == pytest.approx(
            {
                "accuracy": sk.accuracy_score(truth, score > 0.5),
                "sensitivity": sk.recall_score(truth, score > 0.5),
                "specificity": cells[0, 0] / cells[0].sum(),
                "precision": sk.precision_score(truth, score > 0.5),
                "f1": sk.f1_score(truth, score > 0.5),
                "auroc": sk.roc_auc_score(truth, score),
                "auprc": sk.average_precision_score(truth, score),
            }
        )


def test_weighted_areas_against_scikit_learn() -> None:
    p, y = studies(200, 3)
    weights = np.random.default_rng(1).integers(0, 4, (6, 200)).astype(float)
    auroc, auprc = Ranking(y == 1, p[:, 1]).areas(weights)
    for draw, weight in enumerate(weights):
        assert auroc[draw] == pytest.approx(sk.roc_auc_score(y == 1, p[:, 1], sample_weight=weight))
        assert auprc[draw] == pytest.approx(sk.average_precision_score(y == 1, p[:, 1], sample_weight=weight))


def test_intervals_are_those_of_plain_resampling() -> None:
    p, y = studies(80, 4)
    draws = 300
    plain = []
    for weights in np.concatenate(list(draw_weights(80, None, draws, 3))):
        rows = np.repeat(np.arange(80), weights.astype(int))
        plain.append(values(measure(p[rows], y[rows], MULTI, bootstrap=0)["metrics"]))
    found = measure(p, y, MULTI, bootstrap=draws, seed=3)["metrics"]
    for key, estimate in found.items():
        low, high = np.quantile([each[key] for each in plain], [0.025, 0.975])
        assert (estimate["low"], estimate["high"]) == pytest.approx((low, high)), key


def test_groups_are_drawn_whole() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    weights = np.concatenate(list(draw_weights(6, groups, 50, 0)))
    assert weights.shape == (50, 6)
    for name in "abc":
        inside = weights[:, groups == name]
        assert (inside == inside[:, :1]).all()
    firsts = weights[:, [0, 1, 3]]
    assert (firsts.sum(1) == 3).all()


def test_copies_of_a_patient_do_not_narrow_the_interval() -> None:
    p, y = studies(100, 4)
    one = measure(p, y, MULTI)["metrics"]["accuracy"]
    many = measure(np.repeat(p, 4, 0), np.repeat(y, 4), MULTI, groups=np.repeat(np.arange(100), 4))
    assert many["groups"] == 100
    copies = many["metrics"]["accuracy"]
    assert copies["high"] - copies["low"] == pytest.approx(one["high"] - one["low"], rel=0.15)


def test_intervals_cover_the_truth() -> None:
    population = studies(100_000, 2, seed=9, digits=None)
    truth = summary(*population, BINARY)
    covered = {"accuracy": 0, "macro_auroc": 0}
    for seed in range(200):
        rows = np.random.default_rng(seed).integers(0, 100_000, 150)
        found = measure(population[0][rows], population[1][rows], BINARY, bootstrap=300, seed=seed)["metrics"]
        for key in covered:
            covered[key] += found[key]["low"] <= truth[key] <= found[key]["high"]
    # 95% of 200 is 190; fewer than 180 by chance once in a thousand.
    assert min(covered.values()) >= 180, covered


@pytest.mark.parametrize(("spec", "kind"), [(MULTI, "single"), (FINDINGS, "several")])
def test_unknown_labels_are_left_out(spec: TaskSpec, kind: str) -> None:
    p, y = studies(100, 4) if kind == "single" else findings(100)
    y = y.copy()
    y[::3] = -1 if kind == "single" else np.nan
    known = np.arange(100) % 3 != 0
    assert measure(p, y, spec, bootstrap=50) == measure(p[known], y[known], spec, bootstrap=50)


def test_a_class_without_a_study_is_named_and_left_out() -> None:
    p, y = studies(100, 4)
    y[y == 1] = 0
    found = measure(p, y, MULTI, bootstrap=50)
    assert found["absent"] == ["b"]
    assert found["per_class"]["b"]["n"] == 0
    assert found["per_class"]["b"]["sensitivity"] is None
    assert found["per_class"]["b"]["auroc"] is None
    assert found["metrics"]["balanced_accuracy"]["value"] == pytest.approx(
        np.mean([sk.recall_score(y == k, p.argmax(1) == k) for k in (0, 2, 3)])
    )
    assert found["metrics"]["macro_auroc"]["value"] == pytest.approx(
        np.mean([sk.roc_auc_score(y == k, p[:, k]) for k in (0, 2, 3)])
    )
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("spec", [MULTI, ORDINAL, BINARY, FINDINGS])
def test_hardly_any_studies(spec: TaskSpec, n: int) -> None:
    size = len(spec.classes)
    p = np.full((n, size), 1 / size)
    y = np.ones((n, size)) if spec.kind == "multilabel" else np.ones(n, dtype=np.int64)
    found = measure(p, y, spec, bootstrap=20)
    assert found["n"] == n
    json.dumps(found, allow_nan=False)
    assert set(summary(p, y, spec)) == {"accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "loss"}


def test_one_patient_gives_no_interval() -> None:
    p, y = studies(20, 4)
    found = measure(p, y, MULTI, groups=np.zeros(20), bootstrap=50)
    assert set(found["metrics"]["accuracy"]) == {"value"}


def test_the_same_seed_gives_the_same_interval() -> None:
    p, y = studies(60, 4)
    assert measure(p, y, MULTI, bootstrap=40, seed=1) == measure(p, y, MULTI, bootstrap=40, seed=1)
    assert measure(p, y, MULTI, bootstrap=40, seed=1) != measure(p, y, MULTI, bootstrap=40, seed=2)


def test_certain_and_wrong_is_finite() -> None:
    found = measure(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([1, 0]), BINARY, bootstrap=0)
    assert 10 < found["metrics"]["nll"]["value"] < 100


@pytest.mark.parametrize(
    ("probabilities", "labels", "words"),
    [
        (np.zeros((3, 2)), np.zeros(3, int), r"\(N, 4\)"),
        (np.full((3, 4), 0.25), np.zeros(2, int), "labels must be"),
        (np.full((3, 4), 0.25), np.full(3, 4), "from -1"),
        (np.full((3, 4), np.nan), np.zeros(3, int), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities: np.ndarray, labels: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measure(probabilities, labels, MULTI)


def test_intervals_are_quick() -> None:
    p, y = studies(2000, 7, digits=None)
    start = time.process_time()
    measure(p, y, TaskSpec("t", tuple("abcdefg")))
    assert time.process_time() - start < 10
