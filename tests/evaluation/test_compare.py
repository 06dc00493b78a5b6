"""A table of several runs, and what may not be put into one row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mailnet.errors import RunError
from mailnet.evaluation import compare


def write(folder: Path, seed: int, accuracy: float, **changes: Any) -> Path:
    found = {"n": 100, "metrics": {"accuracy": {"value": accuracy}, "macro_auroc": None}}
    values = {
        "study": "made-up",
        "split": "test",
        "model": {"name": "mail", "options": {}, "seed": seed},
        "tasks": {"grade": found},
        "modalities": {"by_nature": False, "only": {"ct": {"grade": found}}, "without": {}},
    } | changes
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps(values))
    return folder


def test_mean_and_spread(tmp_path: Path) -> None:
    runs = [write(tmp_path / str(k), k, value) for k, value in enumerate((0.8, 0.9, 0.85))]
    lines = compare({"MAIL": runs}, metrics={"accuracy": "accuracy", "macro_auroc": "AUROC"}).splitlines()
    assert lines[0] == "| network | task | inputs | studies | seeds | accuracy | AUROC |"
    assert lines[2] == "| MAIL | grade | all | 100 | 3 | 0.8500 ± 0.0500 | - |"


def test_modalities_and_one_seed(tmp_path: Path) -> None:
    table = compare({"MAIL": [write(tmp_path / "a", 0, 0.8)]}, metrics={"accuracy": "accuracy"}, modalities=True)
    assert "| MAIL | grade | ct alone | 100 | 1 | 0.8000 |" in table


@pytest.mark.parametrize(
    ("seed", "changes", "message"),
    [
        (0, {}, "same seed"),
        (1, {"split": "val"}, "differ in split"),
        (1, {"model": {"name": "mail", "options": {"width": "nano"}, "seed": 1}}, "differ in network"),
    ],
)
def test_unlike_runs_are_refused(tmp_path: Path, seed: int, changes: dict[str, Any], message: str) -> None:
    runs = [write(tmp_path / "a", 0, 0.8), write(tmp_path / "b", seed, 0.9, **changes)]
    with pytest.raises(RunError, match=message):
        compare({"MAIL": runs})


def test_run_without_evaluation(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="mailnet evaluate"):
        compare({"MAIL": [tmp_path]})
