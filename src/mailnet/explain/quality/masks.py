"""Masks of lesions on the grid of the image that the network saw."""

from __future__ import annotations

from typing import Any

import numpy as np

from mailnet.data.config import ImageConfig, PixelConfig
from mailnet.data.images import load_scan
from mailnet.data.locations import split_plane
from mailnet.data.phantom.classes import APPEARANCE, FINDINGS, MODALITIES, NOTHING
from mailnet.data.preprocess import prepare
from mailnet.data.scan import Scan
from mailnet.errors import DataError
from mailnet.explain.quality.truth import Array

HALF = 128  # of 255: at least half of a pixel is in the mask


def load_mask(location: str, section: PixelConfig, image: str | None = None) -> Array:
    """Return a mask by the very geometry by which its image was prepared.

    Args:
        location: Of the mask, as that of an image; what is not zero in any channel is marked.
        section: The modality of the image.
        image: Location of the image: the plane that it names, if any, is taken of the mask too, and the mask must have
            its size. None trusts that it has.

    Returns:
        (H, W) or (D, H, W) bool; True where at least half of a pixel is marked.

    Raises:
        DataError: A file cannot be read, or the mask has another size than the image.
    """
    own: dict[str, Any] = {"channels": 1, "select": {}}
    own |= dict.fromkeys(("range", "window", "percentiles", "units", "frame"))
    single = {"neighbours": 0} if isinstance(section, ImageConfig) else {}
    plain = section.model_copy(update=own | single)
    plane = None if image is None else split_plane(image)[1]
    scan = load_scan(location if plane is None else f"{split_plane(location)[0]}!{plane}", plain)
    marked = (scan.values != 0).any(axis=3, keepdims=True)
    spacing = scan.spacing
    if image is not None:
        pictured = load_scan(image, section.model_copy(update=single))
        if pictured.values.shape[:3] != marked.shape[:3]:
            message = f"has the size {list(marked.shape[:3])} and its image {list(pictured.values.shape[:3])}"
            raise DataError(message, file=location, remedy="Give the mask of this image")
        # A mask often does not say how far its pixels lie apart; they are those of the image.
        spacing = pictured.spacing
    prepared: Array = prepare(Scan(marked.astype(np.uint8) * np.uint8(255), spacing), plain)[0] >= HALF
    return prepared


def phantom_masks(masks: Array, findings: Array) -> dict[str, Array]:
    """Return where each modality of the head phantom shows the lesion.

    Args:
        masks: (N, H, W) bool, the place of the lesion.
        findings: (N,) index of the finding in ``mailnet.data.phantom.CLASSES["finding"]``.

    Returns:
        Modality -> (N, H, W) bool, empty where the finding leaves no trace in that modality.
    """
    found = {}
    for name in MODALITIES:
        shows = np.array([APPEARANCE[finding][name] != NOTHING for finding in FINDINGS])
        found[name] = masks & shows[np.asarray(findings)].reshape(-1, *(1,) * (masks.ndim - 1))
    return found
