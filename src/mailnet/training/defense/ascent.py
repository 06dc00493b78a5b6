"""The inner attack of adversarial training: steps of steepest ascent of a batch's loss.

It is that of ``mailnet.attacks.pgd`` but for what training needs: the loss is that of the batch, no study is dropped
early, and the network may be in the midst of its training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mailnet.attacks import Threat
from mailnet.attacks.threat import Space
from mailnet.nn.batch import Batch
from mailnet.training.defense.modes import evaluated

BatchLoss = Callable[[Mapping[str, Tensor]], Tensor]  # from logits to a number


def attacked_space(batch: Batch, threat: Threat, share: float = 1.0) -> Space | None:
    """Return what an attacker may change of a batch, None where no study has what is attacked.

    Args:
        batch: The studies.
        threat: The threat model.
        share: What the radii are multiplied by.
    """
    if not any(name in batch.inputs and bool(batch.present[name].any()) for name in threat.eps):
        return None
    return Space(batch.inputs, batch.present, threat).enlarged(share)


def slope(network: nn.Module, space: Space, batch: Batch, x: Tensor, loss: BatchLoss, *, graph: bool = False) -> Tensor:
    """Return the gradient (B, D) of the loss at rows (B, D); parameters' own gradients stay as they are.

    Args:
        network: The network.
        space: Where the rows' columns belong.
        batch: The studies.
        x: The rows.
        loss: From logits to what is differentiated.
        graph: Whether the gradient shall be differentiable itself.
    """
    point = x.detach().requires_grad_()
    value = loss(network({**batch.inputs, **space.split(point)}, batch.present))
    (gradient,) = torch.autograd.grad(value, point, create_graph=graph)
    return gradient


def ascend(
    network: nn.Module,
    space: Space,
    batch: Batch,
    x: Tensor,
    loss: BatchLoss,
    *,
    steps: int,
    step: float,
    draws: int = 1,
) -> Tensor:
    """Return rows (B, D) of a higher loss, in every ball and box.

    The network is in evaluation mode meanwhile, its parameters need no gradient, and afterwards nothing of it has
    changed. A random network draws anew at every pass.

    Args:
        network: The network.
        space: What may be changed.
        batch: The studies.
        x: (B, D), where to start.
        loss: From logits to what shall rise.
        steps: Number of steps.
        step: Length of a step, in radii.
        draws: Passes of a random network whose gradients are averaged at each step.
    """
    with evaluated(network, frozen=True):
        for _ in range(steps):
            gradient = slope(network, space, batch, x, loss)
            for _ in range(draws - 1):
                gradient = gradient + slope(network, space, batch, x, loss)
            x = climbed(space, x, gradient, step)
    return x


def climbed(space: Space, x: Tensor, gradient: Tensor, step: float) -> Tensor:
    """Return rows (B, D) after a step of ``step`` radii along the gradient, drawn back into ball and box.

    What is not a number moves nothing: a training that diverges is stopped for its loss, not for its inputs.
    """
    return space.project(x + step * space.steepest(gradient.nan_to_num()) * space.spread(space.radius))
