"""Two gloo processes train one network and find the metrics of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from distributed import DEFENSES, evaluate
from small_study import same_in_parts, small_config

from mailnet.bundle import load
from mailnet.data.study import load_study
from mailnet.training import train
from mailnet.training.run import read_history


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """What two processes found, what one finds, and where."""
    folder = tmp_path_factory.mktemp("distributed")
    config = small_config(folder, epochs=1, accumulate=2, pretrain={"epochs": 1})
    data = load_study(config, cache=folder / "cache")
    run = train(config, folder / "one", data=data, progress=False).run
    script = Path(__file__).with_name("distributed.py")
    arguments = [str(folder / "study.yaml"), str(folder / "cache"), str(run), str(folder)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    together = json.loads((folder / "found.json").read_text("utf-8"))
    table = same_in_parts(config, data, balance="weights")
    history = train(table.config, folder / "table-of-one", data=table, progress=False).history
    alone = {"metrics": evaluate(run, data, Accelerator(cpu=True)), "history": history}
    return together, alone, folder


def test_metrics_of_two_are_those_of_one(found: tuple[dict[str, Any], dict[str, Any], Path]) -> None:
    two, one, _ = found
    assert two["processes"] == 2
    for task, values in one["metrics"]["tasks"].items():
        assert two["metrics"]["tasks"][task] == pytest.approx(values, abs=1e-6)


def test_one_of_two_tracks(found: tuple[dict[str, Any], dict[str, Any], Path]) -> None:
    assert len(list((found[2] / "run/tensorboard").iterdir())) == 1


def test_two_train_as_one_where_no_batch_statistics_differ(
    found: tuple[dict[str, Any], dict[str, Any], Path],
) -> None:
    two, one, _ = found
    for ours, theirs in zip(two["history"], one["history"], strict=True):
        assert ours["train"]["tasks"] == pytest.approx(theirs["train"]["tasks"], rel=1e-4)
        assert ours["val"]["loss"] == pytest.approx(theirs["val"]["loss"], rel=1e-5)


def test_two_learn_one_network_without_labels(found: tuple[dict[str, Any], dict[str, Any], Path]) -> None:
    two, _, folder = found
    assert len(two["learnt"]) == 2
    assert len(set(two["learnt"])) == 1
    records = [json.loads((folder / run / "pretraining.json").read_text("utf-8")) for run in ("one", "run")]
    assert records[0]["images"] == records[1]["images"]
    # Each process tells fewer images apart, so its loss is lower.
    for name, loss in records[0]["losses"][0].items():
        assert 0 < records[1]["losses"][0][name] < loss


def test_two_hold_the_same_robust_network(found: tuple[dict[str, Any], dict[str, Any], Path]) -> None:
    two, _, folder = found
    assert len(two["defended"]) == 2 * len(DEFENSES)
    for number, name in enumerate(DEFENSES):
        assert len(set(two["defended"][2 * number : 2 * number + 2])) == 1
        assert read_history(folder / name)[0]["val"]["robust_accuracy"] is not None


def test_two_hold_the_same_network(found: tuple[dict[str, Any], dict[str, Any], Path]) -> None:
    two, _, folder = found
    assert len(two["digests"]) == 2
    assert len(set(two["digests"])) == 1
    assert len(read_history(folder / "run")) == 1
    assert load(folder / "run", device="cpu").model is not None
