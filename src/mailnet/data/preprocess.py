"""From a decoded file to the image that a network sees; numpy and pillow only, the same for training and prediction."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mailnet.data.config import ImageConfig, PixelConfig
from mailnet.data.scan import Scan
from mailnet.errors import DataError

# ITU-R BT.601, as pillow converts colour to grey.
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
WHOLE_RANGE = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "int16": (-32768.0, 32767.0)}


def prepare(scan: Scan, section: PixelConfig) -> np.ndarray:
    """Return what a modality declares of a decoded file.

    Args:
        scan: The file.
        section: The modality.

    Returns:
        (C, H, W) or (C, D, H, W) uint8 or uint16; neighbouring planes of an image are channels one after the other.

    Raises:
        DataError: The planes, the channels, the units or the values do not fit; says what was seen.
    """
    if not isinstance(section, ImageConfig):
        raise DataError("is a volume", remedy="Make the modality 'kind: image'")
    return prepare_image(scan.picture(), section)


def prepare_array(array: np.ndarray, section: PixelConfig) -> np.ndarray:
    """Return what a modality declares of an array in memory: (H, W), (H, W, C), or for volumes (D, H, W[, C])."""
    if isinstance(section, ImageConfig):
        return prepare_image(array, section)
    return prepare(Scan(array if array.ndim == 4 else array[..., None]), section)


def prepare_image(array: np.ndarray, config: ImageConfig) -> np.ndarray:
    """Return an image with the channels, range and size that a modality declares.

    Args:
        array: (H, W) or (H, W, C) of any number type, in the file's own values.
        config: The modality.

    Returns:
        (C, H, W) uint8 where the file has 8 bits and its whole range is used, else uint16; 0 is the lowest value of the
        range, 255 or 65535 the highest.

    Raises:
        DataError: The number of channels, the range or the values do not fit; says what was seen.
    """
    image = _checked(array)
    low, high = _range(image, config)
    image = _channels(image, config)
    eight_bit = image.dtype == np.uint8 and (low, high) == (0.0, 255.0)
    if not eight_bit:
        image = ((image.astype(np.float64) - low) / (high - low)).astype(np.float32)
    resized = _resize(image, config)
    if not eight_bit:
        resized = np.rint(resized.clip(0, 1) * 65535).astype(np.uint16)
    return np.ascontiguousarray(resized.transpose(2, 0, 1))


def to_unit(array: np.ndarray) -> np.ndarray:
    """Return uint8 or uint16 images as float32 in [0, 1].

    >>> float(to_unit(np.array([255], dtype=np.uint8))[0])
    1.0
    """
    unit: np.ndarray = np.divide(array, np.float32(np.iinfo(array.dtype).max), dtype=np.float32)
    return unit


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "uif":
        raise DataError(f"holds values of the type {array.dtype}", remedy="Write numbers")
    image = array[..., None] if array.ndim == 2 else array
    if image.ndim != 3 or image.shape[2] > 4 or 0 in image.shape:
        raise DataError(f"has the shape {list(array.shape)}", remedy="A 2-D modality takes (H, W) or (H, W, channels)")
    return image


def _range(image: np.ndarray, config: ImageConfig) -> tuple[float, float]:
    whole = WHOLE_RANGE.get(image.dtype.name)
    if whole is not None and config.range in (None, whole):
        return whole
    low, high = float(image.min()), float(image.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError("holds NaN or infinite values", remedy="Replace them by numbers")
    if config.range is None:
        raise DataError(
            f"holds {image.dtype} values ({low:g} to {high:g}), which have no range of their own",
            remedy="Declare the modality's 'range': [lowest, highest]",
        )
    if low < config.range[0] or high > config.range[1]:
        raise DataError(
            f"has values from {low:g} to {high:g}, outside the declared range {list(config.range)}",
            remedy="Correct the modality's 'range' or the file",
        )
    return config.range


def _channels(image: np.ndarray, config: ImageConfig) -> np.ndarray:
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
        image = (image[..., :-1] * (image[..., -1:] / top)).astype(image.dtype)
    if image.shape[2] == config.channels:
        return image
    if config.channels == 3:
        return np.repeat(image, 3, axis=2)
    grey = image.astype(np.float32) @ LUMINANCE
    return (np.rint(grey) if image.dtype.kind in "ui" else grey).astype(image.dtype)[..., None]


def _resize(image: np.ndarray, config: ImageConfig) -> np.ndarray:
    height, width, channels = image.shape
    tall, wide = config.size
    if (height, width) == (tall, wide):
        return image
    if config.resize == "stretch":
        return _scale(image, (tall, wide), None)
    if config.resize == "crop":
        scale = max(tall / height, wide / width)
        h, w = tall / scale, wide / scale
        top, left = (height - h) / 2, (width - w) / 2
        return _scale(image, (tall, wide), (left, top, left + w, top + h))
    scale = min(tall / height, wide / width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    padded = np.zeros((tall, wide, channels), image.dtype)
    top, left = (tall - h) // 2, (wide - w) // 2
    padded[top : top + h, left : left + w] = _scale(image, (h, w), None)
    return padded


def _scale(image: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None) -> np.ndarray:
    # A triangle filter as wide as the step of the reduction: no aliasing, and no value beyond those of the image.
    def scale(plane: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(plane)
        return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))

    if image.shape[:2] == size and box is None:
        return image
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return scale(image)
    return np.stack([scale(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])], axis=2)
