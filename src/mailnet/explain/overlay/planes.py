"""What is shown of an image or volume: grey or colour, and of a volume the planes with most energy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DARK = 0.02  # an image without a brighter value is shown as it is: black


def shown(image: Array, planes: int = 1) -> Array:
    """Return an image as it is looked at.

    Args:
        image: (C, H, W) or (C, D, H, W) in [0, 1].
        planes: Neighbouring planes that the channels are made of, one after the other; the middle one is shown.

    Returns:
        (H, W) or (D, H, W), with a last axis of 3 where the image has colours; grey images whose values fill little of
        [0, 1], as those of 12 bits may, are stretched.
    """
    each = len(image) // planes
    own = image[planes // 2 * each :][:each]
    if each == 3:
        return np.moveaxis(own, 0, -1).clip(0, 1)
    grey: Array = own.mean(0)
    top = float(np.percentile(grey, 99.9))
    return (grey / top if DARK < top < 0.5 else grey).clip(0, 1)


def best_planes(heat: Array) -> tuple[int, int, int]:
    """Return the axial, coronal and sagittal plane with most energy, the middle ones where there is none.

    Args:
        heat: (D, H, W).

    >>> heat = np.zeros((4, 6, 8))
    >>> heat[1, 2, 3] = -5
    >>> best_planes(heat)
    (1, 2, 3)
    >>> best_planes(np.zeros((4, 6, 8)))
    (2, 3, 4)
    """
    sizes = np.abs(heat)
    if not sizes.any():
        return (heat.shape[0] // 2, heat.shape[1] // 2, heat.shape[2] // 2)
    d, h, w = (int(sizes.sum(axes).argmax()) for axes in ((1, 2), (0, 2), (0, 1)))
    return d, h, w


def montage(volume: Array, planes: tuple[int, int, int], between: float) -> Array:
    """Return three planes of a volume: axial on the left, beside it coronal above sagittal, the head above in both.

    Args:
        volume: (D, H, W) or (D, H, W, 3).
        planes: Their numbers.
        between: Value of what lies between and beside them.
    """
    d, h, w = planes
    axial, coronal, sagittal = volume[d], volume[::-1, h], volume[::-1, :, w]
    gap = max(1, volume.shape[2] // 32)
    depth, (height, width) = len(volume), axial.shape[:2]
    size = (max(height, 2 * depth + gap), width + gap + max(width, height), *volume.shape[3:])
    whole = np.full(size, between, dtype=np.float64)
    whole[:height, :width] = axial
    whole[:depth, width + gap : 2 * width + gap] = coronal
    whole[depth + gap : 2 * depth + gap, width + gap : width + gap + height] = sagittal
    return whole
