"""What a defence is given at each part of an optimizer step, and what it offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn

from mailnet.nn.batch import Batch
from mailnet.nn.registry import Network
from mailnet.specs import TaskSpec

Losses: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Lesson:
    """Studies that the network learns from, and the means to do so.

    Args:
        batch: The studies, augmented, on the network's device.
        network: The network, in training mode. Passes that leave no gradients to it go through this one.
        model: The same as accelerate prepared it: passes that ``backward`` ends go through this one, so that processes
            share their gradients.
        plain: From logits of these studies to each task's loss as in plain training: its mean over the labels that are
            known, weighted by classes, times the part's share.
        mean: From each task's loss to what is minimised.
        shares: Task -> the part's share of the step's labels, see ``Part``.
        class_weights: Task -> (K,); a task left out has none.
        backward: Adds the gradients of a loss to the parameters'.
        reached: Share of the training that is done with this step, in (0, 1].
        seed: Of everything that the defence draws.
        part: Number of the part within its step.
        replay: How often the step has been made already.
    """

    batch: Batch
    network: nn.Module
    model: nn.Module
    plain: Callable[[Mapping[str, Tensor]], Losses]
    mean: Callable[[Losses], Tensor]
    shares: Mapping[str, float]
    class_weights: Mapping[str, Tensor]
    backward: Callable[[Tensor], None]
    reached: float
    seed: int
    part: int = 0
    replay: int = 0

    @property
    def tasks(self) -> dict[str, TaskSpec]:
        """The network's tasks."""
        return cast("Network", self.network).tasks

    def generator(self) -> torch.Generator:
        """Return the generator of what the defence draws, on the CPU, so that every device gets the same numbers."""
        return torch.Generator().manual_seed(self.seed)

    def given(self, inputs: Mapping[str, Tensor]) -> Batch:
        """Return the studies with some inputs replaced."""
        return replace(self.batch, inputs={**self.batch.inputs, **inputs})


class Defense(Protocol):
    """A way of training that makes a network robust.

    Attributes:
        replays: Optimizer steps that are made of each batch.
        passes: Forward passes, about, whose results a part's backward pass needs at once.
    """

    replays: int
    passes: int

    def backward(self, lesson: Lesson) -> Losses:
        """Add the gradients of a part to the parameters'; return each task's loss that they are of."""
        ...

    def disturb(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Batch:
        """Return validation studies as the defence's adversary leaves them.

        Args:
            network: In evaluation mode.
            batch: Studies with labels.
            generator: Of what is drawn, on the CPU.
        """
        ...
