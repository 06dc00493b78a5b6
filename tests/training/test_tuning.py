"""A search for settings: what it chooses, what it keeps, and that it goes on after a stop."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from factory import Command, write_study
from mailnet.data.config import load_config
from mailnet.errors import ConfigError, RunError
from mailnet.training.run import TrainResult
from mailnet.training.tuning import default_space, read_space, tune
from mailnet.training.tuning.space import Choice

SPACE = {"train.learning_rate": Choice(low=1e-5, high=1e-2, log=True), "train.epochs": Choice(low=1, high=3)}
job = import_module("mailnet.training.tuning.tune")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", n=30)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Training whose result is known: best at a learning rate of 1e-3. Gives the configurations that were trained."""
    seen: list[Any] = []

    def train(config: Any, run: Path, **options: Any) -> TrainResult:
        seen.append(config)
        value = 1 - abs(math.log10(config.train.learning_rate / 1e-3))
        return TrainResult(run, {"epoch": 1, "monitor": config.train.monitor, "value": value, "loss": 0.5})

    monkeypatch.setattr(job, "train", train)
    return seen


def test_the_best_settings_are_found_and_written(study: Path, tmp_path: Path, fast: list[Any]) -> None:
    found = tune(study, tmp_path / "out", space=SPACE, trials=10, overrides=["train.batch_size=7"])
    values = [trial["value"] for trial in found["trials"]]
    assert len(values) == len(fast) == 10
    assert found["best"]["value"] == max(values)
    assert all(1e-5 <= config.train.learning_rate <= 1e-2 and config.train.batch_size == 7 for config in fast)
    best = load_config(tmp_path / "out/best.yaml")
    assert best.train.learning_rate == found["best"]["settings"]["train.learning_rate"]
    assert json.loads((tmp_path / "out/tune.json").read_text()) == found


def test_a_stopped_search_goes_on_with_the_trial_that_was_cut_off(
    study: Path, tmp_path: Path, fast: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, train = job.train, []

    def stopped(config: Any, run: Path, **options: Any) -> TrainResult:
        train.append(run)
        if len(train) == 3:
            raise KeyboardInterrupt
        return whole(config, run, **options)

    monkeypatch.setattr(job, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        tune(study, tmp_path / "out", space=SPACE, trials=5)
    found = tune(study, tmp_path / "out", space=SPACE, trials=5)
    assert [trial["number"] for trial in found["trials"]] == [1, 2, 3, 4, 5]
    assert train[3] == train[2]
    assert len(set(train)) == 5
    assert tune(study, tmp_path / "out", space=SPACE, trials=5)["trials"] == found["trials"]
    assert len(train) == 6
    with pytest.raises(ConfigError, match="another study, space or seed"):
        tune(study, tmp_path / "out", space=SPACE, trials=5, seed=1)


def test_all_trials_are_tracked_in_one_database(study: Path, tmp_path: Path, fast: list[Any]) -> None:
    tune(study, tmp_path / "out", space=SPACE, trials=2, overrides=["train.track=mlflow"])
    assert {config.train.tracking_uri for config in fast} == {f"sqlite:///{tmp_path}/out/mlruns/mlflow.db"}
    assert load_config(tmp_path / "out/best.yaml").train.tracking_uri is None
    tune(
        study, tmp_path / "own", space=SPACE, trials=1, overrides=["train.track=mlflow", "train.tracking_uri=http://a"]
    )
    assert fast[-1].train.tracking_uri == "http://a"
    tune(study, tmp_path / "plain", space=SPACE, trials=1)
    assert fast[-1].train.tracking_uri is None


def test_what_fails_is_kept_and_nothing_else_is_an_error(study: Path, tmp_path: Path) -> None:
    space = {"model.options.width": Choice(choose=["enormous", "gigantic"])}
    with pytest.raises(RunError, match="no trial succeeded: the network 'mail' cannot be made"):
        tune(study, tmp_path / "out", space=space, trials=2)
    trials = json.loads((tmp_path / "out/tune.json").read_text())["trials"]
    assert [trial["value"] for trial in trials] == [None, None]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(ConfigError, match="something else"):
        tune(study, tmp_path / "other", space=space)


def test_the_usual_space_has_what_the_network_has(study: Path) -> None:
    config = load_config(study)
    assert {"train.learning_rate", "model.options.dropout"} <= set(default_space(config))


def test_what_is_given_is_not_searched(study: Path, tmp_path: Path, fast: list[Any]) -> None:
    found = tune(study, tmp_path / "out", trials=1, overrides=["train.learning_rate=0.001", "train.weight_decay=0"])
    assert {"train.label_smoothing", "model.options.dropout"} <= set(found["space"])
    assert not {"train.learning_rate", "train.weight_decay"} & set(found["space"])
    assert fast[0].train.learning_rate == 0.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modalities.ct.size: {low: 32, high: 64}", "'modalities.ct.size' cannot be searched"),
        ("train.learning_rate: {low: 1}", "neither 'choose' nor"),
        ("train.learning_rate: {low: 2.0, high: 1.0}", "'low' must be below"),
        ("train.learning_rate: {low: 0.0, high: 1.0, log: true}", "above 0 for 'log'"),
        ("train.learning_rate: {between: 3}", "between"),
        ("[]", "names no key"),
        (":", "cannot be read"),
    ],
)
def test_a_wrong_space_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_space(tmp_path / "space.yaml")


def test_the_command_trains_and_says_what_next(study: Path, tmp_path: Path, mailnet: Command) -> None:
    (tmp_path / "space.yaml").write_text("train.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}")
    options = ["--set", "train.epochs=1", "--set", "model.options.widths=[4]", "--cache", str(tmp_path / "cache")]
    space = ["--space", str(tmp_path / "space.yaml")]
    status, _, said = mailnet("tune", str(study), "--out", str(tmp_path / "out"), "--trials", "1", *space, *options)
    assert status == 0, said
    assert "trial 1: balanced_accuracy" in said
    assert f"--out {tmp_path / 'out' / 'best'}" in said
    assert (tmp_path / "out/runs").is_dir()
    assert load_config(tmp_path / "out/best.yaml").train.epochs == 1
