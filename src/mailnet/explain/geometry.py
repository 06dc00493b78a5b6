"""From the cells of a layer to the pixels that they see.

The first cell of a layer does not lie in the middle of the pixels that it stands for. A 3x3 convolution of stride 2
that is padded by one looks at the pixels around 0, 2, 4, ..., so after a stride of 16 cell i is centred on pixel 16 i,
where enlarging a map as a picture would put it on 16 i + 7.5: half a cell nearer to the lower right corner. A lesion of
ten pixels is then missed. Means of 2x2 pixels and padding of one side only move the centre back; where each network has
it was measured by the gradients of its cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mailnet.nn.reference.network import PublishedNetwork

# Place of a cell's centre among the pixels of its stride, 0 the first and 1 the last of them.
FIRST = 0.0  # strided convolutions and max-pools, padded alike on both sides
MEANS = 0.25  # a path of these, and beside it or between them means of 2x2 pixels
ONE_SIDED = 0.4  # padding after the last pixel, as the published networks have it; 1x1 convolutions beside


def cell_centre(model: nn.Module) -> float:
    """Return where the centre of a cell lies among the pixels of its stride, from 0 (first) to 1 (last)."""
    if isinstance(model, PublishedNetwork):
        return ONE_SIDED
    halves = (
        module
        for module in model.modules()
        if isinstance(module, nn.AvgPool2d | nn.AvgPool3d)
        and any(step > 1 for step in (module.stride if isinstance(module.stride, tuple) else (module.stride,)))
    )
    return FIRST if next(halves, None) is None else MEANS


def stride_of(pixels: int, cells: int) -> float:
    """Return how many pixels lie between two cells of a layer that has so many along an axis.

    Networks halve an axis a number of times, an odd length upwards: 28 pixels become 14, 7 and 4 cells, 8 pixels apart
    and not 7.

    >>> stride_of(28, 4), stride_of(64, 4), stride_of(6, 6), stride_of(60, 7)
    (8.0, 16.0, 1.0, 8.571428571428571)
    """
    step = 1
    while step < pixels:
        if -(-pixels // step) == cells:
            return float(step)
        step *= 2
    return pixels / cells


def to_pixels(maps: Tensor, size: tuple[int, ...], centre: float = 0.5) -> Tensor:
    """Return maps (B, ...) on the pixels of their image, linear between the centres of cells, constant beyond the last.

    Args:
        maps: (B, h, w) or (B, d, h, w).
        size: Pixels along each axis.
        centre: Of a cell, see ``cell_centre``; at 0.5 this is what pictures are enlarged by.
    """
    for axis, pixels in enumerate(size, start=1):
        cells = maps.shape[axis]
        stride = stride_of(pixels, cells) if centre != 0.5 else pixels / cells
        place = (torch.arange(pixels, device=maps.device, dtype=maps.dtype) - centre * (stride - 1)) / stride
        cell = torch.arange(cells, device=maps.device, dtype=maps.dtype)
        weights = (1 - (place.clamp(0, cells - 1)[:, None] - cell).abs()).clamp(min=0)  # (pixels, cells)
        maps = (maps.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return maps
