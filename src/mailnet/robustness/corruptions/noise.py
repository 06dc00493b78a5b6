"""Noise of detectors and scanners."""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.robustness.corruptions.drawn import Generator, normal


def gaussian_noise(x: Tensor, deviation: float, generator: Generator) -> Tensor:
    """Add Gaussian noise of a deviation."""
    return x + deviation * normal(x.shape, x, generator)


def rician_noise(x: Tensor, deviation: float, generator: Generator) -> Tensor:
    """Return the magnitude after Gaussian noise on the real and the imaginary part, as MR images have it.

    As MONAI's ``RandRicianNoise`` with ``std`` of one value. Source: Gudbjartsson and Patz, "The Rician distribution
    of noisy MRI data", Magn Reson Med 1995.
    """
    real, imaginary = (deviation * normal(x.shape, x, generator) for _ in range(2))
    return torch.hypot(x + real, imaginary)


def shot_noise(x: Tensor, counts: float, generator: Generator) -> Tensor:
    """Count quanta: Poisson noise where white means so many counts."""
    rate = (x.clamp(min=0) * counts).to(generator.device)
    return (torch.poisson(rate, generator=generator) / counts).to(x)


def speckle_noise(x: Tensor, deviation: float, generator: Generator) -> Tensor:
    """Multiply with noise of mean 1, as of coherent imaging (ultrasound)."""
    return x + deviation * x * normal(x.shape, x, generator)
