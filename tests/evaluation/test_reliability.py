"""Calibration, prediction sets and thresholds: fitted by evaluate, kept in the bundle, used by every prediction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from factory import Command
from mailnet.bundle import load
from mailnet.data.config import load_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, RunError
from mailnet.evaluation import evaluate
from mailnet.evaluation.reliability import Wanted, fit_reliability, in_first_half
from mailnet.trust.conformal import fit_sets
from mailnet.trust.fitting import fit_calibrator

MakeRun = Callable[..., Path]


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    """A run with 60 validation and 60 test studies, each of a patient of its own."""
    return make_run(n=300, group=None)


def studies(run: Path, cache: Path, split: str) -> tuple[StudyData, dict[str, np.ndarray]]:
    """Return the studies of a split and what the network says of them."""
    raw = load(run, "cpu", raw=True)
    data = load_study(load_config(run / "study.yaml"), cache=cache, tables=raw.tables, splits=[split])
    return data, raw.predict_data(data, np.arange(len(data)))


def test_what_is_fitted_on_validation_studies_is_used_by_every_prediction(run: Path, cache: Path) -> None:
    wanted = Wanted("temperature", (0.1, 0.2))
    result = evaluate(run, cache=cache, device="cpu", bootstrap=0, wanted=wanted)
    assert json.loads((run / "evaluation.json").read_text()) == result
    val, said = studies(run, cache, "val")
    test, raw = studies(run, cache, "test")
    predictions = load(run, "cpu").predict(run / "study.yaml", alpha=0.2)
    frame = predictions.to_frame().set_index("id").loc[test.frame["id"]]
    for task, spec in val.tasks.items():
        calibrator = fit_calibrator(said[task], val.labels[task], spec)
        calibrated = calibrator.apply(raw[task])
        assert calibrator.method == "temperature"
        assert result["reliability"]["calibration"][task]["temperature"] == pytest.approx(calibrator.temperature)
        found = frame[[f"{task}:{name}" for name in spec.classes]].to_numpy()
        np.testing.assert_allclose(found, calibrated, atol=1e-5)
        assert (found.argmax(1) == raw[task].argmax(1)).all()
        members = fit_sets(said[task], val.labels[task], spec, 0.2).predict(raw[task])
        words = ["|".join(np.array(spec.classes)[row]) for row in members]
        assert frame[f"{task}:set"].tolist() == words
        [first, second] = result["reliability"]["sets"][task]
        assert (first["alpha"], second["alpha"]) == (0.1, 0.2)
        truth = members[np.arange(len(members)), test.labels[task]]
        assert second["measured"]["overall"]["coverage"] == pytest.approx(truth.mean())
        assert second["divisions"]["all"]["divisions"] == 100
    assert result["tasks"]["grade"]["metrics"]["ece"] == result["reliability"]["calibration"]["grade"]["after"]["ece"]
    table = pd.read_parquet(run / "predictions.parquet")
    np.testing.assert_allclose(table["prob:grade:high"], frame["grade:high"], atol=1e-6)


def test_a_second_evaluation_keeps_what_was_fitted(run: Path, cache: Path) -> None:
    first = evaluate(run, cache=cache, device="cpu", bootstrap=0, wanted=Wanted("temperature", (0.1,)))
    again = evaluate(run, cache=cache, device="cpu", bootstrap=0)
    assert again["reliability"] == first["reliability"]
    with_threshold = evaluate(run, cache=cache, device="cpu", bootstrap=0, wanted=Wanted(risk=0.9))["reliability"]
    assert with_threshold["sets"] == first["reliability"]["sets"]
    assert with_threshold["abstention"]["grade"]["measured"]["studies"] == 60
    assert load(run, "cpu").predict(run / "study.yaml").alpha == 0.1


def test_nothing_fitted_changes_nothing(run: Path, cache: Path) -> None:
    result = evaluate(run, cache=cache, device="cpu", bootstrap=0)
    assert result["reliability"] is None
    assert result["selective"]["grade"]["studies"] == 60
    predictor = load(run, "cpu")
    predictions = predictor.predict(run / "study.yaml")
    assert (predictions.sets, predictions.alpha, predictions.answered) == ({}, None, {})
    with pytest.raises(ConfigError, match="no prediction sets"):
        predictor.predict(run / "study.yaml", alpha=0.1)


def test_calibration_that_may_change_answers_is_fitted_on_other_patients_than_the_sets(run: Path, cache: Path) -> None:
    data, raw = studies(run, cache, "val")
    found = fit_reliability(None, data, raw, Wanted("vector", (0.2,), risk=0.9))
    half = in_first_half(data.frame["group"].to_numpy(dtype=str))
    assert 15 <= half.sum() <= 45
    for task, spec in data.tasks.items():
        calibrator, [sets] = found.calibrators[task], found.sets[task]
        assert calibrator == fit_calibrator(raw[task][half], data.labels[task][half], spec, "vector")
        assert [*sets.patients.values()] == [((60 - half.sum(),),)]
        assert (found.read(task, raw[task]) == calibrator.apply(raw[task])).all()
        assert found.abstentions[task].studies == 60 - half.sum()
        assert spec.name == sets.spec.name
    newer = fit_reliability(found, data, raw, Wanted("temperature"))
    assert newer.sets == newer.abstentions == {}


def test_a_patient_is_in_the_same_half_whoever_else_is_there() -> None:
    patients = np.array([f"patient {k}" for k in range(2000)])
    half = in_first_half(patients)
    assert abs(half.mean() - 0.5) < 0.05
    kept = np.random.default_rng(0).permutation(2000)[:1100]
    assert (in_first_half(patients[kept]) == half[kept]).all()
    assert in_first_half(np.repeat(patients[:3], 4)).reshape(3, 4).std(1).sum() == 0
    # Written down, so that a bundle of today can be given sets tomorrow.
    assert in_first_half(np.array(["a", "b", "c", "d", "e", "f"])).tolist() == [False, False, True, True, False, False]


def test_a_half_without_patients_promises_nothing(run: Path, cache: Path) -> None:
    data, raw = studies(run, cache, "val")
    half = in_first_half(data.frame["group"].to_numpy(dtype=str))
    for side, method in ((half, "vector"), (~half, "none")):
        labels = {task: of[side] for task, of in data.labels.items()}
        few: Any = SimpleNamespace(frame=data.frame[side], labels=labels, tasks=data.tasks)
        said = {task: of[side] for task, of in raw.items()}
        found = fit_reliability(None, few, said, Wanted("vector", (0.2,), risk=0.9))
        for task in data.tasks:
            assert found.calibrators[task].method == method
            assert (found.abstentions[task].threshold is None) == (method == "vector")
            assert bool(found.sets[task][0].predict(raw[task]).all()) == (method == "vector")


def test_answers_are_withheld_below_the_threshold(run: Path, cache: Path) -> None:
    evaluate(run, cache=cache, device="cpu", bootstrap=0, wanted=Wanted("temperature", risk=0.9))
    predictions = load(run, "cpu").predict(run / "study.yaml")
    _, raw = studies(run, cache, "test")
    found = load(run, "cpu").reliability
    assert found is not None
    threshold = found.abstentions["grade"].threshold
    assert threshold is not None
    frame = predictions.to_frame().tail(60)
    assert frame["grade:answered"].sum() > 0
    assert frame["grade:answered"].sum() == (raw["grade"].max(1) > threshold).sum()
    assert predictions.as_dicts()[0]["tasks"]["grade"]["answered"] in (True, False)


def test_a_damaged_file_is_named(run: Path, cache: Path) -> None:
    evaluate(run, cache=cache, device="cpu", bootstrap=0, wanted=Wanted("temperature", (0.1,)))
    path = run / "bundle" / "calibration.json"
    values = json.loads(path.read_text())
    for change in ({"calibrators": {}} | {"sets": []}, {"sets": {"grade": values["sets"]["finding"]}}, {"split": None}):
        path.write_text(json.dumps(values | change if change != {"split": None} else {"format": 1}))
        with pytest.raises(RunError, match="cannot be understood"):
            load(run, "cpu")
    path.write_text(json.dumps(values | {"format": 99}))
    with pytest.raises(RunError, match="newer"):
        load(run, "cpu")


def test_new_weights_have_no_old_calibration(run: Path, cache: Path, make_run: MakeRun) -> None:
    evaluate(run, cache=cache, device="cpu", bootstrap=0, wanted=Wanted("temperature"))
    torch.manual_seed(1)
    assert load(make_run(n=300, group=None, seed=1), "cpu").reliability is None


@pytest.mark.parametrize("wanted", [Wanted(alphas=(0.1, 1.5)), Wanted(risk=0.0)])
def test_a_wrong_chance_is_refused_before_anything_is_read(run: Path, wanted: Wanted, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be between 0 and 1"):
        evaluate(run, data_root=tmp_path / "nowhere", device="cpu", wanted=wanted)


def test_gaps_between_subgroups(run: Path, cache: Path) -> None:
    result = evaluate(run, cache=cache, device="cpu", bootstrap=50, gaps=True)
    gap = result["gaps"]["site"]["grade"]["balanced_accuracy"]
    sites = {
        name: of["grade"]["metrics"]["balanced_accuracy"]["value"] for name, of in result["subgroups"]["site"].items()
    }
    assert {name: of["value"] for name, of in gap["groups"].items()} == pytest.approx(sites)
    assert gap["value"] == pytest.approx(max(sites.values()) - min(sites.values()))
    every = [gap for tasks in result["gaps"].values() for metrics in tasks.values() for gap in metrics.values()]
    chances = [gap["chance"] for gap in every if gap["chance"] is not None]
    assert len(chances) > 1
    assert min(gap["corrected"] for gap in every if gap["chance"] is not None) == pytest.approx(
        min(1, len(chances) * min(chances))
    )


def test_from_the_command_line(run: Path, cache: Path, mailnet: Command) -> None:
    options = ("--cache", cache, "--device", "cpu", "--calibrate", "--conformal", 0.1, "--abstain-at-risk", 0.5)
    status, out, err = mailnet("evaluate", run, *options, "--subgroups")
    assert status == 0, err
    for words in ("Calibration (test studies)", "Prediction sets", "Gaps by site", "holds the true answer", "wrong"):
        assert words in out
    status, out, _ = mailnet("predict", run, run / "study.yaml", "--json")
    assert status == 0
    assert set(json.loads(out)["predictions"][0]["tasks"]["grade"]) == {"predicted", "probabilities", "set", "answered"}
    status, _, err = mailnet("evaluate", run, "--calibration", "platt", "--cache", cache)
    assert status == 2
    assert "platt" in err
