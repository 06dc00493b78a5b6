"""The adaptive calibration error, and that what is fitted is applied with numpy alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mailnet.specs import TaskSpec
from mailnet.trust import (
    adaptive_error,
    fit_alarm,
    fit_calibrator,
    fit_image_checks,
    fit_neighbors,
    fit_sets,
)

BINARY = TaskSpec("t", ("no", "yes"), "binary")


def test_error_by_hand() -> None:
    sure = np.array([0.6, 0.7, 0.8, 0.9])
    p = np.stack([1 - sure, sure], 1)
    labels = np.array([1, 0, 1, 1])
    assert adaptive_error(p, labels, BINARY, bins=2) == pytest.approx((abs(1.3 - 1) + abs(1.7 - 2)) / 4)
    assert adaptive_error(p, labels, BINARY, bins=1) == pytest.approx(0)
    assert adaptive_error(p, np.full(4, -1), BINARY) is None
    assert adaptive_error(np.full((4, 2), 0.5), labels, BINARY) == pytest.approx(0.25)
    findings = TaskSpec("t", ("a", "b"), "multilabel")
    assert adaptive_error(np.array([[0.2, 0.4]]), np.array([[0, np.nan]]), findings) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="bins"):
        adaptive_error(p, labels, BINARY, bins=0)


def test_calibrated_probabilities_have_little_error() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(20_000)
    labels = (rng.random(20_000) < true).astype(int)
    odds = (true / (1 - true)) ** 3
    said = np.stack([1 / (1 + odds), odds / (1 + odds)], 1)
    before = adaptive_error(said, labels, BINARY)
    after = adaptive_error(fit_calibrator(said, labels, BINARY).apply(said), labels, BINARY)
    assert before is not None
    assert after is not None
    assert after < 0.015 < 0.1 < before


def test_what_is_fitted_is_applied_with_numpy_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(200)
    p, labels = np.stack([1 - sure, sure], 1), (rng.random(200) < sure).astype(int)
    near = fit_neighbors(p)
    np.savez(tmp_path / "points.npz", points=near.arrays()["points"])
    fitted = {
        "calibrator": fit_calibrator(p, labels, BINARY, "isotonic").as_dict(),
        "sets": fit_sets(p, labels, BINARY, by="class").as_dict(),
        "near": near.as_dict(),
        "alarm": fit_alarm(near.score(p)).as_dict(),
        "checks": fit_image_checks([rng.random((1, 8, 8)) for _ in range(9)]).as_dict(),
    }
    (tmp_path / "fitted.json").write_text(json.dumps(fitted))
    program = """
import json, sys
for name in ("torch", "scipy", "sklearn", "pandas", "mapie"):
    sys.modules[name] = None  # importing it fails
import numpy as np
from mailnet import trust
fitted = json.load(open("fitted.json"))
p = trust.Calibrator.from_dict(fitted["calibrator"]).apply(np.array([[0.3, 0.7]]))
members = trust.ConformalSets.from_dict(fitted["sets"]).predict(p)
score = trust.foreign_score(dict(np.load("points.npz")), fitted["near"]).score(p)
sounds = trust.Alarm.from_dict(fitted["alarm"]).sounds(score)
found = trust.ImageChecks.from_dict(fitted["checks"]).check(np.zeros((1, 8, 8)))
parts = trust.measure_uncertainty(p[None], trust.ConformalSets.from_dict(fitted["sets"]).spec)
print(members.shape, sounds.shape, found[0].code, parts.total.shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 2) (1,) blank (1,)"
