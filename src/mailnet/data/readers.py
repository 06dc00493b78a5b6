"""Decodes files to arrays, by suffix: pictures, arrays, DICOM, NIfTI, and what is registered."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mailnet.data.archives import read_bytes, read_npz
from mailnet.data.locations import split_location
from mailnet.data.scan import Reading, Scan
from mailnet.errors import DataError

Reader: TypeAlias = Callable[[bytes], np.ndarray]

MAX_PIXELS = Reading.max_pixels
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
DICOM = (".dcm", ".dicom", ".ima")
NIFTI = (".nii", ".nii.gz")
_RESTORE = "Restore the file, or leave the study out with --skip-bad"
_READERS: dict[str, Reader] = {}


def register_reader(*suffixes: str) -> Callable[[Reader], Reader]:
    """Register ``f(content) -> array`` for files whose names end in one of ``suffixes`` (``".mha"``).

    The array is (H, W) or (H, W, C) of any number type, in the file's own values. Any exception of ``f`` is reported
    as an unreadable file with its text; a ``DataError`` keeps its own message and remedy.

    Raises:
        ValueError: A suffix is taken.
    """

    def register(reader: Reader) -> Reader:
        for suffix in suffixes:
            if suffix in DICOM + NIFTI or _READERS.get(suffix, reader) is not reader:
                raise ValueError(f"a reader for '{suffix}' is registered already")
            _READERS[suffix] = reader
        return reader

    return register


def known_suffixes() -> list[str]:
    """Return the suffixes that ``read_image`` can read.

    >>> ".png" in known_suffixes()
    True
    """
    return sorted({*_READERS, *DICOM, *NIFTI, ".npz"})


def read_image(location: str, reading: Reading | None = None) -> np.ndarray:
    """Return the pixels of a file with one plane; see ``read_scan``.

    Returns:
        (H, W) or (H, W, C) in the file's own number type and values.
    """
    scan = read_scan(location, reading)
    try:
        return scan.picture()
    except DataError as error:
        raise DataError(error.message, file=location, remedy=error.remedy) from error


def read_scan(location: str, reading: Reading | None = None) -> Scan:
    """Return what a file holds.

    Args:
        location: A path, also of a folder with one DICOM series or of a DICOMDIR, ``set.zip!member``,
            ``file.npz!array`` or ``file.npz!array/INDEX``.
        reading: What is wanted of the file.

    Returns:
        The values, in the file's own number type; of a picture upright by EXIF, alpha counted as a channel only where
        a pixel is transparent.

    Raises:
        DataError: The file is missing, broken, too large or of an unknown kind; names the file and a remedy.
    """
    try:
        return _read(location, reading or Reading())
    except DataError as error:
        raise DataError(error.message, file=error.file or location, remedy=error.remedy) from error
    except UnidentifiedImageError as error:
        raise DataError("cannot be decoded (no image of a known kind)", file=location, remedy=_RESTORE) from error
    # Decoders meet broken files with exceptions of every kind.
    except Exception as error:
        raise DataError(
            f"cannot be decoded ({error or type(error).__name__})", file=location, remedy=_RESTORE
        ) from error


def _read(location: str, reading: Reading) -> Scan:
    if os.path.isdir(location):
        from mailnet.data.dicom import read_folder

        return read_folder(location, reading)
    path, member = split_location(location)
    name = (member or path).lower()
    if path.lower().endswith(".npz"):
        return _one_plane(read_npz(location))
    suffix = next((s for s in sorted(_READERS, key=len, reverse=True) if name.endswith(s)), None)
    if suffix is not None:
        return _one_plane(_READERS[suffix](read_bytes(location)))
    if name.endswith(NIFTI):
        from mailnet.data.nifti import read_nifti

        return read_nifti(read_bytes(location), reading)
    if os.path.basename(name) == "dicomdir" and member is None:
        from mailnet.data.dicom import read_dicomdir

        return read_dicomdir(location, reading)
    content = read_bytes(location)
    # DICOM files often have no suffix, or one that is a number.
    if name.endswith(DICOM) or content[128:132] == b"DICM":
        from mailnet.data.dicom import read_dicom

        return read_dicom(content, reading)
    raise DataError("no reader knows this kind of file", remedy=f"Known are {', '.join(known_suffixes())}")


def _one_plane(array: np.ndarray) -> Scan:
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(f"has the shape {list(array.shape)}", remedy="A picture is (H, W) or (H, W, channels)")
    return Scan(array[None, ..., None] if array.ndim == 2 else array[None])


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
            f"has too many pixels: {width} x {height}, at most {MAX_PIXELS:,} are read",
            remedy="Write it smaller",
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
