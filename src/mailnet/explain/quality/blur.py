"""Gaussian blur of images and volumes, for fills, baselines and structural similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
    reach = torch.arange(-radius, radius + 1, device=x.device)
    for axis in range(2, x.ndim):
        pixels = torch.arange(x.shape[axis], device=x.device)
        places = (pixels[:, None] + reach).clamp(0, len(pixels) - 1)  # (N, taps); beyond the border its last pixel
        # One product with a matrix: a wide kernel as a convolution takes ten times as long.
        weights = x.new_zeros(len(pixels), len(pixels)).scatter_add_(1, places, kernel.expand(len(pixels), -1))
        x = (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return x.contiguous()
