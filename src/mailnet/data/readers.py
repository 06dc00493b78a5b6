"""Decodes image files to arrays: a registry by suffix; PNG, JPEG, TIFF, BMP, NPY and items of npz are built in."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mailnet.data.archives import read_bytes, read_npz
from mailnet.data.locations import split_location
from mailnet.errors import DataError

Reader: TypeAlias = Callable[[bytes], np.ndarray]

MAX_PIXELS = 2**26
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_RESTORE = "Restore the file, or leave the study out with --skip-bad"
_READERS: dict[str, Reader] = {}


def register_reader(*suffixes: str) -> Callable[[Reader], Reader]:
    """Register ``f(content) -> array`` for files whose names end in one of ``suffixes`` (``".dcm"``).

    The array is (H, W) or (H, W, C) of any number type, in the file's own values. Any exception of ``f`` is reported
    as an unreadable file with its text; a ``DataError`` keeps its own message and remedy.

    Raises:
        ValueError: A suffix is taken.
    """

    def register(reader: Reader) -> Reader:
        for suffix in suffixes:
            if _READERS.get(suffix, reader) is not reader:
                raise ValueError(f"a reader for '{suffix}' is registered already")
            _READERS[suffix] = reader
        return reader

    return register


def known_suffixes() -> list[str]:
    """Return the suffixes that ``read_image`` can read.

    >>> ".png" in known_suffixes()
    True
    """
    return sorted({*_READERS, ".npz"})


def read_image(location: str) -> np.ndarray:
    """Return the pixels of an image.

    Args:
        location: A path, ``set.zip!member``, ``file.npz!array`` or ``file.npz!array/INDEX``.

    Returns:
        (H, W) or (H, W, C) in the file's own number type and values; upright by EXIF; C counts alpha only where a pixel
        is transparent.

    Raises:
        DataError: The file is missing, broken, too large or of an unknown kind; names the file and a remedy.
    """
    if split_location(location)[0].lower().endswith(".npz"):
        return read_npz(location)
    name = location.lower()
    suffix = next((s for s in sorted(_READERS, key=len, reverse=True) if name.endswith(s)), None)
    if suffix is None:
        raise DataError(
            "no reader knows this kind of file", file=location, remedy=f"Known are {', '.join(known_suffixes())}"
        )
    content = read_bytes(location)
    try:
        return _READERS[suffix](content)
    except DataError as error:
        raise DataError(error.message, file=location, remedy=error.remedy) from error
    except UnidentifiedImageError as error:
        raise DataError("cannot be decoded (no image of a known kind)", file=location, remedy=_RESTORE) from error
    # Decoders meet broken files with exceptions of every kind.
    except Exception as error:
        raise DataError(
            f"cannot be decoded ({error or type(error).__name__})", file=location, remedy=_RESTORE
        ) from error


@register_reader(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
def read_picture(content: bytes) -> np.ndarray:
    """Decode PNG, JPEG, TIFF or BMP, whatever of these the suffix says."""
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"has too many pixels ({error})", remedy="Write it smaller") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"has too many pixels: {width} x {height}, at most {MAX_PIXELS:,} are read", remedy="Write it smaller"
        )
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format in ("TIFF", "PNG"):
        raise DataError(f"holds {pages} images", remedy="Write each to its own file; a 2-D modality takes one")
    deep = _has_deep_colour(image, content)
    if image.mode == "P":
        image = _without_palette(image)
    if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "I", "F") and not image.mode.startswith("I;16"):
        if image.mode not in ("YCbCr", "RGBX", "PA"):
            raise DataError(
                f"has the colour mode {image.mode}", remedy="Convert it to grey or RGB; mailnet does not guess"
            )
        image = image.convert("RGBA" if image.mode == "PA" else "RGB")
    array = _upright(image)
    if array.ndim == 3 and array.shape[2] in (2, 4) and (array[..., -1] == 255).all():
        array = array[..., 0] if array.shape[2] == 2 else array[..., :3]
    # Pillow keeps the high byte of 16-bit colour; its values stay in the range of the file's own type.
    return array.astype(np.uint16) * 257 if deep else array


@register_reader(".npy")
def read_npy(content: bytes) -> np.ndarray:
    """Decode an array of numbers; one of Python objects is refused."""
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


def _upright(image: Image.Image) -> np.ndarray:
    kind = image.format
    image = ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
    array = np.asarray(image)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    # Older versions of pillow open 16-bit grey PNG files as 32-bit integers.
    if image.mode == "I" and kind == "PNG":
        return array.astype(np.uint16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _without_palette(image: Image.Image) -> Image.Image:
    if "transparency" in image.info:
        return image.convert("RGBA")
    rgb = image.convert("RGB")
    colours = np.asarray(image.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
    return image.convert("L") if (colours == colours[:, :1]).all() else rgb


def _has_deep_colour(image: Image.Image, content: bytes) -> bool:
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    if image.format == "PNG":
        return content[24] == 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        return bool(max(bits) == 16)
    return False
