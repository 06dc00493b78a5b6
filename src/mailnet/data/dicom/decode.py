"""Pixels as they are stored, after what compressed them and what their colours stand for is undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mailnet.data.dicom.codestream import check_frame, check_ratio, precision
from mailnet.data.dicom.files import RESTORE, transfer_syntax
from mailnet.data.dicom.header import Layout, numbers
from mailnet.errors import DataError

_JPEG = "1.2.840.10008.1.2.4."
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
FAMILIES = {
    **{_JPEG + end: "jpeg" for end in ("50", "51", "57", "70")},
    **{_JPEG + end: "jpeg-ls" for end in ("80", "81")},
    **{_JPEG + end: "jpeg-2000" for end in ("90", "91", "201", "202", "203")},
    "1.2.840.10008.1.2.5": "rle",
}
PACKAGES = {"jpeg": "'pylibjpeg[libjpeg]'", "jpeg-ls": "pyjpegls", "jpeg-2000": "'pylibjpeg[openjpeg]'"}
JPEG_EXTENDED = _JPEG + "51"
_UNDEFINED = 2**32 - 1
# What an expanded palette of DICOM may have (PS3.3 C.7.9).
MAX_PALETTE = 2**16


def stored_planes(dataset: Any, layout: Layout, frames: Sequence[int]) -> Iterator[np.ndarray]:
    """Decode frames one after the other.

    Args:
        dataset: The file, with its pixels.
        layout: How they are stored.
        frames: Numbers from 0, rising.

    Yields:
        (H, W, C) of each, colour as RGB.

    Raises:
        DataError: There are no pixels, or too few, or they are broken, or no decoder is installed.
    """
    from pydicom.pixels.decoders.base import get_decoder

    uid = transfer_syntax(dataset)
    name = _name(uid)
    keyword = next((k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in dataset), None)
    if keyword is None:
        raise DataError("holds no pixels", remedy=RESTORE)
    raw = dataset.get_item(keyword)
    claimed = getattr(raw, "length", None)
    content = dataset[keyword].value
    if not isinstance(content, bytes) or not content:
        raise DataError("holds no pixels", remedy=RESTORE)
    if uid in NATIVE:
        _check_length(content, layout)
        if claimed not in (None, _UNDEFINED, len(content)):
            raise DataError(f"says that its pixels have {claimed:,} bytes; it has {len(content):,}", remedy=RESTORE)
    elif uid in FAMILIES:
        _check_compressed(dataset, content, layout, frames, FAMILIES[uid])
    else:
        raise DataError(
            f"has the transfer syntax {name}, which is not read",
            remedy="Convert it, such as with gdcmconv --raw IN OUT",
        )
    decoder = get_decoder(uid)
    if not decoder.is_available:
        raise DataError(
            f"has the transfer syntax {name}, whose decoder is not installed",
            remedy=f"pip install {PACKAGES.get(FAMILIES.get(uid, ''), 'pydicom')}",
        )
    if layout.photometric == "PALETTE COLOR":
        _check_palette(dataset)
    shape = (layout.rows, layout.columns, layout.channels)
    try:
        for plane, said in decoder.iter_array(dataset, indices=frames):
            yield _coloured(plane, dataset, layout, str(said["photometric_interpretation"])).reshape(shape)
    except (GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    # The decoders' own exceptions, of every kind, quote the header; a panic in Rust is none of Exception's.
    except BaseException:
        failure = _failure(dataset, uid, name, content, layout)
    else:
        return
    raise failure


def _name(uid: str) -> str:
    from pydicom.uid import UID

    known = UID(uid)
    if known.name == known or known.type != "Transfer Syntax":
        return "that is private or unknown"
    return f"{known} ({known.name})"


def _failure(dataset: Any, uid: str, name: str, content: bytes, layout: Layout) -> DataError:
    if uid == JPEG_EXTENDED:
        from pydicom.encaps import get_frame

        frame = get_frame(content, 0, number_of_frames=layout.frames)
        if (bits := precision(frame)) > 8:
            return DataError(
                f"has the transfer syntax {name} with {bits} bits, in a form that no installed decoder reads",
                remedy="Convert it, such as with gdcmconv --raw IN OUT or dcmdjpeg IN OUT",
            )
    if layout.allocated == 1 and FAMILIES.get(uid) == "rle":
        return DataError(
            f"has the transfer syntax {name} with 1 bit, which no installed decoder reads",
            remedy="Convert it, such as with gdcmconv --raw IN OUT or dcmdrle IN OUT",
        )
    return DataError(f"has pixels that cannot be decoded, of the transfer syntax {name}", remedy=RESTORE)


def _check_length(content: bytes, layout: Layout) -> None:
    bits = layout.frames * layout.rows * layout.columns * layout.samples * layout.allocated
    expected = -(-bits // 8)
    if layout.photometric == "YBR_FULL_422":
        expected = expected // 3 * 2
    if len(content) < expected:
        raise DataError(f"is truncated: {len(content):,} bytes of pixels, its header says {expected:,}", remedy=RESTORE)


def _check_compressed(dataset: Any, content: bytes, layout: Layout, frames: Sequence[int], family: str) -> None:
    from pydicom.encaps import generate_frames, get_frame

    check_ratio(len(content), layout.plane_bytes * len(frames))
    try:
        if len(frames) == layout.frames:
            several = generate_frames(content, number_of_frames=layout.frames)
        else:
            several = (get_frame(content, frame, number_of_frames=layout.frames) for frame in frames)
        left = len(frames)
        for frame in several:
            check_frame(frame, layout, family)
            left -= 1
    except (ValueError, EOFError, IndexError):
        left = 1
    if left > 0:
        raise DataError("is truncated or broken where its compressed pixels are", remedy=RESTORE)


def _check_palette(dataset: Any) -> None:
    for colour in ("Red", "Green", "Blue"):
        descriptor = numbers(dataset, f"{colour}PaletteColorLookupTableDescriptor")
        if len(descriptor) != 3:
            raise DataError("has no palette for its colours", remedy=RESTORE)
        if (segments := dataset.get(f"Segmented{colour}PaletteColorLookupTableData")) is not None:
            _check_segments(segments, 2 if descriptor[2] > 8 else 1)


def _check_segments(segments: bytes, width: int) -> None:
    """Refuse a palette of segments (PS3.3 C.7.9.2) that expands to more than palettes may have."""
    data = np.frombuffer(segments[: len(segments) // width * width], f"<u{width}")
    place = total = 0
    while place + 1 < len(data):
        kind, length = int(data[place]), int(data[place + 1])
        total += length
        if kind > 1 or total > MAX_PALETTE:
            raise DataError("has a palette of a kind that is not read", remedy="Convert it to RGB")
        place += 2 + (length if kind == 0 else 1)


def _coloured(plane: np.ndarray, dataset: Any, layout: Layout, photometric: str) -> np.ndarray:
    from pydicom.pixels.processing import apply_color_lut

    if layout.photometric == "PALETTE COLOR":
        plane = apply_color_lut(plane, dataset)[..., :3]
    elif layout.channels == 3 and photometric != "RGB":
        raise ValueError(photometric)
    return plane.astype(plane.dtype.newbyteorder("="), copy=False)
