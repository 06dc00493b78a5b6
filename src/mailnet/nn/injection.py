"""Parametric noise injection: Gaussian noise on every weight, as strong as each layer learns it to be.

Source: He, Rakin, Fan, "Parametric noise injection: trainable randomness to improve deep neural network robustness
against adversarial attack", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from mailnet.nn.mail import MAIL
from mailnet.nn.noise import NoiseSource
from mailnet.nn.registry import register_model
from mailnet.specs import ModalitySpec, TaskSpec


class NoisyWeight(nn.Module):
    """w + alpha n with n from N(0, s^2), where s is the standard deviation of the layer's weights and alpha is learned.

    Args:
        alpha: Its initial value; 0.25 as published.
        noise: Source of n.
    """

    def __init__(self, alpha: float, noise: NoiseSource) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        self.noise = noise

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights with noise, in noise mode ``off`` as they are."""
        drawn = self.noise.draw("weight_noise", weight.shape, 1.0, weight)
        return weight + self.alpha * weight.detach().std() * drawn


def inject_noise(network: nn.Module, alpha: float, noise: NoiseSource) -> None:
    """Give every convolution and linear layer of a network noisy weights, drawn at every forward pass.

    Args:
        network: The network; its state dict then holds ``parametrizations.weight.original`` in place of each weight.
        alpha: Initial strength of the noise, relative to the spread of a layer's weights.
        noise: Source of the numbers.

    Raises:
        ValueError: A negative strength.
    """
    if alpha < 0:
        raise ValueError(f"alpha must not be negative, got {alpha}")
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear) and module.weight.numel() > 1:
            register_parametrization(module, "weight", NoisyWeight(alpha, noise))


@register_model("pni_mail")
class NoiseInjectedMAIL(MAIL):
    """MAIL with parametric noise injection, a random defence of other authors to compare ``robust_mail`` with.

    Source of its numbers and mode of a prediction are set as those of ``robust_mail``.

    Args:
        modalities: The modalities by name.
        tasks: The tasks by name.
        alpha: Strength of each layer's noise at the beginning, relative to the spread of its weights.
        options: Those of ``MAIL``.

    Raises:
        ValueError: An unknown choice, or a number out of its range.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        *,
        alpha: float = 0.25,
        **options: Any,
    ) -> None:
        super().__init__(modalities, tasks, **options)
        self.noise = NoiseSource()
        inject_noise(self, alpha, self.noise)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the logits of every task: of one draw, or in noise mode ``mean`` of the averaged probabilities."""
        return self.noise.average(lambda: super(NoiseInjectedMAIL, self).forward(inputs, present), self.tasks)
