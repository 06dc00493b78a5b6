"""Optimizer, learning rate and clipping: what moves the weights, and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from mailnet.data.config import TrainConfig

PLATEAU_FACTOR = 0.1
PLATEAU_FLOOR = 1e-5  # of the learning rate, as published
PLATEAU_IMPROVEMENT = 1e-4  # relative; smaller changes of the loss are noise


def create_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return Adam or AdamW over the weights that are trained.

    Weight decay holds back matrices and kernels alone. Vectors and scalars (biases, normalisation, learned tokens,
    gates) set scales, where decay does harm.

    Args:
        model: The network, on its device.
        config: ``optimizer``, ``learning_rate`` and ``weight_decay`` are used.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=config.learning_rate, fused=True)


def learning_rate(config: TrainConfig, step: int, steps: int, plateau: float = 1.0) -> float:
    """Return the learning rate of an optimizer step.

    A line from 0 during the warm-up, then half a cosine down to 0, or a constant, which the schedule ``plateau``
    multiplies by the plateau's factor but not below 1e-5.

    Args:
        config: ``learning_rate``, ``schedule`` and ``warmup`` (a share of all steps) are used.
        step: Number of the step, from 0.
        steps: Number of steps of the whole training.
        plateau: Factor of ``Plateau``.

    >>> config = TrainConfig(learning_rate=1.0, warmup=0.5)
    >>> [round(learning_rate(config, step, 4), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rate = config.learning_rate
    if config.schedule == "plateau":
        rate = max(rate * plateau, min(rate, PLATEAU_FLOOR))
    warmup = round(config.warmup * steps)
    if step < warmup:
        return rate * (step + 1) / warmup
    if config.schedule != "cosine":
        return rate
    done = (step - warmup) / max(steps - warmup, 1)
    return rate * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = value


@dataclass
class Plateau:
    """Divides the learning rate by ten when the validation loss has not fallen for ``patience`` epochs.

    Args:
        patience: Epochs without a better loss that are borne.
        factor: What the learning rate is multiplied by now.
        best: Lowest loss seen, None before the first.
        waited: Epochs since then.
    """

    patience: int
    factor: float = 1.0
    best: float | None = None
    waited: int = 0

    def update(self, loss: float) -> None:
        """Take note of the loss of an epoch; infinity is no improvement."""
        if math.isfinite(loss) and (self.best is None or loss < self.best * (1 - PLATEAU_IMPROVEMENT)):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.factor, self.waited = self.factor * PLATEAU_FACTOR, 0
