"""The loss of a batch over all tasks, and that of views of images without labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mailnet.data.study import StudyData
from mailnet.nn.heads import task_loss
from mailnet.specs import TaskSpec

MOST = 20.0  # a class may weigh this much more than its fair share, so that a handful of studies does not rule


def class_weights(data: StudyData) -> dict[str, Tensor]:
    """Return task -> (K,) weights that give every class the same total weight over the training studies.

    For multilabel tasks it is the weight of a class's positives, negatives per positive.
    """
    rows = data.rows("train")
    return {name: _weights(data.labels[name][rows], spec) for name, spec in data.tasks.items()}


def _weights(labels: np.ndarray[Any, Any], spec: TaskSpec) -> Tensor:
    if spec.kind == "multilabel":
        positive, negative = (labels == 1).sum(0), (labels == 0).sum(0)
        weights = negative / np.maximum(positive, 1)
    else:
        counts = np.bincount(labels[labels >= 0], minlength=len(spec.classes))
        weights = counts.sum() / (len(spec.classes) * np.maximum(counts, 1))
    return torch.as_tensor(weights.clip(1 / MOST, MOST), dtype=torch.float32)


def label_weights(data: StudyData, class_weights: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Return task -> (N,) how much each study's label counts in a mean of ``batch_losses``, 0 where it is unknown.

    Args:
        data: The studies.
        class_weights: Task -> (K,) class weights; a task left out has none.
    """
    return {
        name: (~np.isnan(labels)).sum(1).astype(np.float64)
        if data.tasks[name].kind == "multilabel"
        else (labels >= 0) * (class_weights[name].cpu().numpy()[labels] if name in class_weights else 1.0)
        for name, labels in data.labels.items()
    }


def batch_losses(
    tasks: Mapping[str, TaskSpec],
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    smoothing: float,
) -> dict[str, Tensor]:
    """Return task -> mean loss over the known labels.

    Args:
        tasks: The tasks.
        logits: Task -> (B, outputs).
        targets: Task -> labels, see ``Batch``.
        weights: Task -> (K,) class weights; a task left out has none.
        smoothing: Share of label smoothing.
    """
    return {
        name: task_loss(spec, logits[name], targets[name], weights.get(name), smoothing) for name, spec in tasks.items()
    }


def weighted_mean(losses: Mapping[str, Tensor], importance: Mapping[str, float]) -> Tensor:
    """Return the mean of the tasks' losses, weighted by how much each task matters."""
    total = torch.stack([importance[name] * loss for name, loss in losses.items()]).sum()
    return total / sum(importance.values())


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the normalised, temperature-scaled cross entropy between the views of images.

    Args:
        first: (n, P), a view of each image.
        second: (n, P), another view of each.
        temperature: What the cosine of two views is divided by.

    Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
    ICML 2020.
    """
    z = functional.normalize(torch.cat([first, second]), dim=1)  # (2n, P)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    alike = (z @ z.T / temperature).masked_fill(itself, -math.inf)  # (2n, 2n)
    partner = torch.arange(len(z), device=z.device).roll(len(first))
    return functional.cross_entropy(alike, partner)
