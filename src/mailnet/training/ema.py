"""The moving average of a network's weights, which is what is evaluated and kept."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a network's parameters and floating buffers.

    Buffers are averaged too, so that batch-norm statistics fit the averaged weights. The decay of update n is at most
    (1 + n) / (10 + n): early weights are forgotten, and a short training is not dragged down by its first steps.

    Args:
        model: The network that is trained.
        decay: Decay after many updates.

    Source: Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the warm-up is that of
    TensorFlow's ``ExponentialMovingAverage``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self._moving, self._copied = _floats_and_others(self.model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the network's weights."""
        decay = decay_at(self.decay, self.updates)
        self.updates += 1
        moving, copied = _floats_and_others(model)
        torch._foreach_lerp_(self._moving, moving, 1 - decay)
        for target, source in zip(self._copied, copied, strict=True):
            target.copy_(source)


def decay_at(decay: float, updates: int) -> float:
    """Return the decay of the update after so many, see ``EMA``."""
    return min(decay, (1 + updates) / (10 + updates))


def _floats_and_others(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    tensors = [*model.parameters(), *model.buffers()]
    return [t.detach() for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]
