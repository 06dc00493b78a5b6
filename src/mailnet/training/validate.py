"""Predictions and metrics on the validation studies, over one or several processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from mailnet.data.dataset import StudyDataset, iterate
from mailnet.metrics import summary
from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.specs import TaskSpec
from mailnet.training.plan import Rows

Array = np.ndarray[Any, Any]


def predict_rows(
    model: nn.Module,
    dataset: StudyDataset,
    rows: Rows,
    accelerator: Accelerator,
    batch_size: int,
    seed: int,
    change: Callable[[Batch], Batch] | None = None,
) -> dict[str, Array]:
    """Return task -> (n, K) probabilities of studies, each predicted once by one of the processes.

    Args:
        model: The network, in evaluation mode, on the accelerator's device.
        dataset: The studies.
        rows: (n,) row numbers, the same on all processes.
        accelerator: Of this process.
        batch_size: Studies at a time.
        seed: Of a network that draws random numbers.
        change: What is done to each batch before it is predicted, such as an attack.

    Raises:
        RuntimeError: A study came back twice or not at all.
    """
    own = rows[accelerator.process_index :: accelerator.num_processes]
    torch.manual_seed(seed)
    found: dict[str, list[Array]] = {task: [] for task in dataset.data.tasks}
    for batch in iterate(dataset, (own[i : i + batch_size] for i in range(0, len(own), batch_size))):
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            batch = batch if change is None else change(batch)
            with torch.inference_mode():
                logits = model(batch.inputs, batch.present)
        for task, spec in dataset.data.tasks.items():
            found[task].append(probabilities(spec, logits[task].float()).cpu().numpy())
    gathered = gather_object([(own, {task: np.concatenate(p) for task, p in found.items()})] if len(own) else [])
    order = np.concatenate([share for share, _ in gathered])
    if not np.array_equal(np.sort(order), np.sort(rows)):
        raise RuntimeError("validation lost or repeated a study between processes")
    place = {row: i for i, row in enumerate(order.tolist())}
    index = [place[row] for row in rows.tolist()]
    return {task: np.concatenate([p[task] for _, p in gathered])[index] for task in dataset.data.tasks}


def validation_metrics(
    predicted: Mapping[str, Array], labels: Mapping[str, Array], tasks: Mapping[str, TaskSpec]
) -> dict[str, Any]:
    """Return each metric's mean over tasks, and under ``tasks`` each task's own; None where it is not defined.

    Args:
        predicted: Task -> (n, K) probabilities.
        labels: Task -> (n,) labels with -1 where unknown, or (n, K) with NaN for multilabel.
        tasks: The tasks.
    """
    each = {
        name: {key: value if math.isfinite(value) else None for key, value in found.items()}
        for name, spec in tasks.items()
        if _any_known(labels[name])
        for found in [summary(predicted[name], labels[name], spec)]
    }
    mean: dict[str, Any] = {}
    for metric in dict.fromkeys(key for values in each.values() for key in values):
        values = [value for found in each.values() if (value := found.get(metric)) is not None]
        mean[metric] = sum(values) / len(values) if values else None
    return {**mean, "tasks": each}


def _any_known(labels: Array) -> bool:
    return bool((labels >= 0).any())  # comparisons with NaN are False
