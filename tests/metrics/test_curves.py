"""Curves against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc

from mailnet.metrics.curves import DRAWN_POINTS, precision_recall_curve, reliability, roc_curve


@pytest.fixture(params=[20, 3000])
def cases(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(request.param)
    positive = rng.random(request.param) < 0.3
    return positive, np.round(0.5 * rng.random(request.param) + 0.3 * positive, 3)


def test_roc_has_the_area_and_the_points_of_sklearn(cases: tuple[np.ndarray, np.ndarray]) -> None:
    curve = roc_curve(*cases)
    assert curve is not None
    assert len(curve.x) <= DRAWN_POINTS + 2
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc_score(*cases), abs=0.003)
    false, true, _ = sklearn_roc(*cases, drop_intermediate=False)
    reference = set(zip(false.tolist(), true.tolist(), strict=True))
    assert set(zip(curve.x.tolist(), curve.y.tolist(), strict=True)) <= reference


def test_precision_recall_has_the_area_of_sklearn(cases: tuple[np.ndarray, np.ndarray]) -> None:
    curve = precision_recall_curve(*cases)
    assert curve is not None
    area = float(np.sum(np.diff(curve.x) * curve.y[1:]))
    assert area == pytest.approx(average_precision_score(*cases), abs=0.02)


def test_one_sided_truth_has_no_curve() -> None:
    score = np.array([0.2, 0.8])
    assert roc_curve(np.array([True, True]), score) is None
    assert roc_curve(np.array([False, False]), score) is None
    assert precision_recall_curve(np.array([False, False]), score) is None


def test_reliability_counts_every_study_in_its_bin() -> None:
    points = reliability(np.array([True, False, True, True]), np.array([0.1, 0.05, 0.95, 1.0]), 10)
    assert points.count.tolist() == [2, 2]
    assert points.accuracy.tolist() == [0.5, 1.0]
    assert points.confidence == pytest.approx([0.075, 0.975])
