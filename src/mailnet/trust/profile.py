"""An image as a few dozen numbers that need no network: where it is bright, how bright, how fine its structures are.

With ``foreign.fit_mahalanobis`` on the profiles of training images and ``alarm.fit_alarm`` on those of validation they
tell an image of another kind, as of another organ or modality, which ranges of single statistics often let pass.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mailnet.trust.arrays import Array
from mailnet.trust.checks import read_image

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
    values = read_image(image)
    grey = values.mean(0)
    parts = [_cells(grey).ravel(), np.quantile(grey, QUANTILES), _bands(grey)]
    if len(values) > 1:
        parts.append(np.array([float((channel - grey).mean()) for channel in values]))
    return np.concatenate(parts).astype(np.float32)


def _cells(grey: Array) -> Array:
    """Return the means of evenly spaced cells; an axis shorter than their number is stretched first."""
    count = CELLS[grey.ndim]
    for axis in range(grey.ndim):
        if grey.shape[axis] < count:
            grey = np.take(grey, np.arange(count) * grey.shape[axis] // count, axis=axis)
        starts = np.arange(count) * grey.shape[axis] // count
        sizes = np.diff(np.r_[starts, grey.shape[axis]])
        shape = [-1 if other == axis else 1 for other in range(grey.ndim)]
        grey = np.add.reduceat(grey, starts, axis=axis) / sizes.reshape(shape)
    return grey


def _bands(grey: Array) -> Array:
    """Return the logarithm of the power a pixel in bands of spatial frequency, the mean over slices."""
    slices = grey[None] if grey.ndim == 2 else grey[np.unique(np.linspace(0, len(grey) - 1, SLICES).astype(int))]
    height, width = slices.shape[-2:]
    centred = slices - slices.mean((-2, -1), keepdims=True)
    # Of a real image half of the spectrum says all; the other half is its mirror image.
    half = np.fft.rfft2(centred)
    power = (np.square(half.real) + np.square(half.imag)).mean(0) / (height * width) ** 2
    place, times = _places(height, width)
    # A millionth stands for nothing: a blank image has no power, and no logarithm.
    return np.asarray(np.log10(1e-6 + np.bincount(place, power.ravel() * times, minlength=len(BANDS) + 1)))


@lru_cache(maxsize=16)
def _places(height: int, width: int) -> tuple[Array, Array]:
    """Return of each number of half a spectrum its band, and how often it stands in the whole one."""
    across = np.arange(width // 2 + 1)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], across / width)
    times = np.where((across == 0) | (2 * across == width), 1.0, 2.0)
    return np.searchsorted(BANDS, frequency.ravel(), side="right"), np.tile(times, height)
