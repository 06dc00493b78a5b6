"""What is fitted is applied with numpy alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust import (
    fit_alarm,
    fit_calibrator,
    fit_image_checks,
    fit_neighbors,
    fit_sets,
)

BINARY = TaskSpec("t", ("no", "yes"), "binary")


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
