"""Adversarial weight perturbation: gradients at weights that are moved to where the loss is worst.

Source: Wu, Xia, Wang, "Adversarial weight perturbation helps robust generalization", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mailnet.training.defense.modes import unchanged_buffers


@contextmanager
def worst_weights(network: nn.Module, loss: Callable[[], Tensor], gamma: float) -> Iterator[None]:
    """Move the weights to where the loss is larger, and afterwards back, bit for bit.

    Each layer's weights w move along their gradient by gamma |w|. Biases and the scales of normalisations stay, as
    published. The pass that finds the gradients leaves buffers and the parameters' own gradients as they are.

    Args:
        network: The network, in training mode.
        loss: Makes a pass and returns what shall rise.
        gamma: Length of a layer's move, relative to that of its weights.
    """
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.ndim > 1]
    with unchanged_buffers(network):
        gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    kept = [weight.detach().clone() for weight in weights]
    _move(weights, gradients, gamma)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, values in zip(weights, kept, strict=True):
                weight.copy_(values)


@torch.no_grad()
def _move(weights: Sequence[nn.Parameter], gradients: Sequence[Tensor | None], gamma: float) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None:
            length = torch.linalg.vector_norm(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
            weight.add_(gradient / length * (gamma * torch.linalg.vector_norm(weight)))
