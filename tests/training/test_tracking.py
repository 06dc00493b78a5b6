"""What TensorBoard and MLflow hold of a run, read back by their own libraries."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from small_study import small_config
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from factory import Command, write_study
from mailnet.data.config import StudyConfig, load_config
from mailnet.errors import ConfigError, RunError
from mailnet.training import TrainResult, train, trainer
from mailnet.training.progress import Progress
from mailnet.training.run import open_run, read_history
from mailnet.training.tracking import Tracking, local_store, require_trackers, tracking
from mailnet.training.tracking.tensorboard import TensorBoard
from mailnet.training.tracking.tracking import Tracker, epoch_figures

Figures = dict[int, dict[str, float]]  # epoch -> name -> value


def in_tensorboard(run: Path) -> tuple[Figures, EventAccumulator]:
    """Read what the event files of a run hold; an epoch that is there twice is an error."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={SCALARS: 0}).Reload()
    return _by_epoch({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()[SCALARS]}), events


def in_mlflow(uri: str, name: str) -> tuple[Figures, Run]:
    """Read what MLflow holds of the only run of this name."""
    client = MlflowClient(uri)
    (experiment,) = (found for found in client.search_experiments() if found.name == "made-up")
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    keys = run.data.metrics
    found = {key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)] for key in keys}
    return _by_epoch(found), run


def _by_epoch(found: Mapping[str, list[tuple[int, float]]]) -> Figures:
    figures: Figures = {}
    for key, values in found.items():
        assert len({step for step, _ in values}) == len(values), f"{key} holds an epoch twice"
        for step, value in values:
            figures.setdefault(step, {})[key] = value
    return figures


def expected(result: TrainResult) -> Figures:
    """What is to be found: the lines of metrics.jsonl, and at the best epoch that it is."""
    figures = {line["epoch"]: epoch_figures(line) for line in read_history(result.run)}
    best = result.best
    figures[best["epoch"]] |= {f"best/{key}": best[key] for key in ("epoch", "value", "loss")}
    return figures


def assert_same(found: Figures, wanted: Figures) -> None:
    assert found.keys() == wanted.keys()
    for epoch, figures in wanted.items():
        assert {k: v for k, v in found[epoch].items() if k not in TIMES} == {
            k: pytest.approx(v, rel=1e-6) for k, v in figures.items() if k not in TIMES
        }


TIMES = ("seconds", "cpu_seconds", "data_seconds", "images_per_second")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture(scope="module")
def tracked(folder: Path) -> tuple[StudyConfig, TrainResult]:
    """A run that both track, each in the run folder."""
    config = small_config(folder / "study", n=30, batch_size=6, track=["tensorboard", "mlflow"])
    return config, train(config, folder / "whole 50%", cache=folder / "cache", progress=False)


def test_all_figures_of_metrics_are_in_tensorboard(tracked: tuple[StudyConfig, TrainResult]) -> None:
    found, events = in_tensorboard(tracked[1].run)
    assert_same(found, expected(tracked[1]))
    assert found[2]["cpu_seconds"] == pytest.approx(read_history(tracked[1].run)[1]["cpu_seconds"])
    assert {"learning_rate", "val/balanced_accuracy", "val/tasks/finding/loss"} <= found[1].keys()
    begun = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"train.learning_rate" in begun
    assert b"studies" in begun  # counts, and none of the table's words
    assert b"images/" not in begun


def test_all_figures_and_settings_are_in_mlflow(tracked: tuple[StudyConfig, TrainResult], folder: Path) -> None:
    found, run = in_mlflow(local_store(tracked[1].run), "whole 50%")
    assert_same(found, expected(tracked[1]))
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert params["train.batch_size"] == "6"
    assert params["model.options.widths"] == "[16, 16]"
    assert params["studies.train"] == "18"
    said = json.dumps([params, dict(run.data.tags)])
    assert not [word for word in (str(folder), "studies.csv", "patient", "s000", "images") if word in said]


