"""Metrics of validation studies under the adversary of a defence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from mailnet.data.config import ROBUST
from mailnet.data.dataset import StudyDataset
from mailnet.nn.batch import Batch
from mailnet.training.defense.lesson import Defense
from mailnet.training.device import seed_of
from mailnet.training.plan import Rows
from mailnet.training.validate import predict_rows, validation_metrics


def chosen_studies(rows: Rows, most: int | None, seed: int) -> Rows:
    """Return the validation studies that are attacked, the same in every epoch: all, or so many at random.

    Args:
        rows: (n,) row numbers.
        most: How many at most.
        seed: Of the training.
    """
    if most is None or most >= len(rows):
        return rows
    random = np.random.default_rng(seed_of(seed, "robust studies"))
    return np.sort(random.choice(rows, most, replace=False))


def robust_metrics(
    defense: Defense,
    network: nn.Module,
    dataset: StudyDataset,
    rows: Rows,
    accelerator: Accelerator,
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    """Return what ``validation_metrics`` gives of attacked studies, each name begun by ``robust_`` but for ``tasks``.

    Args:
        defense: Whose adversary attacks.
        network: The network, in evaluation mode, on the accelerator's device.
        dataset: The studies.
        rows: (n,) row numbers, the same on all processes.
        accelerator: Of this process.
        batch_size: Studies at a time.
        seed: Of the attack, and of a network that draws random numbers.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "attack", accelerator.process_index))

    def disturb(batch: Batch) -> Batch:
        return defense.disturb(network, batch, generator)

    predicted = predict_rows(network, dataset, rows, accelerator, batch_size, seed, disturb)
    labels = {task: values[rows] for task, values in dataset.data.labels.items()}
    found = validation_metrics(predicted, labels, dataset.data.tasks)
    tasks = {task: _named(values) for task, values in found.pop("tasks").items()}
    return {**_named(found), "tasks": tasks}


def _named(values: dict[str, Any]) -> dict[str, Any]:
    return {f"{ROBUST}{name}": value for name, value in values.items()}
