"""Does a heat map light up the frame of an image, or the padding around it? There is nothing to be seen there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mailnet.explain.quality.truth import Array


class Share(NamedTuple):
    """What part of each of N maps lies in a region.

    Args:
        energy: (N,) share of the sum of the map's sizes; of a map of zeros, the share of the area.
        area: (N,) share of the pixels.
    """

    energy: Array
    area: Array

    @property
    def ratio(self) -> Array:
        """(N,) the first by the second: 1 is even, more is a region that is lit up; NaN where there is no region."""
        found: Array = np.divide(self.energy, self.area, out=np.full(len(self.area), np.nan), where=self.area > 0)
        return found


def share_in(maps: Array, region: Array) -> Share:
    """Return what part of each map lies in a region, whether it speaks for the class or against it.

    Args:
        maps: (N, ...).
        region: (N, ...) or (...) bool.
    """
    sizes = np.abs(maps.reshape(len(maps), -1).astype(np.float64))
    inside = np.broadcast_to(region, maps.shape).reshape(len(maps), -1)
    area = inside.mean(1)
    whole = sizes.sum(1)
    return Share(np.divide((sizes * inside).sum(1), whole, out=area.copy(), where=whole > 0), area)


def border_share(maps: Array, frame: float = 0.05) -> Share:
    """Return what part of each map lies in the outer frame.

    Args:
        maps: (N, H, W) or (N, D, H, W).
        frame: Its width as a share of each side; at least one pixel.

    Raises:
        ValueError: ``frame`` leaves no middle.
    """
    if not 0 < frame < 0.5:
        raise ValueError(f"frame must lie between 0 and 0.5, got {frame}")
    middle = np.zeros(maps.shape[1:], dtype=bool)
    widths = [max(1, round(frame * side)) for side in maps.shape[1:]]
    middle[tuple(slice(width, side - width) for width, side in zip(widths, maps.shape[1:], strict=True))] = True
    return share_in(maps, ~middle)


def find_padding(images: Array, tolerance: float = 0.02) -> Array:
    """Return the black bars around images: rows, columns and planes from the edge in that are dark throughout.

    Args:
        images: (N, C, H, W) or (N, C, D, H, W) in [0, 1].
        tolerance: Highest value that counts as dark: bars that went through JPEG are not quite black.

    Returns:
        (N, H, W) or (N, D, H, W) bool; nothing in an image that is dark throughout.
    """
    lit: Array = np.any(images > tolerance, axis=1)
    axes = tuple(range(1, lit.ndim))
    padding = np.zeros(lit.shape, dtype=bool)
    for axis in axes:
        line: Array = np.any(lit, axis=tuple(other for other in axes if other != axis))  # (N, side)
        before = ~np.logical_or.accumulate(line, axis=1)
        behind = ~np.logical_or.accumulate(line[:, ::-1], axis=1)[:, ::-1]
        shape = [len(lit), *(1,) * len(axes)]
        shape[axis] = -1
        padding |= (before | behind).reshape(shape)
    padding[~np.any(lit, axis=axes)] = False
    return padding
