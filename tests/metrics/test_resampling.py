"""Weights in place of drawn studies change nothing, and copies of a patient add no certainty."""

from __future__ import annotations

import numpy as np
import pytest

from mailnet.metrics import measure
from mailnet.metrics.bootstrap import draw_weights
from mailnet.specs import TaskSpec

TASK = TaskSpec("t", ("a", "b", "c", "d"))


def studies(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 4) and labels (n,)."""
    random = np.random.default_rng(0)
    labels = random.choice(4, n, p=(0.1, 0.2, 0.3, 0.4))
    logits = random.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1.2
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels


def test_intervals_are_those_of_plain_resampling() -> None:
    p, y = studies(80)
    plain = []
    for weights in np.concatenate(list(draw_weights(80, None, 200, 3))):
        rows = np.repeat(np.arange(80), weights.astype(int))
        plain.append(measure(p[rows], y[rows], TASK, bootstrap=0)["metrics"])
    for key, found in measure(p, y, TASK, bootstrap=200, seed=3)["metrics"].items():
        bounds = np.quantile([each[key]["value"] for each in plain], [0.025, 0.975])
        assert (found["low"], found["high"]) == pytest.approx(bounds), key


def test_copies_of_a_patient_do_not_narrow_the_interval() -> None:
    p, y = studies(100)
    one = measure(p, y, TASK)["metrics"]["accuracy"]
    four = measure(np.repeat(p, 4, 0), np.repeat(y, 4), TASK, groups=np.repeat(np.arange(100), 4))
    assert (four["n"], four["groups"]) == (400, 100)
    copies = four["metrics"]["accuracy"]
    assert copies["high"] - copies["low"] == pytest.approx(one["high"] - one["low"], rel=0.15)
