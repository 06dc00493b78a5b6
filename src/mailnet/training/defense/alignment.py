"""Gradient alignment: what keeps training against single steps from failing all at once.

Source: Andriushchenko, Flammarion, "Understanding and improving fast adversarial training", NeurIPS 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.attacks.threat import Space
from mailnet.nn.batch import Batch
from mailnet.training.defense.ascent import BatchLoss, slope
from mailnet.training.defense.modes import evaluated


def misalignment(network: nn.Module, space: Space, batch: Batch, x: Tensor, loss: BatchLoss) -> Tensor:
    """Return the mean over studies of 1 - cos of the loss's gradients at the clean study and at ``x``, a number.

    It is differentiable by the parameters. Gradients are taken in units of each modality's radius, so that what is not
    attacked has no part in them, and in evaluation mode, as the attack's; studies without a gradient count for nothing.

    Args:
        network: The network.
        space: What may be changed.
        batch: The studies.
        x: (B, D), a random point of each ball.
        loss: From logits to what is differentiated.
    """
    radius = space.spread(space.radius)
    with evaluated(network, frozen=False):
        first, second = (
            slope(network, space, batch, point, loss, graph=True) * radius for point in (space.clean, x)
        )  # (B, D)
    lengths = torch.linalg.vector_norm(first.detach(), dim=1) * torch.linalg.vector_norm(second.detach(), dim=1)
    known = lengths > 0
    if not bool(known.any()):
        return first.new_zeros(())
    tiny = torch.finfo(first.dtype).tiny
    one, other = (functional.normalize(gradient[known], dim=1, eps=tiny) for gradient in (first, second))
    return 1 - (one * other).sum(1).mean()
