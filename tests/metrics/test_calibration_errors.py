"""Calibration errors beside those of torchmetrics and netcal, on random inputs without ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from netcal.metrics import ECE, MCE  # type: ignore[import-untyped]
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from mailnet.metrics import measure
from mailnet.metrics.curves import reliability
from mailnet.specs import TaskSpec

Array = np.ndarray[Any, Any]
BINS = 15
TASKS = [
    TaskSpec("binary", ("no", "yes"), "binary"),
    TaskSpec("multiclass", tuple("abcde"), "multiclass"),
    TaskSpec("ordinal", tuple("abcd"), "ordinal"),
]


def drawn(spec: TaskSpec, seed: int, n: int = 300) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(len(spec.classes)), n)
    return p, (random.random((n, 1)) > p.cumsum(1) ** 0.7).sum(1).clip(max=p.shape[1] - 1)


def value(found: dict[str, Any], name: str) -> float:
    return float(found["metrics"][name]["value"])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", TASKS, ids=lambda spec: spec.kind)
def test_errors_of_one_answer(spec: TaskSpec, seed: int) -> None:
    p, labels = drawn(spec, seed)
    found = measure(p, labels, spec, bootstrap=0, bins=BINS)
    given, answers = torch.from_numpy(p), torch.from_numpy(labels)
    of = {
        norm: float(multiclass_calibration_error(given, answers, p.shape[1], n_bins=BINS, norm=norm))
        for norm in ("l1", "max")
    }
    assert value(found, "ece") == pytest.approx(of["l1"], abs=1e-6)
    # netcal takes two columns for one answer's probability, so it is told whether the answer is right.
    confidence, right = p.max(1), (p.argmax(1) == labels).astype(int)
    assert value(found, "ece") == pytest.approx(ECE(BINS).measure(confidence, right))
    even = ECE(BINS, equal_intervals=False).measure(confidence, right)
    assert value(found, "adaptive_ece") == pytest.approx(even)
    diagram = reliability(right.astype(bool), confidence, BINS)
    largest = np.abs(diagram.confidence - diagram.accuracy).max()
    assert largest == pytest.approx(of["max"], abs=1e-6)
    assert largest == pytest.approx(MCE(BINS).measure(confidence, right))


def test_errors_of_labels() -> None:
    spec = TaskSpec("findings", tuple("abc"), "multilabel")
    random = np.random.default_rng(0)
    p = random.random((300, 3))
    labels = (random.random((300, 3)) < p**2).astype(float)
    found = measure(p, labels, spec, bootstrap=0, bins=BINS)
    flat, answers = torch.from_numpy(p.ravel()), torch.from_numpy(labels.ravel()).long()
    assert value(found, "ece") == pytest.approx(float(binary_calibration_error(flat, answers, BINS)), abs=1e-6)
    even = ECE(BINS, equal_intervals=False).measure(p.ravel(), labels.ravel())
    assert value(found, "adaptive_ece") == pytest.approx(even)


def test_adaptive_error_by_hand() -> None:
    sure = np.array([0.6, 0.7, 0.8, 0.9])
    p, labels = np.stack([1 - sure, sure], 1), np.array([1, 0, 1, 1])
    for bins, error in ((2, (abs(1.3 - 1) + abs(1.7 - 2)) / 4), (1, 0.0)):
        assert value(measure(p, labels, TASKS[0], bootstrap=0, bins=bins), "adaptive_ece") == pytest.approx(error)
    alike = measure(np.full((4, 2), 0.5), labels, TASKS[0], bootstrap=0)
    assert value(alike, "adaptive_ece") == pytest.approx(0.25)
    findings = TaskSpec("t", ("a", "b"), "multilabel")
    one = measure(np.array([[0.2, 0.4]]), np.array([[0, np.nan]]), findings, bootstrap=0)
    assert value(one, "adaptive_ece") == pytest.approx(0.2)


def test_brier_score_of_several_classes() -> None:
    """Scikit-learn has it of each class against the others; the sum over classes is that of Brier 1950."""
    p, labels = drawn(TASKS[1], 0)
    each = sum(brier_score_loss(labels == k, p[:, k]) for k in range(p.shape[1]))
    assert value(measure(p, labels, TASKS[1], bootstrap=0), "brier") == pytest.approx(each)
