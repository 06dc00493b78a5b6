"""An image as a few dozen numbers that need no network: where it is bright, how bright, how fine its structures are.

With ``foreign.fit_mahalanobis`` on the profiles of training images and ``alarm.fit_alarm`` on those of validation they
tell an image of another kind, as of another organ or modality, which ranges of single statistics often let pass.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mailnet.trust.arrays import Array
from mailnet.trust.images import grey_of, in_parts, read_images

# Cells of the thumbnail along each axis: 64 in all.
CELLS = {2: 8, 3: 4}
QUANTILES = np.linspace(0.05, 0.95, 10)
# Borders between the bands of spatial frequency, in cycles a pixel.
BANDS = np.array([0.03, 0.06, 0.12, 0.2, 0.3, 0.5])
# Slices of a volume whose spectrum is taken, evenly spaced.
SLICES = 16


def image_profile(image: Array) -> Array:
    """Return the profile of an image.

    Args:
        image: (C, H, W) or (C, D, H, W) in [0, 1]; images that are compared have one size.

    Returns:
        float32 (81 + C,) or, with one channel, (81,): brightness of 64 cells, 10 quantiles of it, the logarithm of the
        power in 7 bands of spatial frequency, and, with several channels, how each of them departs from their mean.

    Raises:
        ValueError: Another shape, or values outside [0, 1].
    """
    return np.asarray(image_profiles(np.asarray(image)[None])[0])


def image_profiles(images: Array) -> Array:
    """Return the profiles (n, 81) or (n, 81 + C) of n images at once, see ``image_profile``.

    Args:
        images: (n, C, H, W) or (n, C, D, H, W) in [0, 1].

    Raises:
        ValueError: Another shape, or values outside [0, 1].
    """
    values = read_images(images)
    several = values.shape[1] if values.shape[1] > 1 else 0
    empty = np.zeros((0, int(np.prod([CELLS[values.ndim - 2]] * (values.ndim - 2))) + len(QUANTILES) + 7 + several))
    return np.concatenate([empty, *map(_profiles, in_parts(values))]).astype(np.float32)


def _profiles(values: Array) -> Array:
    grey = grey_of(values)
    parts = [_cells(grey), _quantiles(grey), _bands(grey)]
    if values.shape[1] > 1:
        parts.append((values - grey[:, None]).reshape(*values.shape[:2], -1).mean(2))
    return np.concatenate(parts, axis=1)


def _cells(grey: Array) -> Array:
    """Return (n, 64) means of evenly spaced cells; an axis shorter than their number is stretched first."""
    # In double precision, so that the last digit of an image's numbers does not depend on those beside it.
    found = grey.astype(np.float64)
    for axis in range(1, grey.ndim):
        found = np.moveaxis(np.moveaxis(found, axis, -1) @ _means(grey.shape[axis], CELLS[grey.ndim - 1]), -1, axis)
    return np.asarray(found.reshape(len(grey), -1))


@lru_cache(maxsize=16)
def _means(size: int, count: int) -> Array:
    """Return (size, count), by which values along an axis become the means of its cells."""
    stretched = max(size, count)
    place = np.arange(stretched) if size >= count else np.arange(count) * size // count
    cell = np.searchsorted(np.arange(count) * stretched // count, np.arange(stretched), side="right") - 1
    found = np.zeros((size, count))
    np.add.at(found, (place, cell), 1.0)
    return np.asarray(found / found.sum(0))


def _quantiles(grey: Array) -> Array:
    """Return (n, 10) quantiles, as ``np.quantile`` interpolates them; sorting is faster than its partitions."""
    ordered = np.sort(grey.reshape(len(grey), -1), axis=1)
    place = QUANTILES * (ordered.shape[1] - 1)
    low = place.astype(int)
    below, above = (ordered[:, at].astype(np.float64) for at in (low, np.minimum(low + 1, ordered.shape[1] - 1)))
    return np.asarray(below + (above - below) * (place - low))


def _bands(grey: Array) -> Array:
    """Return (n, 7) the logarithm of the power a pixel in bands of spatial frequency, the mean over slices."""
    slices = grey[:, None]
    if grey.ndim == 4:
        slices = grey[:, np.unique(np.linspace(0, grey.shape[1] - 1, SLICES).astype(int))]
    height, width = slices.shape[-2:]
    centred = slices - slices.mean((-2, -1), keepdims=True)
    # Of a real image half of the spectrum says all; the other half is its mirror image.
    half = np.fft.rfft2(centred)
    power = (np.square(half.real) + np.square(half.imag)).mean(1).reshape(len(grey), -1) / (height * width) ** 2
    # A millionth stands for nothing: a blank image has no power, and no logarithm.
    return np.asarray(np.log10(1e-6 + power.astype(np.float64) @ _weights(height, width)))


@lru_cache(maxsize=16)
def _weights(height: int, width: int) -> Array:
    """Return (numbers, bands): how often each number of half a spectrum stands in each band of the whole one."""
    across = np.arange(width // 2 + 1)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], across / width).ravel()
    times = np.tile(np.where((across == 0) | (2 * across == width), 1.0, 2.0), height)
    found = np.zeros((len(frequency), len(BANDS) + 1))
    found[np.arange(len(frequency)), np.searchsorted(BANDS, frequency, side="right")] = times
    return found
