"""Heat maps against masks of the lesion: do they light up where it is?

Maps are (N, ...) arrays and masks bool arrays of the same shape, with any number of spatial axes; flattened maps of
several modalities, one after the other, are judged together. Only what speaks for the class counts: values below zero
count as zero. A study without a lesion gives NaN, a map that says nothing what a guess would give.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mailnet.metrics.ranking import Ranking

Array = npt.NDArray[Any]


def dilate(masks: Array, tolerance: float) -> Array:
    """Return masks with all pixels that are at most ``tolerance`` pixels away from them.

    Args:
        masks: (N, ...) bool.
        tolerance: In pixels of the map, as the crow flies.

    Raises:
        ValueError: ``tolerance`` is below zero.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance must be at least 0 pixels, got {tolerance}")
    if tolerance == 0:
        return masks
    wide = [ndimage.distance_transform_edt(~mask) <= tolerance if mask.any() else mask for mask in masks]
    return np.stack(wide) if wide else masks


def pointing_game(maps: Array, masks: Array, tolerance: float = 0) -> Array:
    """Return whether the highest value of each map lies in the mask.

    Args:
        maps: (N, ...).
        masks: (N, ...) bool.
        tolerance: Pixels that the point may lie beside the mask.

    Returns:
        (N,) 1 or 0; where several pixels share the highest value, the share of them that lies in the mask.

    Raises:
        ValueError: The arrays do not fit, or a map holds NaN or infinity.

    Source:
        Zhang et al., "Top-Down Neural Attention by Excitation Backprop", ECCV 2016, with 15 pixels on photographs.
    """
    values, wide = _flat(maps, dilate(masks, tolerance))
    top = values == values.max(1, keepdims=True)
    return _known(masks, (top & wide).sum(1) / top.sum(1))


def mask_iou(
    maps: Array, masks: Array, *, share: Literal["mask"] | float | None = "mask", threshold: float | None = None
) -> Array:
    """Return intersection over union of the mask and a map made black and white.

    Args:
        maps: (N, ...).
        masks: (N, ...) bool.
        share: The highest pixels of the map are taken: ``mask``, as many as the mask has, so that nothing is tuned, or
            this share of all pixels. Of equal values at the border line the expected number lies in the mask.
        threshold: Instead, pixels of at least this share of the map's highest value; ``share`` must be None.

    Returns:
        (N,) in [0, 1].

    Raises:
        ValueError: The arrays do not fit, a map holds NaN or infinity, or not exactly one rule is given.
    """
    values, marked = _flat(maps, masks)
    area = marked.sum(1)
    if (share is None) == (threshold is None):
        raise ValueError("give either 'share' or 'threshold'")
    if threshold is not None:
        top = values.max(1, keepdims=True)
        taken = values >= threshold * top
        both = (taken & marked).sum(1).astype(float)
        return _known(masks, both / (taken.sum(1) + area - both))
    count = area if share == "mask" else np.full(len(values), round(float(share or 0) * values.shape[1]))
    if (count < 0).any() or (count > values.shape[1]).any():
        raise ValueError(f"share must lie in [0, 1], got {share}")
    ordered = -np.sort(-values, axis=1)
    edge = np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, None], 1)
    above, level = values > edge, values == edge
    left = count - above.sum(1)  # of those at the border line
    both = (above & marked).sum(1) + left * (level & marked).sum(1) / level.sum(1)
    both = np.where(count > 0, both, 0.0)
    union = count + area - both
    return _known(masks, np.divide(both, union, out=np.zeros(len(union)), where=union > 0))


def energy_in_mask(maps: Array, masks: Array) -> Array:
    """Return the share of each map's sum that lies in the mask; of a map of zeros, the mask's share of the area.

    Args:
        maps: (N, ...).
        masks: (N, ...) bool.

    Returns:
        (N,) in [0, 1].

    Raises:
        ValueError: The arrays do not fit, or a map holds NaN or infinity.

    Source:
        Wang et al., "Score-CAM", CVPRW 2020 (energy-based pointing game).
    """
    values, marked = _flat(maps, masks)
    whole = values.sum(1)
    inside = np.divide((values * marked).sum(1), whole, out=marked.mean(1), where=whole > 0)
    return _known(masks, inside)


def average_precision(maps: Array, masks: Array) -> Array:
    """Return the area under the precision-recall curve of a map's pixels as a search for the mask's.

    Args:
        maps: (N, ...).
        masks: (N, ...) bool.

    Returns:
        (N,) in [0, 1]; at random, the mask's share of the area.

    Raises:
        ValueError: The arrays do not fit, or a map holds NaN or infinity.
    """
    values, marked = _flat(maps, masks)
    once = np.ones((1, values.shape[1]))
    found = [Ranking(mask, value).areas(once)[1][0] for value, mask in zip(values, marked, strict=True)]
    return _known(masks, np.array(found, dtype=float))


def _flat(maps: Array, masks: Array) -> tuple[Array, Array]:
    if maps.shape != masks.shape or masks.dtype != bool:
        raise ValueError(f"masks must be bool {maps.shape} as the maps, got {masks.dtype} {masks.shape}")
    values = np.maximum(maps.reshape(len(maps), -1).astype(np.float64), 0)
    if not np.isfinite(maps).all():
        raise ValueError("a map holds NaN or infinity")
    return values, masks.reshape(len(masks), -1)


def _known(masks: Array, values: Array) -> Array:
    marked = masks.reshape(len(masks), -1).any(1)
    return np.where(marked, values, np.nan)
