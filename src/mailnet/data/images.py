"""From the location of an image or volume to what a network sees: one way for training, checks and prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mailnet.data.archives import item_shape, open_binary, read_header
from mailnet.data.config import ImageConfig, PixelConfig
from mailnet.data.locations import split_plane
from mailnet.data.preprocess import prepare
from mailnet.data.readers import explained, kind_of, read_scan
from mailnet.data.scan import Planes, Reading, Scan, has_planes, reading_of
from mailnet.errors import DataError

if TYPE_CHECKING:
    from mailnet.data.dicom.owner import Owner


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
        raise DataError(error.message, file=error.file or location, remedy=error.remedy) from error
    except MemoryError as error:
        remedy = "Lower the modality's 'max_pixels' or 'max_voxels', to refuse such files, or write it smaller"
        raise DataError("needs more memory than there is", file=location, remedy=remedy) from error


def load_scan(location: str, section: PixelConfig) -> Scan:
    """Return the planes of a file that a modality takes, as ``load_image`` does before it prepares them.

    Raises:
        DataError: As ``load_image``, but for what does not fit the modality.
    """
    file, plane = split_plane(location)
    if plane is not None and not isinstance(section, ImageConfig):
        remedy = "Give the file alone, or make the modality 'kind: image'"
        raise DataError("names a plane of a file, a 3-D modality takes all of them", file=location, remedy=remedy)
    kind, _, rest = (plane or "").partition("/")
    mask = _mask(rest, reading_of(section)) if kind == "largest" else None
    place = int(rest) if kind == "slice" else _largest(mask) if mask is not None else None
    scan = read_scan(file, reading_of(section, place))
    if mask is not None:
        seen = (count_planes(file, section), *scan.values.shape[1:3])
        if seen != mask.shape:
            message = f"has the shape {list(seen)} and its mask {list(mask.shape)}"
            raise DataError(message, file=location, remedy="Pair them anew")
    return scan


def count_planes(location: str, section: PixelConfig) -> int:
    """Return how many planes of a file a modality with a ``slice`` can take, from the header alone.

    Args:
        location: A path, ``set.zip!member``, ``file.npz!array`` or ``file.npz!array/INDEX``.
        section: The modality; planes are counted in its direction.

    Returns:
        1 for a picture.

    Raises:
        DataError: The file is missing, broken or of an unknown kind, as far as the header tells.
    """
    reading = reading_of(section)
    with explained(location):
        kind = kind_of(location)
        if kind in ("folder", "dicomdir", "dicom"):
            from mailnet.data import dicom

            return dicom.count_planes(location, reading)
        if kind == "nifti":
            from mailnet.data import nifti

            return nifti.count_planes(location, reading)
        if kind in ("npy", "npz"):
            if kind == "npz":
                shape = item_shape(location)
            else:
                with open_binary(location) as (stream, size):
                    shape = read_header(stream, size)[0]
            if not has_planes(len(shape), reading):
                return 1
            reading.check_size(*shape[:3])
            return shape[0]
        if kind == "registered":
            return len(read_scan(location, replace(reading, planes=Planes("all"))).values)
        return 1


def owner_of_image(location: str, section: PixelConfig) -> Owner | None:
    """Return whose image a location holds; None where nothing says it, as of a picture.

    Args:
        location: As of ``load_image``.
        section: The modality.

    Raises:
        DataError: The file is missing, broken or of an unknown kind, as far as the header tells.
    """
    file = split_plane(location)[0]
    with explained(file):
        if kind_of(file) not in ("folder", "dicomdir", "dicom"):
            return None
        from mailnet.data import dicom

        return dicom.read_owner(file, reading_of(section))


def _mask(location: str, reading: Reading) -> np.ndarray:
    """Return (D, H, W) where a mask is not 0."""
    whole = replace(reading, planes=Planes("all"), select={}, frame=None, file_window=False)
    marked: np.ndarray = (read_scan(location, whole).values != 0).any(axis=3)
    if not marked.any():
        raise DataError("marks nothing", file=location, remedy="Choose another 'slice', or leave the study out")
    return marked


def _largest(mask: np.ndarray) -> int:
    """Return the number of the plane in which a mask has the largest area; the first of several."""
    return int(mask.sum(axis=(1, 2)).argmax())
