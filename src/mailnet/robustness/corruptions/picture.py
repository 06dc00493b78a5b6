"""What happens to any picture: another curve of grey, less contrast, something in front of it, a turn."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from mailnet.robustness.corruptions.drawn import Generator, per_image, signs, uniform


def gamma(x: Tensor, octaves: float, generator: Generator) -> Tensor:
    """Raise to the power of 2 to plus or minus ``octaves``, brighter or darker for each image."""
    return x.clamp(0, 1) ** torch.exp2(signs(x, generator) * octaves)


def contrast(x: Tensor, kept: float, generator: Generator) -> Tensor:
    """Keep a share of the spread around each image's mean."""
    mean = x.mean(tuple(range(1, x.ndim)), keepdim=True)
    return mean + (x - mean) * kept


def occlusion(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Black out a box that covers a share of the image or volume, at a random place."""
    axes = x.ndim - 2
    places = uniform((len(x), axes), x, generator)
    length = share ** (1 / axes)
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for axis, side in enumerate(x.shape[2:]):
        centres = (torch.arange(side, device=x.device, dtype=x.dtype) + 0.5) / side
        start = per_image(x, places[:, axis] * (1 - length))
        line = centres.view(1, 1, *(-1 if k == axis else 1 for k in range(axes)))
        inside = inside & (line >= start) & (line < start + length)
    return torch.where(inside, 0.0, x)


def rotation(x: Tensor, degrees: float, generator: Generator) -> Tensor:
    """Turn within the plane, left or right for each image; what comes in is black."""
    angle = signs(x, generator).flatten() * math.radians(degrees)
    height, width = x.shape[-2:]
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cosine, -sine * height / width, zero, sine * width / height, cosine, zero], 1).view(-1, 2, 3)
    flat = x.flatten(1, -3)
    places = functional.affine_grid(matrix, list(flat.shape), align_corners=False)
    return functional.grid_sample(flat, places, align_corners=False).view_as(x)