@pytest.mark.parametrize("minutes", [0, 60])
def test_a_run_that_goes_on_logs_each_epoch_once(
    tracked: tuple[StudyConfig, TrainResult],
    folder: Path,
    tmp_path: Path,
    minutes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once what tracks lacks an epoch of the checkpoint, once it has one that is made again."""
    store = local_store(tracked[1].run)
    train_config = tracked[0].train.model_copy(update={"checkpoint_minutes": minutes, "tracking_uri": store})
    config = tracked[0].model_copy(update={"train": train_config})
    write, epochs = trainer.write_history, list[int]()

    def interrupted(run: Path, history: list[Any]) -> None:
        epochs.append(len(history))
        if len(epochs) == 2:
            raise KeyboardInterrupt
        write(run, history)

    run = tmp_path / f"run-{minutes}"
    monkeypatch.setattr(trainer, "write_history", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, run, cache=folder / "cache", progress=False)
    monkeypatch.undo()
    assert in_tensorboard(run)[0].keys() == {1}
    found, ended = in_mlflow(store, run.name)
    assert (list(found), ended.info.status) == ([1], "KILLED")

    result = train(config, run, cache=folder / "cache", progress=False)
    assert_same(in_tensorboard(run)[0], expected(result))
    found, finished = in_mlflow(store, run.name)
    assert_same(found, expected(result))
    assert (finished.info.status, finished.info.run_id) == ("FINISHED", ended.info.run_id)
    assert not (run / "mlruns").exists()


def test_an_epoch_that_a_kill_cut_off_is_written_again(tmp_path: Path) -> None:
    figures = {epoch: {"learning_rate": 0.1, "val/loss": 1 / epoch} for epoch in (1, 2)}
    files = TensorBoard(tmp_path / "tensorboard")
    for epoch, values in figures.items():
        files.log(epoch, values)
    (path,) = (tmp_path / "tensorboard").iterdir()
    os.truncate(path, path.stat().st_size - 5)
    again = TensorBoard(tmp_path / "tensorboard")
    assert again.logged() == {1}
    again.log(2, figures[2])
    again.stop(True)
    assert_same(in_tensorboard(tmp_path)[0], figures)


class Forgetful:
    """A tracker that refuses an epoch, as a server that is away."""

    def __init__(self, refused: int) -> None:
        self.refused = refused
        self.had: list[int] = []
        self.best: dict[str, float] = {}
        self.ended: bool | None = None

    def logged(self) -> set[int]:
        return {1}

    def describe(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        if epoch == self.refused:
            self.refused = 0
            raise ConnectionError("nobody answers\nat all")
        self.had.append(epoch)

    def finish(self, best: Mapping[str, float]) -> None:
        self.best = dict(best)

    def stop(self, interrupted: bool) -> None:
        self.ended = interrupted


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Forgetful:
    kept = Forgetful(refused=2)
    monkeypatch.setattr(tracking, "_open", lambda name, run, config: kept)
    return kept


def test_what_a_server_misses_is_sent_at_the_end(
    tracker: Forgetful, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of: Tracker = tracker  # the type checker sees that it is one
    assert of.logged() == {1}
    config = small_config(tmp_path, n=30)
    history = [{"epoch": epoch, "learning_rate": 0.1, "val": {"loss": 0.5}} for epoch in (1, 2, 3)]
    with Tracking(["mlflow"], tmp_path, config, {"device": "cpu"}, Progress(3, True)) as told:
        told.epochs(history[:2])
        told.epochs(history)
        assert tracker.had == []
        told.finish(history, {"epoch": 2, "monitor": "loss", "value": None, "loss": 0.5})
    assert (tracker.had, tracker.best) == ([2, 3], {"best/epoch": 2.0, "best/loss": 0.5})
    assert tracker.ended is None
    assert "mlflow did not take epoch 2 (nobody answers): it is tried again at the end" in capsys.readouterr().err


def test_an_error_of_training_lets_the_tracker_go(tracker: Forgetful, tmp_path: Path) -> None:
    config = small_config(tmp_path, n=30)
    with pytest.raises(RunError), Tracking(["mlflow"], tmp_path, config, {}, Progress(3, False)):
        raise RunError("training diverged")
    assert tracker.ended is False


def test_a_server_that_is_nowhere_stops_before_training(tmp_path: Path) -> None:
    config = small_config(tmp_path, n=30, track="mlflow", tracking_uri="nowhere://at/all")
    with pytest.raises(RunError, match=r"MLflow cannot use nowhere://at/all .*Mend train.tracking_uri"):
        train(config, tmp_path / "run", cache=tmp_path / "cache", progress=False)
    assert not (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.parametrize("method", ["describe", "logged"])
def test_a_server_lost_right_after_it_answered_stops_before_training(
    tracker: Forgetful, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise ConnectionError("nobody answers\nat all")

    other, config = Forgetful(refused=0), small_config(tmp_path, n=30, track=["tensorboard", "mlflow"])
    monkeypatch.setattr(tracking, "_open", lambda name, run, config: tracker if name == "mlflow" else other)
    monkeypatch.setattr(tracker, method, lost)
    with pytest.raises(RunError, match=r"mlflow did not take the run \(nobody answers\).* take mlflow out"):
        train(config, tmp_path / "run", cache=tmp_path / "cache", progress=False)
    assert not (tmp_path / "run/metrics.jsonl").exists()
    assert (tracker.ended, other.ended) == (False, False)  # neither is left as if it were still training


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboard"), ("mlflow", "alembic")])
def test_a_missing_package_is_named_with_its_extra(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require_trackers([name])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == module else find(wanted))
    with pytest.raises(ConfigError, match=rf"'{module}', which is not installed. pip install 'mailnet\[{name}\]'"):
        require_trackers([name])


def test_a_study_that_tracks_nothing_is_as_before(tmp_path: Path) -> None:
    plain = small_config(tmp_path, n=30)
    assert not {"track", "tracking_uri"} & plain.model_dump(mode="json")["train"].keys()
    result = train(plain, tmp_path / "run", cache=tmp_path / "cache", progress=False)
    assert not [name for name in ("tensorboard", "mlruns", "tracking.json") if (result.run / name).exists()]
    tracked = load_config(tmp_path / "study.yaml", ["train.track=tensorboard", "train.tracking_uri=http://here:5000"])
    assert tracked.train.track == ("tensorboard",)
    assert open_run(result.run, tracked, True) is not None  # it is the same run


@pytest.mark.parametrize("user", ["me:secret", "token"])
def test_a_password_has_no_place_in_a_run(user: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a password: give it as MLFLOW_TRACKING_PASSWORD"):
        small_config(tmp_path, n=30, tracking_uri=f"https://{user}@mlflow.example.org")


def test_the_command_tracks(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", n=30, size=16, train={"epochs": 1})
    options = ("--out", tmp_path / "run", "--cache", tmp_path / "cache", "--track", "tensorboard")
    assert mailnet("train", study, *options, "--set", "model.options.width=nano")[0] == 0
    assert in_tensorboard(tmp_path / "run")[0].keys() == {1}


PROGRAM = """
import socket, sys
asked = []
def refuse(*arguments, **options):
    asked.append(arguments[:2])
    raise OSError("no network")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from mailnet.training.tracking.mlflow import _connect
client = _connect(sys.argv[1])
import mlflow, time
from mlflow.telemetry import get_telemetry_client
client.search_experiments()
time.sleep(0.2)
assert get_telemetry_client() is None
assert not asked, asked
"""


def test_mlflow_asks_nobody(tracked: tuple[StudyConfig, TrainResult], tmp_path: Path) -> None:
    """In a process that MLflow does not take for a test, where it would keep silent of itself."""
    silent = ("CI", "PYTEST_CURRENT_TEST", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    kept = {key: value for key, value in os.environ.items() if key not in silent}
    program = [sys.executable, "-c", PROGRAM, local_store(tracked[1].run)]
    done = subprocess.run(
        program, env=kept | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []  # nor does it keep a number by which it would know this machine again
