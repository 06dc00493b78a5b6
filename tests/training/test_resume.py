"""A run that was killed ends as one that was not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from killed import CONTEXT, _train, train_until
from safetensors.numpy import load_file
from small_study import small_config

from mailnet.data.config import ModelConfig, StudyConfig
from mailnet.training.run import read_history

# 2 epochs of 3 steps: 4 checkpoints within epochs, each of 3 tensor files, 2 at their ends.
MOMENTS = [
    ("trainer:batch_losses", 1),  # before anything was learnt
    ("trainer:batch_losses", 5),  # inside the second epoch
    ("checkpoint:write_tensors", 2),  # between the files of the first checkpoint
    ("checkpoint:write_tensors", 11),
    ("checkpoint:write_json", 4),  # a checkpoint is whole, but not yet named as the latest
    ("checkpoint:write_json", 5),
    ("trainer:write_history", 1),  # the epoch is in the checkpoint, not yet in metrics.jsonl
    ("trainer:save_bundle", 1),
    ("trainer:finish_run", 1),
]
TIMES = ("seconds", "cpu_seconds", "data_seconds", "images_per_second")
UNPAIRED_MOMENTS = [("trainer:batch_losses", 5), ("checkpoint:write_json", 4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module", params=["paired", "unpaired"])
def study(request: pytest.FixtureRequest, folder: Path) -> tuple[StudyConfig, Path, Path]:
    """Configuration, cache, and a run that was never interrupted."""
    place = folder / request.param
    n = 30 if request.param == "paired" else 60
    settings = {"checkpoint_minutes": 0, "accumulate": 2, "batch_size": n // 5, "label_smoothing": 0.1}
    config = small_config(place, regime=request.param, n=n, **settings)
    if request.param == "unpaired":  # a network that draws numbers of its own too
        options = {**config.model.options, "dropout": 0.2}
        config = config.model_copy(update={"model": ModelConfig(name="robust_mail", options=options)})
    assert train_until(config, place / "whole", place / "cache") == 0
    return config, place / "cache", place / "whole"


def lasting(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in history]


def assert_same(run: Path, whole: Path) -> None:
    ours, theirs = (load_file(folder / "bundle" / "model.safetensors") for folder in (run, whole))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []
    assert lasting(read_history(run)) == lasting(read_history(whole))
    assert not (run / "checkpoint").exists()


@pytest.mark.parametrize(
    ("study", "moment", "count"),
    [("paired", *moment) for moment in MOMENTS] + [("unpaired", *moment) for moment in UNPAIRED_MOMENTS],
    indirect=["study"],
)
def test_killed_at(study: tuple[StudyConfig, Path, Path], moment: str, count: int, tmp_path: Path) -> None:
    config, cache, whole = study
    assert train_until(config, tmp_path / "run", cache, moment, count) == -signal.SIGKILL
    assert train_until(config, tmp_path / "run", cache) == 0
    assert_same(tmp_path / "run", whole)


def test_killed_again_and_again_at_any_time(study: tuple[StudyConfig, Path, Path], tmp_path: Path) -> None:
    config, cache, whole = study
    kills = 0
    for seconds in (0.3, 0.5, 0.7, 0.9, 1.1, 60):
        process = CONTEXT.Process(target=_train, args=(config, tmp_path / "run", cache, None, 1))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
    assert kills
    assert_same(tmp_path / "run", whole)
