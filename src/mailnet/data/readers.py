"""Decodes files to arrays, by suffix: pictures, arrays, DICOM, NIfTI, and what is registered."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mailnet.data.archives import open_binary, read_array, read_bytes, read_npz
from mailnet.data.locations import split_location
from mailnet.data.scan import Reading, Scan, scan_of_array
from mailnet.errors import DataError

Reader: TypeAlias = Callable[[bytes], np.ndarray]
Kind: TypeAlias = Literal["folder", "dicomdir", "dicom", "nifti", "picture", "npy", "npz", "registered"]

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
DICOM = (".dcm", ".dicom", ".ima")
NIFTI = (".nii", ".nii.gz")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
ARRAYS = (".npy", ".npz")
_RESTORE = "Restore the file, or leave the study out with --skip-bad"
_READERS: dict[str, Reader] = {}


def register_reader(*suffixes: str) -> Callable[[Reader], Reader]:
    """Register ``f(content) -> array`` for files whose names end in one of ``suffixes`` (``".mha"``).

    The array is (H, W) or (H, W, C), with planes (D, H, W, C), of any number type, in the file's own values. An
    exception of ``f`` is reported as an unreadable file with its text; a ``DataError`` keeps its message and remedy.

    Raises:
        ValueError: A suffix is taken.
    """

    def register(reader: Reader) -> Reader:
        for suffix in suffixes:
            if suffix in DICOM + NIFTI + PICTURES + ARRAYS or _READERS.get(suffix, reader) is not reader:
                raise ValueError(f"a reader for '{suffix}' is registered already")
            _READERS[suffix] = reader
        return reader

    return register


def known_suffixes() -> list[str]:
    """Return the suffixes that ``read_image`` can read.

    >>> ".png" in known_suffixes()
    True
    """
    return sorted({*_READERS, *DICOM, *NIFTI, *PICTURES, *ARRAYS})


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
    with explained(location):
        return _read(location, reading or Reading())


@contextmanager
def explained(location: str) -> Iterator[None]:
    """Make every exception a ``DataError`` that names the file and a remedy."""
    try:
        yield
    except DataError as error:
        raise DataError(error.message, file=error.file or location, remedy=error.remedy) from error
    except UnidentifiedImageError as error:
        raise DataError("cannot be decoded (no image of a known kind)", file=location, remedy=_RESTORE) from error
    # Decoders meet broken files with exceptions of every kind.
    except Exception as error:
        raise DataError(
            f"cannot be decoded ({error or type(error).__name__})", file=location, remedy=_RESTORE
        ) from error


def kind_of(location: str) -> Kind:
    """Return what kind of file a name, or where it says nothing the beginning of the content, tells of.

    Raises:
        DataError: It is of no known kind, or cannot be opened.
    """
    if os.path.isdir(location):
        return "folder"
    path, member = split_location(location)
    name = (member or path).lower()
    if path.lower().endswith(".npz"):
        return "npz"
    if name.endswith(tuple(_READERS)):
        return "registered"
    kinds: dict[Kind, tuple[str, ...]] = {"picture": PICTURES, "npy": (".npy",), "nifti": NIFTI, "dicom": DICOM}
    for kind, suffixes in kinds.items():
        if name.endswith(suffixes):
            return kind
    if os.path.basename(name) == "dicomdir" and member is None:
        return "dicomdir"
    # DICOM files often have no suffix, or one that is a number.
    with open_binary(location) as (stream, _):
        if stream.read(132)[128:] == b"DICM":
            return "dicom"
    raise DataError("no reader knows this kind of file", remedy=f"Known are {', '.join(known_suffixes())}")


def _read(location: str, reading: Reading) -> Scan:
    kind = kind_of(location)
    if kind in ("folder", "dicomdir", "dicom"):
        from mailnet.data import dicom

        if kind == "folder":
            return dicom.read_folder(location, reading)
        if kind == "dicomdir":
            return dicom.read_dicomdir(location, reading)
        return dicom.read_dicom(read_bytes(location, reading.max_bytes), reading)
    if kind == "nifti":
        from mailnet.data.nifti import read_nifti

        return read_nifti(location, reading)
    if kind == "picture":
        return _of_picture(read_picture(read_bytes(location, reading.max_pixels * 8 + 2**20), reading), reading)
    if kind == "npz":
        return scan_of_array(read_npz(location, reading.max_bytes), reading)
    if kind == "npy":
        with open_binary(location, reading.max_bytes) as (stream, size):
            return scan_of_array(read_array(stream, size), reading)
    name = (split_location(location)[1] or location).lower()
    suffix = next(s for s in sorted(_READERS, key=len, reverse=True) if name.endswith(s))
    array = _READERS[suffix](read_bytes(location, reading.max_bytes))
    return _of_picture(array, reading) if array.ndim < 4 else scan_of_array(array, reading)


def _of_picture(array: np.ndarray, reading: Reading) -> Scan:
    """Return a file with one plane, which is its only one where a plane is wanted."""
    return scan_of_array((array[..., None] if array.ndim == 2 else array)[None], reading)


def read_picture(content: bytes, reading: Reading) -> np.ndarray:
    """Decode PNG, JPEG, TIFF or BMP, whatever of these the suffix says."""
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"has too many pixels ({error})", remedy="Write it smaller") from error
    reading.check_size(1, image.height, image.width)
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
