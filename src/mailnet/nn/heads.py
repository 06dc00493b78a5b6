"""Task heads: from features to logits, from logits to probabilities and to a loss, for every kind of task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn.layers import key
from mailnet.specs import TaskSpec


class Heads(nn.Module):
    """One linear layer a task on the concatenation of the modalities' vectors.

    The layer is kept as one block of weights for each modality, summed: the same as a concatenation, but no modality
    has a place in it, so the order in which modalities are given does not matter.

    Args:
        features: Modality -> length of its vector.
        tasks: The tasks by name.
        dropout: Chance that a feature is dropped in training.
    """

    def __init__(self, features: Mapping[str, int], tasks: Mapping[str, TaskSpec], dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.tasks = tuple(tasks)
        self.weights = nn.ModuleDict(
            {
                key(task): nn.ModuleDict(
                    {key(name): nn.Linear(size, spec.outputs, bias=False) for name, size in features.items()}
                )
                for task, spec in tasks.items()
            }
        )
        self.biases = nn.ParameterDict({key(task): torch.zeros(spec.outputs) for task, spec in tasks.items()})

    def forward(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return task -> logits (B, outputs) from modality -> (B, C)."""
        dropped = {key(name): self.dropout(vector) for name, vector in vectors.items()}
        logits = {}
        for task in self.tasks:
            weights = self.weights[key(task)]
            parts = [weights[name](vector) for name, vector in dropped.items()]  # type: ignore[index]
            logits[task] = torch.stack(parts).sum(0) + self.biases[key(task)]
        return logits


def probabilities(task: TaskSpec, logits: Tensor) -> Tensor:
    """Return class probabilities (B, K) from logits (B, outputs).

    Args:
        task: The task. Rows sum to one, but for ``multilabel``, whose classes are independent.
        logits: What the network gave. For an ordinal task those are K-1 logits of P(y > k); where they are not in
            falling order the running minimum is taken.

    >>> task = TaskSpec("grade", ("low", "mid", "high"), "ordinal")
    >>> [round(p, 2) for p in probabilities(task, torch.tensor([[0.0, -100.0]]))[0].tolist()]
    [0.5, 0.5, 0.0]
    """
    if task.kind in ("binary", "multiclass"):
        return logits.softmax(-1)
    if task.kind == "multilabel":
        return logits.sigmoid()
    above = logits.sigmoid().cummin(-1).values  # P(y > k), k = 0 .. K-2
    one, zero = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
    return torch.cat([one, above], -1) - torch.cat([above, zero], -1)


def task_loss(
    task: TaskSpec,
    logits: Tensor,
    target: Tensor,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean loss over the labels that are known, or 0 (with a gradient of 0) where none is.

    Cross-entropy for ``binary`` and ``multiclass``, binary cross-entropy of each class for ``multilabel`` and of each
    threshold for ``ordinal``.

    Args:
        task: The task.
        logits: (B, outputs).
        target: (B,) int64 labels with -1 where unknown; for multilabel (B, K) floats with NaN where unknown.
        class_weight: (K,) weight of each class; for multilabel the weight of its positives.
        label_smoothing: Share of the label that is spread evenly over the classes.
    """
    if task.kind == "multilabel":
        known = ~target.isnan()
        truth = _smooth(torch.where(known, target, 0.0).to(logits.dtype), label_smoothing)
        losses = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=class_weight, reduction="none")
        return _mean(losses, known.to(logits.dtype))
    known = target >= 0
    label = target.clamp(min=0)
    weight = known.to(logits.dtype)
    if task.kind == "ordinal":
        thresholds = torch.arange(task.outputs, device=target.device)
        truth = _smooth((label[:, None] > thresholds).to(logits.dtype), label_smoothing)
        losses = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1)
        return _mean(losses, weight if class_weight is None else weight * class_weight[label])
    losses = functional.cross_entropy(
        logits, label, weight=class_weight, label_smoothing=label_smoothing, reduction="none"
    )
    # The class weight is in the losses already, so only the denominator needs it.
    return _mean(losses, weight, weight if class_weight is None else weight * class_weight[label])


def _smooth(truth: Tensor, share: float) -> Tensor:
    return truth * (1 - share) + share / 2


def _mean(losses: Tensor, weight: Tensor, total: Tensor | None = None) -> Tensor:
    denominator = (weight if total is None else total).sum()
    mean: Tensor = (losses * weight).sum() / torch.where(denominator > 0, denominator, 1)
    return mean
