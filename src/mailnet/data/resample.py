"""Brings planes and volumes to a size: one matrix product an axis, each row a triangle filter as wide as its step.

A filter as wide as the step takes the mean of what becomes one voxel, so that nothing aliases, and gives no value
beyond those of the file; steps below one are interpolated linearly. It is the filter that pillow calls bilinear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Fit = Literal["letterbox", "stretch", "crop"]
Plane = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Axis:
    """How an axis is sampled.

    Args:
        inside: Number of voxels of the file.
        size: Number of voxels of the result.
        begin: Where the first voxel that is taken begins, in voxels of the file.
        step: Distance of neighbouring results in voxels of the file.
        first: Number of the first voxel of the result that is taken; those before it are padding.
        count: How many are.
    """

    inside: int
    size: int
    begin: float
    step: float
    first: int
    count: int

    def matrix(self) -> np.ndarray:
        """Return (size, inside) float32 weights; a row of padding, or of a place outside of the file, is zeros."""
        places = self.begin + (np.arange(self.count) + 0.5) * self.step
        distance = np.abs(np.arange(self.inside) + 0.5 - places[:, None])
        weights = np.clip(1 - distance / max(self.step, 1.0), 0, None)
        weights[(places < 0) | (places > self.inside)] = 0
        total = weights.sum(axis=1, keepdims=True)
        matrix = np.zeros((self.size, self.inside), np.float32)
        matrix[self.first : self.first + self.count] = weights / np.where(total > 0, total, 1)
        return matrix


def fitted(shape: Sequence[int], size: Sequence[int], spacing: Sequence[float], fit: Fit) -> list[Axis]:
    """Return how the whole of a file, or for ``crop`` its middle, is brought to a size.

    Args:
        shape: Number of voxels along each axis.
        size: Those of the result.
        spacing: Of the file, in any unit; its proportions are kept unless ``fit`` is ``stretch``.
        fit: ``letterbox`` pads what does not fill the size, ``crop`` cuts what exceeds it.
    """
    if fit == "stretch":
        return [Axis(n, out, 0.0, n / out, 0, out) for n, out in zip(shape, size, strict=True)]
    extent = [n * step for n, step in zip(shape, spacing, strict=True)]
    scales = [out / length for out, length in zip(size, extent, strict=True)]
    if fit == "crop":
        largest = max(scales)
        return spaced(shape, size, spacing, [1 / largest] * len(size))
    smallest = min(scales)
    counts = [max(1, round(length * smallest)) for length in extent]
    return [
        Axis(n, out, 0.0, n / count, (out - count) // 2, count)
        for n, out, count in zip(shape, size, counts, strict=True)
    ]


def spaced(shape: Sequence[int], size: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> list[Axis]:
    """Return how a file is brought to a spacing and, from its centre, cut or padded to a size."""
    steps = [want / own for own, want in zip(spacing, wanted, strict=True)]
    return [Axis(n, out, (n - out * step) / 2, step, 0, out) for n, out, step in zip(shape, size, steps, strict=True)]


def resample(plane: Plane, channels: int, axes: Sequence[Axis]) -> np.ndarray:
    """Return a resampled volume.

    Args:
        plane: Gives a plane of the file by its number, (H, W, C) float32; called only for those that are needed.
        channels: C.
        axes: Of planes, rows and columns.

    Returns:
        (D, H, W, C) float32.
    """
    depth, rows, columns = (axis.matrix() for axis in axes)
    used = np.flatnonzero(depth.any(axis=0))
    # One plane at a time: the whole file as floating-point numbers could be far larger than the result.
    smaller = np.zeros((len(used), len(rows), len(columns), channels), np.float32)
    for place, number in enumerate(used):
        values = plane(int(number))
        for channel in range(channels):
            smaller[place, ..., channel] = rows @ values[..., channel] @ columns.T
    flat = depth[:, used] @ smaller.reshape(len(used), math.prod(smaller.shape[1:]))
    return flat.reshape(len(depth), *smaller.shape[1:])
