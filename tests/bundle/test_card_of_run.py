"""Which files of a run come to stand in the card of its model, and when it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up import config, estimate, evaluation

from mailnet.bundle.card import write_card
from mailnet.bundle.reliability import calibration_digest
from mailnet.bundle.weights import weights_digest
from mailnet.errors import RunError
from mailnet.evaluation import evaluate

CALIBRATOR = {"method": "temperature", "scale": [0.5], "reason": "", "studies": 40}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose files are made up; it has no network."""
    write(tmp_path / "bundle" / "config.json", config())
    write(tmp_path / "evaluation.json", evaluation())
    return tmp_path


def write(path: Path, values: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def card(run: Path) -> str:
    """Write the card and return it."""
    path = write_card(run)
    assert path == run / "bundle" / "README.md"
    return path.read_text(encoding="utf-8")


def robustness(**changes: Any) -> dict[str, Any]:
    """Contents of a robustness.json."""
    figures = {"clean": {"accuracy": estimate(0.8)}, "robust": {"accuracy": estimate(0.31), "balanced_accuracy": None}}
    levels = [{"left": 1 / 255}, {"left": 2 / 255}]
    cells = [
        {"eps": eps, "tasks": ["pathology"], "noise": noise, "figures": {"pathology": figures}}
        for eps in levels for noise in (None, "off")
    ]  # fmt: skip
    threat = {"norm": "linf", "levels": levels, "tables": {}}
    return {"split": "test", "external": False, "n": 40, "of": 60, "suite": "quick", "threat": threat, "cells": cells,
            "tasks": {"pathology": {}}, "unreliable": True, "reasons": ["steps are <few>"]} | changes  # fmt: skip


def test_attacks_damage_certificates_and_explanations(run: Path) -> None:
    write(run / "robustness.json", robustness())
    kinds = {"blur": {"error": estimate(0.3)}, "jpeg_noise": {"error": estimate(0.4)}, "ring": {"error": None}}
    harm = {"n": 60, "clean": {"error": estimate(0.2)}, "kinds": kinds, "mean_corruption_error": estimate(0.35)}
    settings: dict[str, Any] = {"kinds": kinds, "severities": [1, 2, 3]}
    write(
        run / "corruptions.json", {"split": "test", "modalities": {"left": {"pathology": harm}}, "settings": settings}
    )
    curve = [{"radius": k / 2, "balanced": 0.4, **estimate(0.6 - k / 10)} for k in range(3)]
    settings = {"split": "test", "draws": 300, "level": 0.001, "sigma": {"left": 0.1}}
    write(run / "certificate.json", {"settings": settings, "n": 40, "of": 60, "promises_nothing_about": ["clinic"],
                                     "tasks": {"pathology": {"curve": curve}}})  # fmt: skip
    entries = [{"row": 3}, {"row": 3}, {"row": 8}]
    write(run / "explanations" / "explanations.json", {"method": "layer_cam", "entries": entries})
    text = card(run)
    for line in (
        "**Not to be quoted as robustness:** steps are &lt;few&gt;.",
        "40 of 60 test studies, suite quick",
        "| pathology, no attack | 0.800 | 0.750 to 0.850 | - | - |",
        "| pathology, 2/255 | 0.310 | 0.260 to 0.360 | - | - |",
        "| pathology, left damaged | 60 | 0.200 | 0.350 | 0.300 to 0.400 | jpeg noise (0.400) |",
        "mean over 3 kinds of damage in 3 strengths",
        "| pathology, radius 0.50 | 0.500 | 0.450 to 0.550 | 0.400 |",
        "Nothing is promised where clinic changes.",
        "Heat maps by layer cam and the worth of each modality (Shapley values) of 2 studies",
    ):
        assert line in text
    assert text.count("| pathology, 2/255 |") == 1, "the cell without noise is another attack"
    left = text.split("## Not measured")[1]
    assert "mailnet attack" not in left
    assert "mailnet corrupt" not in left
    assert "mailnet explain" not in left


@pytest.mark.parametrize("changes", [{"split": "val"}, {"external": True}, {"format": 99}])
def test_other_studies_and_splits_never_come_into_a_card(run: Path, changes: dict[str, Any]) -> None:
    write(run / "evaluation.json", evaluation() | changes)
    write(run / "robustness.json", robustness(**changes))
    text = card(run)
    assert "has not been measured on its test studies" in text
    assert "model-index" not in text
    assert "## Robustness" not in text


def test_an_evaluation_before_the_present_calibration(run: Path) -> None:
    write(run / "bundle" / "calibration.json", {"format": 1, "split": "val", "calibrators": {"pathology": CALIBRATOR},
                                                "sets": {}, "abstentions": {}})  # fmt: skip
    assert "measured before the model was trained, or calibrated" in card(run)
    assert "Probabilities of pathology are calibrated" in card(run)
    found = evaluation()
    found["model"]["calibration"] = calibration_digest({"pathology": CALIBRATOR})
    write(run / "evaluation.json", found)
    assert "| Balanced accuracy | 0.712 |" in card(run)
    found["model"]["calibration"] = calibration_digest({})
    write(run / "evaluation.json", found)
    assert "| Balanced accuracy | 0.712 |" not in card(run)


def test_what_was_measured_of_other_weights(run: Path) -> None:
    (run / "bundle" / "model.safetensors").write_bytes(b"weights")
    write(run / "robustness.json", robustness(model={"weights": weights_digest(run)}))
    found = evaluation()
    found["model"]["weights"] = weights_digest(run)
    write(run / "evaluation.json", found)
    write(run / "explanations" / "explanations.json", {"method": "layer_cam", "entries": [{"row": 3}]})
    text = card(run)
    assert "model-index" in text
    assert "## Robustness" in text
    assert "## Explanations" in text
    (run / "bundle" / "model.safetensors").write_bytes(b"others")
    text = card(run)
    assert "measured before the model was trained, or calibrated" in text
    for words in ("model-index", "## Robustness", "## Explanations"):
        assert words not in text


def test_a_folder_without_a_model_and_a_damaged_file(run: Path, tmp_path: Path) -> None:
    assert write_card(tmp_path / "results") is None
    (run / "evaluation.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"evaluation\.json"):
        write_card(run)
    write(run / "evaluation.json", {"split": "test", "tasks": {"pathology": []}})
    with pytest.raises(RunError, match="cannot be understood"):
        write_card(run)


def test_evaluating_the_test_studies_writes_it(make_run: Callable[..., Path], cache: Path) -> None:
    run = make_run(n=60)
    path = run / "bundle" / "README.md"
    assert "has not been measured" in path.read_text(encoding="utf-8")
    found = evaluate(run, cache=cache, device="cpu", bootstrap=0)
    text = path.read_text(encoding="utf-8")
    for one in yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"]:
        measured = found["tasks"][one["task"]["name"]]["metrics"]
        said = {metric["name"]: metric["value"] for metric in one["metrics"]}
        assert said["Balanced accuracy"] == measured["balanced_accuracy"]["value"]
    for secret in (str(run.parent), *(f"{letter}{k:03d}" for letter in "sp" for k in range(60))):
        assert secret not in text
    evaluate(run, split="val", cache=cache, device="cpu", bootstrap=0)
    assert path.read_text(encoding="utf-8") == text
