"""From a decoded file to what a network sees; numpy and pillow only, the same for training and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from mailnet.data.config import ImageConfig, PixelConfig, VolumeConfig
from mailnet.data.intensity import interval
from mailnet.data.resample import Axis, fitted, resample, spaced
from mailnet.data.scan import Scan, reading_of, scan_of_array
from mailnet.errors import DataError

# ITU-R BT.601, as pillow converts colour to grey.
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
BYTE = (0.0, 255.0)
ROOM = 2**20  # numbers that are converted at once


def prepare(scan: Scan, section: PixelConfig) -> np.ndarray:
    """Return what a modality declares of a decoded file.

    Args:
        scan: The file.
        section: The modality.

    Returns:
        (C, H, W) or (C, D, H, W): uint8 where the file has 8 bits and its whole range is used, else uint16; 0 is the
        darkest value of the range or window, 255 or 65535 the brightest. Neighbouring planes of an image are channels
        one after the other.

    Raises:
        DataError: The planes, the channels, the units or the values do not fit; says what was seen.
    """
    values = checked(scan.values, section)
    low, high = interval(values, scan, section)
    if values.dtype == np.uint8 and (high, low) == BYTE:
        values, low, high = np.uint8(255) - values, *BYTE
    if isinstance(section, VolumeConfig):
        return _volume(values, scan, section, low, high)
    assert isinstance(section, ImageConfig)
    if section.neighbours == 0:
        scan.picture()
    elif len(values) != 2 * section.neighbours + 1:
        raise DataError(f"has {len(values)} planes", remedy=f"'neighbours' makes them {2 * section.neighbours + 1}")
    aspect = _aspect(scan.spacing)
    planes = [_plane(plane, section, low, high, aspect) for plane in values]
    return np.ascontiguousarray(np.concatenate(planes, axis=2).transpose(2, 0, 1))


def prepare_array(array: np.ndarray, section: PixelConfig) -> np.ndarray:
    """Return what a modality declares of an array in memory.

    Args:
        array: (H, W) or (H, W, C); for volumes, and images with a ``slice``, (D, H, W) or (D, H, W, C), in the file's
            own values. Its voxels count as cubes, since it says nothing of their spacing.
        section: The modality.
    """
    return prepare(scan_of_array(array, reading_of(section)), section)


def to_unit(array: np.ndarray) -> np.ndarray:
    """Return uint8 or uint16 images as float32 in [0, 1].

    >>> float(to_unit(np.array([255], dtype=np.uint8))[0])
    1.0
    """
    unit: np.ndarray = np.divide(array, np.float32(np.iinfo(array.dtype).max), dtype=np.float32)
    return unit


def sampling(shape: tuple[int, ...], spacing: tuple[float, float, float] | None, section: PixelConfig) -> list[Axis]:
    """Return where on the axes of a file the pixels lie that a network sees of it.

    Args:
        shape: (D, H, W) of a volume, (H, W) of a plane.
        spacing: Of the file, see ``Scan``.
        section: The modality.

    Raises:
        DataError: The modality wants a spacing, which the file does not say.
    """
    if not isinstance(section, VolumeConfig):
        return fitted(shape, section.size, (_aspect(spacing), 1.0), section.resize)
    known = spacing if spacing is not None and all(0 < s < math.inf for s in spacing) else None
    if section.spacing is None:
        return fitted(shape, section.size, known or (1.0, 1.0, 1.0), section.resize)
    if known is None:
        raise DataError(
            "does not say how far its planes, rows and columns lie apart",
            remedy="Leave out the modality's 'spacing', or write files that say it",
        )
    return spaced(shape, section.size, known, section.spacing)


def _aspect(spacing: tuple[float, float, float] | None) -> float:
    """Return the height of a pixel by its width, 1 where a file does not say."""
    aspect = 1.0 if spacing is None else spacing[1] / spacing[2]
    return aspect if math.isfinite(aspect) and aspect > 0 else 1.0


def checked(values: np.ndarray, section: PixelConfig) -> np.ndarray:
    """Return the values (D, H, W, C) of a file, marks as 0 and 255.

    Raises:
        DataError: They are no numbers, or their channels are more likely planes.
    """
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "uif":
        raise DataError(f"holds values of the type {values.dtype}", remedy="Write numbers")
    # Many channels are more often planes in the wrong place than channels.
    if values.shape[3] > 4 and values.shape[3] != section.channels:
        shape = list(values.shape if len(values) > 1 else values.shape[1:])
        raise DataError(
            f"has the shape {shape}, that is {values.shape[3]} channels, the modality {section.channels}",
            remedy="Set 'channels' to what the files have, or 'frame' to take one point in time",
        )
    return values


def _volume(values: np.ndarray, scan: Scan, section: VolumeConfig, low: float, high: float) -> np.ndarray:
    depth, height, width, _ = values.shape
    if depth == 1:
        raise DataError("has one plane, a 3-D modality takes several", remedy="Make the modality 'kind: image'")
    axes = sampling((depth, height, width), scan.spacing, section)
    unit = resample(lambda k: _unit(as_channels(values[k], section), low, high), section.channels, axes)
    whole = np.uint8 if values.dtype == np.uint8 and (low, high) == BYTE else np.uint16
    return np.ascontiguousarray(_deep(unit, whole).transpose(3, 0, 1, 2))


def _plane(plane: np.ndarray, section: ImageConfig, low: float, high: float, aspect: float) -> np.ndarray:
    """Return (H, W, C) of one plane; ``aspect`` is the height of a pixel by its width."""
    if plane.dtype == np.uint8 and (low, high) == BYTE:
        image = (
            plane if plane.shape[2] == section.channels else _by_rows(plane, lambda part: as_channels(part, section))
        )
        return _resize(image, section, aspect)

    def channel(number: int) -> np.ndarray:
        def unit(part: np.ndarray) -> np.ndarray:
            return _unit(as_channels(part, section)[..., number : number + 1], low, high)

        return _resize(_by_rows(plane, unit), section, aspect)

    # One channel after the other: as floating-point numbers a large file takes four times its size.
    return _deep(np.concatenate([channel(number) for number in range(section.channels)], axis=2), np.uint16)


def _by_rows(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Change an image some rows at a time, since what arises in between is several times larger."""
    rows = max(1, ROOM // (image.shape[1] * image.shape[2]))
    first = change(image[:rows])
    changed = np.empty((len(image), *first.shape[1:]), first.dtype)
    changed[:rows] = first
    for start in range(rows, len(image), rows):
        changed[start : start + rows] = change(image[start : start + rows])
    return changed


def _unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map ``low`` to 0 and ``high`` to 1, what lies outside of a window to its ends."""
    if high == low:  # two percentiles of a file that is nearly all of one value
        return (values > high).astype(np.float32)
    unit: np.ndarray = ((values.astype(np.float64) - low) / (high - low)).clip(0, 1).astype(np.float32)
    return unit


def _deep(unit: np.ndarray, kind: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    unit *= np.iinfo(kind).max
    np.rint(unit, out=unit)
    return unit.clip(0, np.iinfo(kind).max, out=unit).astype(kind)


def as_channels(image: np.ndarray, config: PixelConfig) -> np.ndarray:
    """Return an image (H, W, C) with as many channels as a modality has.

    Raises:
        DataError: It has others, and the modality does not convert.
    """
    seen = image.shape[2]
    if seen == config.channels:
        return image
    if not config.convert:
        raise DataError(
            f"has {seen} channel{'s' if seen > 1 else ''}, the modality {config.channels}",
            remedy=f"Set 'channels' to what the files have, or 'convert: true' to turn them into {config.channels}",
        )
    if seen in (2, 4):
        top = np.float32(np.iinfo(image.dtype).max if image.dtype.kind in "ui" else 1)
        image = (image[..., :-1] * (image[..., -1:] / top).clip(0, 1)).astype(image.dtype)
    if image.shape[2] == config.channels:
        return image
    if config.channels == 3:
        return np.repeat(image, 3, axis=2)
    grey = image.astype(np.float32) @ LUMINANCE
    return (np.rint(grey) if image.dtype.kind in "ui" else grey).astype(image.dtype)[..., None]


def _resize(image: np.ndarray, config: ImageConfig, aspect: float) -> np.ndarray:
    height, width, channels = image.shape
    tall, wide = config.size
    if config.resize == "stretch":
        return _scale(image, (tall, wide), None)
    # The height in pixels that are as high as wide.
    even = height * aspect
    if config.resize == "crop":
        scale = max(tall / even, wide / width)
        h, w = tall / scale / aspect, wide / scale
        top, left = (height - h) / 2, (width - w) / 2
        whole = (h, w) == (height, width)
        return _scale(image, (tall, wide), None if whole else (left, top, left + w, top + h))
    scale = min(tall / even, wide / width)
    rows, columns = max(1, round(even * scale)), max(1, round(width * scale))
    if (rows, columns) == (tall, wide):
        return _scale(image, (tall, wide), None)
    padded = np.zeros((tall, wide, channels), image.dtype)
    top, left = (tall - rows) // 2, (wide - columns) // 2
    padded[top : top + rows, left : left + columns] = _scale(image, (rows, columns), None)
    return padded


def _scale(image: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None) -> np.ndarray:
    # A triangle filter as wide as the step of the reduction: no aliasing, and no value beyond those of the image.
    def scale(plane: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(plane)
        return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))

    if image.shape[:2] == size and box is None:
        return image
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return scale(np.ascontiguousarray(image))
    return np.stack([scale(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])], axis=2)
