"""Tiny networks and the parts of steps that they learn from, without a trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.attacks import Threat
from mailnet.data.config import DefenseConfig
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource
from mailnet.specs import ModalitySpec, TaskSpec
from mailnet.training.defense import Defense, Lesson
from mailnet.training.defense.create import METHODS
from mailnet.training.losses import batch_losses, weighted_mean

CT = ModalitySpec("ct", size=(3, 3))
MR = ModalitySpec("mr", channels=2, size=(2, 2))
CLINIC = ModalitySpec("clinic", "tabular", channels=3)
TWO = TaskSpec("grade", ("low", "high"), "binary")
THREE = TaskSpec("finding", ("a", "b", "c"))
STAGE = TaskSpec("stage", ("one", "two", "three"), "ordinal")
SIGNS = TaskSpec("signs", ("x", "y"), "multilabel")


class Taught(nn.Module):
    """All modalities flattened; batch norm and tanh where there is a hidden layer; a linear layer a task.

    It notes the inputs of every pass, with the mode it was in.
    """

    def __init__(
        self, modalities: Sequence[ModalitySpec], tasks: Sequence[TaskSpec], hidden: int = 0, noise: float = 0.0
    ) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.modalities = {spec.name: spec for spec in modalities}
        self.tasks = {task.name: task for task in tasks}
        sizes = {"ct": 9, "mr": 8, "clinic": 3}
        width = sum(sizes[name] for name in self.modalities)
        self.first = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.Tanh()) if hidden else None
        self.heads = nn.ModuleDict({task.name: nn.Linear(hidden or width, task.outputs) for task in tasks})
        self.std = noise
        if noise:
            self.noise = NoiseSource()
        self.seen: list[tuple[bool, dict[str, Tensor]]] = []

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        self.seen.append((self.training, {name: x.detach().clone() for name, x in inputs.items()}))
        flat = torch.cat([inputs[name].flatten(1) for name in self.modalities], 1)
        if self.std:
            flat = flat + self.noise.draw("spatial_noise", flat.shape, self.std, flat)
        if self.first is not None:
            flat = self.first(flat)
        return {name: head(flat) for name, head in self.heads.items()}

    def learnt_from(self) -> list[dict[str, Tensor]]:
        """The inputs of the passes in training mode."""
        return [inputs for training, inputs in self.seen if training]


def studies(network: Taught, count: int = 6, absent: Mapping[str, Sequence[int]] | None = None) -> Batch:
    """Random studies in [0, 1] with random labels, of which the last is unknown."""
    generator = torch.Generator().manual_seed(11)
    inputs, present, targets = {}, {}, {}
    for name, spec in network.modalities.items():
        x = torch.rand(count, spec.channels, *(spec.size or ()), generator=generator)
        has = torch.ones(count, dtype=torch.bool)
        has[list((absent or {}).get(name, ()))] = False
        inputs[name], present[name] = x * has.view(-1, *[1] * (x.ndim - 1)), has
    for name, task in network.tasks.items():
        if task.kind == "multilabel":
            target = torch.randint(0, 2, (count, len(task.classes)), generator=generator).float()
            target[-1, 0] = torch.nan
        else:
            target = torch.randint(0, len(task.classes), (count,), generator=generator)
            target[-1] = -1
        targets[name] = target
    return Batch(inputs, present, targets)


def lesson_of(network: Taught, batch: Batch, **changes: Any) -> Lesson:
    """A part that is a whole step; every task weighs the same."""

    def plain(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return batch_losses(network.tasks, logits, batch.targets, changes.get("class_weights", {}), 0.0)

    values: dict[str, Any] = {
        "batch": batch,
        "network": network,
        "model": network,
        "plain": plain,
        "mean": lambda losses: weighted_mean(losses, dict.fromkeys(network.tasks, 1.0)),
        "shares": dict.fromkeys(network.tasks, 1.0),
        "class_weights": {},
        "backward": lambda loss: loss.backward(),
        "reached": 1.0,
        "seed": 5,
    }
    return Lesson(**values | changes)


def defense_of(name: str, eps: Mapping[str, float], **settings: Any) -> Defense:
    """The defence with these settings."""
    config = DefenseConfig.model_validate({"name": name, "eps": dict(eps), **settings})
    assert config.norm is not None
    return METHODS[name](config, Threat(config.norm, eps))


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters' gradients."""
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
