"""Images as the plain checks and profiles take them: read, checked, and a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mailnet.trust.arrays import Array

# Numbers that are looked at together: enough to pay for the call, few enough to stay in the processor's cache.
TOGETHER = 2**18


def read_images(images: Array) -> Array:
    """Return images (n, C, H, W), or volumes (n, C, D, H, W), as float32.

    Raises:
        ValueError: They are none, or not in [0, 1].
    """
    values = np.asarray(images)
    if values.ndim not in (4, 5) or 0 in values.shape[1:]:
        raise ValueError(f"an image must be (C, H, W) or (C, D, H, W), got {values.shape[1:]}")
    values = values.astype(np.float32, copy=False)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"an image must lie in [0, 1], got {values.min():g} to {values.max():g}")
    return values


def in_parts(images: Array) -> Iterator[Array]:
    """Yield images (n, ...) a few at a time, at least one.

    >>> [len(part) for part in in_parts(np.zeros((5, 1, 256, 512), np.float32))]
    [2, 2, 1]
    """
    step = max(1, TOGETHER // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        yield images[start : start + step]


def grey_of(images: Array) -> Array:
    """Return (n, ...) the mean over channels of (n, C, ...)."""
    return np.asarray(images[:, 0] if images.shape[1] == 1 else images.mean(1))
