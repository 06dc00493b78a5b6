"""Training on studies with Gaussian noise, for classifiers that randomized smoothing certifies.

Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mailnet.nn.batch import Batch
from mailnet.training.defense.lesson import Lesson, Losses


class Gaussian:
    """Noise of a modality's own deviation on every image that is there.

    What leaves [0, 1] is clipped, since networks take nothing else; so must be what a certificate's noise gives.

    Args:
        sigma: Modality -> deviation; what is left out gets no noise.
    """

    replays = 1
    passes = 1

    def __init__(self, sigma: Mapping[str, float]) -> None:
        self.sigma = dict(sigma)

    def backward(self, lesson: Lesson) -> Losses:
        """See ``Defense``."""
        noisy = self.disturb(lesson.network, lesson.batch, lesson.generator())
        losses = lesson.plain(lesson.model(noisy.inputs, noisy.present))
        lesson.backward(lesson.mean(losses))
        return losses

    def disturb(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Batch:
        """See ``Defense``: by one draw of the noise."""
        inputs = {
            name: _noisy(x, batch.present[name], self.sigma[name], generator) if name in self.sigma else x
            for name, x in batch.inputs.items()
        }
        return Batch(inputs, batch.present, batch.targets, batch.ids)


def _noisy(x: Tensor, present: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(x.shape, generator=generator).to(x) * present.view(-1, *[1] * (x.ndim - 1))
    return (x + sigma * noise).clamp(0, 1)
