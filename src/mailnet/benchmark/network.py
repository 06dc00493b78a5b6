"""A network of the registry in a cell: trained as 'mailnet train' does it, then asked about the test studies."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mailnet.benchmark.outcome import Outcome, groups_of
from mailnet.bundle import Predictor, load
from mailnet.data.config import StudyConfig
from mailnet.data.study import StudyData
from mailnet.evaluation.hiding import plan_predictions, predict_hidden
from mailnet.evaluation.tables import hidden_table, plan_shares
from mailnet.files import read_json
from mailnet.metrics import measure
from mailnet.nn.counts import count_operations, count_parameters
from mailnet.training import train
from mailnet.training.pretrain import pretraining_seconds


def run_network(
    config: StudyConfig, run: Path, data: StudyData, test: StudyData, metric: str, *, progress: bool
) -> Outcome:
    """Train, or go on with a training that was interrupted, and predict.

    Args:
        config: The study with its network and settings.
        run: Run folder.
        data: The study, loaded.
        test: Its test studies.
        metric: The primary metric, of each modality alone.
        progress: Whether the training reports on stderr.

    Raises:
        MailnetError: The network cannot be trained on this study.
    """
    result = train(config, run, data=data, progress=progress)
    # Of an interrupted run that had ended, nothing but the bundle is left to use; what it lacks is not needed.
    predictor = load(run, device=config.train.device)
    probabilities = predictor.predict_data(test, np.arange(len(test)))
    record = read_json(run / "run.json")
    seconds = [training_seconds(line, record["device"]) for line in result.history]
    return Outcome(
        probabilities=probabilities,
        best=result.best,
        history=[
            {**line, "monitor": line["val"].get(config.train.monitor), "seconds": spent}
            for line, spent in zip(result.history, seconds, strict=True)
        ],
        seconds=pretraining_seconds(run) + sum(seconds),
        machine={
            "device": _device_words(record["device"]),
            "precision": record["precision"],
            "torch": record["torch"],
        },
        parameters=count_parameters(predictor.model).trainable,
        macs=count_operations(predictor.model).macs,
        only=_only(predictor, test, probabilities, metric),
    )


def training_seconds(line: Mapping[str, Any], device: str) -> float:
    """Return the seconds of an epoch, without validation.

    On a CPU they are those that the training had of it, so that another program on the machine takes no epochs away.

    Args:
        line: Of ``metrics.jsonl``.
        device: On which it was trained.
    """
    if device != "cpu" or "cpu_seconds" not in line:
        return float(line["seconds"])
    return min(float(line["seconds"]), float(line["cpu_seconds"]) / torch.get_num_threads())


def discard_run(run: Path) -> None:
    """Delete a run folder, and its parents up to ``runs`` where nothing else is in them."""
    shutil.rmtree(run, ignore_errors=True)
    for folder in list(run.parents)[:3]:
        try:
            folder.rmdir()
        except OSError:  # not empty
            return


def _only(
    predictor: Predictor, test: StudyData, probabilities: dict[str, np.ndarray], metric: str
) -> dict[str, dict[str, float | None]]:
    """Return modality -> task -> value with the modality alone; nothing in the unpaired regime or where refused."""
    shares = {} if test.config.regime == "unpaired" else plan_shares(test)["only"]
    plan = plan_predictions(test, shares.values())
    try:
        answers = predict_hidden(
            plan, probabilities, lambda rows, without: predictor.predict_data(test, rows, without=without)
        )
    except ValueError:  # a network that needs every modality
        return {}
    measured = partial(_measured, test)
    tables = {name: hidden_table(test, hidden, answers, measured) for name, hidden in shares.items()}
    return {
        name: {task: (found["metrics"].get(metric) or {}).get("value") for task, found in table.items()}
        for name, table in tables.items()
    }


def _measured(test: StudyData, task: str, probabilities: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    groups = groups_of(test)
    return measure(
        probabilities,
        test.labels[task][rows],
        test.tasks[task],
        groups=None if groups is None else groups[rows],
        bootstrap=0,
    )


def _device_words(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
