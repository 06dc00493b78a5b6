"""From the location of an image or volume to what a network sees: one way for training, checks and prediction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mailnet.data.config import PixelConfig
from mailnet.data.locations import split_plane
from mailnet.data.preprocess import prepare
from mailnet.data.readers import read_scan
from mailnet.data.scan import Reading, Scan, reading_of
from mailnet.errors import DataError


def load_image(location: str, section: PixelConfig) -> np.ndarray:
    """Return an image or volume as a modality declares it.

    Args:
        location: A path, ``set.zip!member``, ``file.npz!array/INDEX``, or one of these with ``!slice/NUMBER`` or
            ``!largest/MASK`` behind it, see ``split_plane``.
        section: The modality.

    Returns:
        (C, H, W) or (C, D, H, W) uint8 or uint16, see ``prepare``.

    Raises:
        DataError: The file is missing, broken, too large or of an unknown kind, or does not fit the modality; names
            the file and a remedy.
    """
    scan = load_scan(location, section)
    try:
        return prepare(scan, section)
    except DataError as error:
        raise DataError(error.message, file=location, remedy=error.remedy) from error


def load_scan(location: str, section: PixelConfig) -> Scan:
    """Return the planes of a file that a modality takes, as ``load_image`` does before it prepares them.

    Raises:
        DataError: The file is missing, broken, too large or of an unknown kind; names the file and a remedy.
    """
    file, plane = split_plane(location)
    place = None
    if plane is not None:
        kind, _, rest = plane.partition("/")
        place = int(rest) if kind == "slice" else _largest(rest, reading_of(section))
    return read_scan(file, reading_of(section, place))


def _largest(mask: str, reading: Reading) -> int:
    """Return the number of the plane in which the mask has the largest area; the first of several."""
    whole = read_scan(mask, replace(reading, planes=None, select={}, frame=None, file_window=False))
    areas = (whole.values != 0).any(axis=3).sum(axis=(1, 2))
    if not areas.any():
        raise DataError("marks nothing", file=mask, remedy="Choose another 'slice', or leave the study out")
    return int(areas.argmax())
