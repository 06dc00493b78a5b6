"""Gaussian blur of images and volumes, for fills, baselines and structural similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def blur(x: Tensor, sigma: float) -> Tensor:
    """Return images or volumes blurred along every spatial axis; beyond the border its last pixel goes on.

    Args:
        x: (B, C, H, W) or (B, C, D, H, W).
        sigma: Standard deviation in pixels; 0 changes nothing.

    Raises:
        ValueError: ``sigma`` is below zero.
    """
    if sigma < 0:
        raise ValueError(f"sigma must be at least 0, got {sigma}")
    if sigma == 0:
        return x
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(2, x.ndim):
        line = x.movedim(axis, -1)
        shape = line.shape
        padded = functional.pad(line.reshape(-1, 1, shape[-1]), (radius, radius), mode="replicate")
        x = functional.conv1d(padded, kernel[None, None]).reshape(shape).movedim(-1, axis)
    return x
