"""Which files of a run come to stand in the card of its model, and when it is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up import config, estimate, evaluation

from mailnet.bundle.card import write_card
from mailnet.bundle.fitted import fitted_digests
from mailnet.bundle.reliability import calibration_digest
from mailnet.bundle.weights import weights_digest
from mailnet.errors import RunError
from mailnet.evaluation import evaluate
from mailnet.evaluation.reliability import Wanted

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
    assert "bfloat16" not in text
    left = text.split("## Not measured")[1]
    assert "mailnet attack" not in left
    assert "mailnet corrupt" not in left
    assert "mailnet explain" not in left


def test_a_search_in_low_precision_is_said(run: Path) -> None:
    write(run / "robustness.json", robustness(precision="bf16"))
    assert "The search was in bfloat16" in card(run)


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


def abstention(**changes: Any) -> dict[str, Any]:
    """A threshold and what it came to."""
    return {"threshold": 0.8, "risk": 0.05, "reason": "", "promise": "At most 5% are wrong",
            "measured": {"coverage": 0.614, "wrong": 0.031}} | changes  # fmt: skip


def fitted_and_measured(run: Path, **changes: Any) -> None:
    """Fit sets and a threshold, and what tells foreign studies, and measure these."""
    one = {"alpha": 0.1, "score": "lac", "by": "all"}
    fitted = {"format": 1, "split": "val", "calibrators": {}, "sets": {"pathology": [one]}}
    write(run / "bundle" / "calibration.json", fitted | {"abstentions": {"pathology": abstention()}})
    write(run / "bundle" / "foreign.json", {"format": 1, "rate": 0.05, "modalities": {"left": {"images": 9}}})
    sets = [one | {"measured": {"overall": {"coverage": 0.913, "size": 1.27, "single": 0.73}}}]
    measured = {"calibration": {}, "sets": {"pathology": sets}, "abstention": {"pathology": abstention()}}
    share = {"studies": 60, "alarms": 4, "share": 0.067, "stated": 0.05}
    found = evaluation() | {"reliability": measured, "foreign": {"rate": 0.05, "study": share}}
    found["model"] = {"calibration": calibration_digest({}), "fitted": fitted_digests(run / "bundle")} | changes
    write(run / "evaluation.json", found)


SETS, THRESHOLD, FOREIGN = "| 91.3% | 1.270 | 73.0% |", "Of the test studies 61.4% are", "6.7% were called foreign"


def test_sets_thresholds_and_alarms_that_were_fitted_anew(run: Path) -> None:
    fitted_and_measured(run)
    text = card(run)
    assert "answers where its confidence is above 0.800, for a risk of 5.0%" in text
    for words in (SETS, THRESHOLD, FOREIGN, "| Balanced accuracy | 0.712 |"):
        assert words in text
    assert "since they were fitted" not in text
    path = run / "bundle" / "calibration.json"
    first = json.loads(path.read_text())
    # The same alpha from other studies: nothing in the evaluation tells but the digest.
    write(path, first | {"abstentions": {"pathology": abstention(threshold=0.9)}})
    text = card(run)
    assert (
        "confidence is above 0.900, for a risk of 5.0%; not measured on the test studies since it was chosen." in text
    )
    assert "were not measured on the test studies since they were fitted" in text
    assert THRESHOLD not in text
    assert SETS not in text
    for words in (FOREIGN, "| Balanced accuracy | 0.712 |"):
        assert words in text
    write(path, first)
    write(run / "bundle" / "foreign.json", {"format": 1, "rate": 0.1, "modalities": {"left": {"images": 9}}})
    text = card(run)
    assert FOREIGN not in text
    assert "How often usual studies are called foreign was not measured" in text
    assert SETS in text


def test_an_older_evaluation_knows_sets_by_their_kind_and_thresholds_by_their_number(run: Path) -> None:
    fitted_and_measured(run, fitted=None)
    text = card(run)
    for words in (SETS, THRESHOLD, FOREIGN):
        assert words in text
    path = run / "bundle" / "calibration.json"
    first = json.loads(path.read_text())
    for change in ({"score": "aps"}, {"by": "class"}, {"alpha": 0.2}):
        write(path, first | {"sets": {"pathology": [first["sets"]["pathology"][0] | change]}})
        assert SETS not in card(run)
    write(path, first | {"abstentions": {"pathology": abstention(threshold=0.9)}})
    assert THRESHOLD not in card(run)


def test_a_model_that_always_answers(run: Path) -> None:
    fitted_and_measured(run)
    always = abstention(threshold=-sys.float_info.max)
    values = {"format": 1, "calibrators": {}, "sets": {}, "abstentions": {"pathology": always}}
    write(run / "bundle" / "calibration.json", values)
    text = card(run)
    assert "pathology: always answers, for a risk of 5.0%" in text
    assert "000000" not in text


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


def test_an_evaluation_says_of_which_files_it_is(make_run: Callable[..., Path], cache: Path) -> None:
    run = make_run(n=60)
    found = evaluate(run, cache=cache, device="cpu", bootstrap=0, wanted=Wanted(alphas=(0.3,)), foreign=0.2)
    assert found["model"]["fitted"] == fitted_digests(run / "bundle")
    assert set(found["model"]["fitted"]) == {"calibration.json", "foreign.json"}
    assert "were called foreign" in card(run)
    other = run.parent / "other"
    # The card is written anew where only alarms were fitted, and only another split measured.
    evaluate(run, split="val", out=other, cache=cache, device="cpu", bootstrap=0, foreign=0.3)
    assert "were called foreign" not in (run / "bundle" / "README.md").read_text(encoding="utf-8")
