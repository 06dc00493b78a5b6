"""What a trained network says of the test studies, and what of it a cell keeps: no identifier, no path."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mailnet.data.study import StudyData
from mailnet.metrics import measure, redraws

KEPT = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "ece", "nll")
REDRAWN = ("balanced_accuracy", "macro_auroc", "macro_f1")
DIGITS = 4  # of redraws: a hundredth of a percent is far below any interval


@dataclass(frozen=True)
class Outcome:
    """A trained network and its answers.

    Args:
        probabilities: Task -> (n, K) of the test studies; a task that the network cannot answer is left out.
        best: The chosen epoch: ``epoch``, ``monitor``, ``value`` and ``loss`` on the validation studies.
        history: A dict an epoch, as in ``metrics.jsonl``.
        seconds: Training seconds, without validation.
        machine: Device, precision and library versions.
        parameters: Numbers that training changes, None where the word has no meaning.
        macs: Multiply-adds for one study with every modality, likewise.
        only: Modality -> task -> value of the primary metric with that modality alone.
    """

    probabilities: dict[str, np.ndarray]
    best: dict[str, Any]
    history: list[dict[str, Any]]
    seconds: float
    machine: dict[str, Any]
    parameters: int | None = None
    macs: int | None = None
    only: dict[str, dict[str, float | None]] = field(default_factory=dict)


def take(data: StudyData, rows: np.ndarray) -> StudyData:
    """Return some of the studies, in the order of ``rows``, as a study of their own; images are not read."""
    return StudyData(
        config=data.config,
        frame=data.frame.iloc[rows].reset_index(drop=True),
        modalities=data.modalities,
        tasks=data.tasks,
        arrays={
            name: array[rows] if isinstance(array, np.ndarray) else array.take(rows)
            for name, array in data.arrays.items()
        },
        present={name: here[rows] for name, here in data.present.items()},
        labels={name: labels[rows] for name, labels in data.labels.items()},
        tables=data.tables,
    )


def groups_of(data: StudyData) -> np.ndarray | None:
    """Return (N,) what the bootstrap draws together, None where every study is a patient of its own."""
    group = data.frame["group"]
    return None if group.is_unique else group.to_numpy(dtype=str)


def task_results(data: StudyData, probabilities: Mapping[str, np.ndarray], draws: int, seed: int) -> dict[str, Any]:
    """Return task -> what a cell holds of it.

    Args:
        data: The test studies.
        probabilities: Task -> (N, K).
        draws: Draws of the bootstrap.
        seed: Of the draws, the same for every network of a study.

    Returns:
        ``n``, ``groups``, ``drawn`` (digest of labels and groups: equal digests are paired draws), ``metrics`` (name ->
        value and interval) and ``redraws`` (metric -> its value in each draw, None where it is not defined).
    """
    groups = groups_of(data)
    results = {}
    for task, answers in probabilities.items():
        labels, spec = data.labels[task], data.tasks[task]
        found = measure(answers, labels, spec, groups=groups, bootstrap=draws, seed=seed)
        drawn = redraws(answers, labels, spec, groups=groups, bootstrap=draws, seed=seed)
        results[task] = {
            "n": found["n"],
            "groups": found["groups"],
            "drawn": _digest(labels, groups),
            "metrics": {key: found["metrics"].get(key) for key in KEPT},
            "redraws": {key: [_short(value) for value in drawn[key].tolist()] for key in REDRAWN if key in drawn},
        }
    return results


def compact(history: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Return the epochs' losses, monitored values and seconds, a list each."""
    return {
        "train_loss": [_short(line["train"]["loss"]) for line in history],
        "val_loss": [_short(line["val"].get("loss")) for line in history],
        "monitor": [_short(line["monitor"]) for line in history],
        "seconds": [_short(line["seconds"]) for line in history],
    }


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, DIGITS)


def _digest(labels: np.ndarray, groups: np.ndarray | None) -> str:
    known = (labels >= 0).any(1) if labels.ndim == 2 else labels >= 0
    members = np.arange(int(known.sum())) if groups is None else np.unique(groups[known], return_inverse=True)[1]
    content = labels[known].tobytes() + members.astype(np.int64).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]
