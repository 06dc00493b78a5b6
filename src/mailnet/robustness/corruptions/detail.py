"""Loss of detail: blur, streaks of motion, fewer pixels, compression."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mailnet.robustness.corruptions.drawn import Generator, uniform


def blur(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Blur with a Gaussian whose deviation is a share of the shortest side."""
    deviation = share * min(x.shape[2:])
    reach = max(math.ceil(3 * deviation), 1)
    places = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-places.square() / (2 * deviation**2))
    for axis in range(2, x.ndim):
        x = _convolved(x, kernel / kernel.sum(), axis)
    return x


def motion_blur(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Smear along a line in the plane, its length a share of the shorter side, its direction random for each image."""
    length = share * min(x.shape[-2:])
    angle = uniform((len(x),), x, generator) * math.pi
    steps = max(math.ceil(2 * length), 1) + 1
    total = torch.zeros_like(x)
    for step in torch.linspace(-0.5, 0.5, steps).tolist():
        moved = torch.stack([angle.cos(), angle.sin()], 1) * (step * length)
        total += shifted(x, moved)
    return total / steps


def pixelate(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Keep a share of the pixels of each side, each the mean of what it covers, and show them as blocks."""
    few = [max(round(share * side), 1) for side in x.shape[2:]]
    if x.ndim == 4:
        pooled = functional.adaptive_avg_pool2d(x, (few[0], few[1]))
    else:
        pooled = functional.adaptive_avg_pool3d(x, (few[0], few[1], few[2]))
    return functional.interpolate(pooled, size=x.shape[2:], mode="nearest-exact")


def jpeg(x: Tensor, quality: float, generator: Generator) -> Tensor:
    """Encode as JPEG and decode again, volumes plane by plane; three channels as colour, others each as grey."""
    colour = x.shape[1] == 3
    # (n, H, W, 3) or (n, H, W)
    planes = x.movedim(1, -1).flatten(0, -4) if colour else x.flatten(0, -3)
    bytes_ = (planes.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    decoded = torch.from_numpy(np.stack([_through_jpeg(plane, round(quality)) for plane in bytes_])).to(x) / 255
    if not colour:
        return decoded.reshape(x.shape)
    return decoded.reshape(x.shape[0], *x.shape[2:], 3).movedim(-1, 1)


def shifted(x: Tensor, pixels: Tensor) -> Tensor:
    """Move images within their planes, (B, 2) pixels along columns and rows, the edge repeated."""
    flat = x.flatten(1, -3)
    height, width = x.shape[-2:]
    rows = (torch.arange(height, device=x.device, dtype=x.dtype) * 2 + 1) / height - 1
    columns = (torch.arange(width, device=x.device, dtype=x.dtype) * 2 + 1) / width - 1
    places = torch.stack(
        [
            (columns[None, None, :] + 2 * pixels[:, 0, None, None] / width).expand(len(x), height, width),
            (rows[None, :, None] + 2 * pixels[:, 1, None, None] / height).expand(len(x), height, width),
        ],
        -1,
    )
    return functional.grid_sample(flat, places, padding_mode="border", align_corners=False).view_as(x)


def _convolved(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Convolve along one axis, the edge repeated."""
    reach = len(kernel) // 2
    side = x.shape[axis]
    # Rows of the matrix are the weights of one place: short sides need no care for edges, and it is one product.
    places = (torch.arange(side, device=x.device)[:, None] + torch.arange(-reach, reach + 1, device=x.device)).clamp(
        0, side - 1
    )
    matrix = x.new_zeros(side, side).scatter_add_(1, places, kernel.expand(side, -1))
    return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def _through_jpeg(plane: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(plane).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
