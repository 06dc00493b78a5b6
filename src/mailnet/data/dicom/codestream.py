"""What compressed pixels say of themselves, compared with the header before a decoder sees them."""

from __future__ import annotations

import struct

from mailnet.data.dicom.files import RESTORE
from mailnet.data.dicom.header import Layout
from mailnet.errors import DataError

# Below so many bytes anything may be as small as it likes; above, a thousandth of it at least must be there.
FREE_BYTES, MAX_RATIO = 2**26, 1000

_SIZ = b"\xff\x4f\xff\x51"
_BROKEN = "has compressed pixels that are broken"


def check_frame(frame: bytes, layout: Layout, family: str) -> None:
    """Compare a compressed frame with the header.

    Args:
        frame: Its bytes.
        layout: What the header says.
        family: jpeg, jpeg-ls, jpeg-2000 or rle.

    Raises:
        DataError: They differ; a decoder would set memory aside for what the frame says.
    """
    if family == "rle":
        _check_rle(frame, layout)
        return
    try:
        size = _jpeg_2000(frame) if family == "jpeg-2000" else _jpeg(frame)
    except (struct.error, IndexError):
        size = None
    if size is None:
        raise DataError(_BROKEN, remedy=RESTORE)
    rows, columns, samples, bits = size
    if (rows, columns, samples) != (layout.rows, layout.columns, layout.samples) or bits > layout.allocated:
        raise DataError(
            f"has compressed pixels of {columns} x {rows} with {samples} times {bits} bits, but a header of "
            f"{layout.columns} x {layout.rows} with {layout.samples} times {layout.stored} bits",
            remedy=RESTORE,
        )


def check_ratio(packed: int, unpacked: int) -> None:
    """Refuse what would unpack to far more than an image does.

    Raises:
        DataError: It would.
    """
    if unpacked > max(FREE_BYTES, MAX_RATIO * packed):
        raise DataError(
            f"would unpack from {packed:,} to {unpacked:,} bytes, more than images do",
            remedy="Write it uncompressed if it is one, such as with dcmdjpeg or gdcmconv --raw",
        )


def precision(frame: bytes) -> int:
    """Return the bits of a sample in a JPEG, 0 where it does not say."""
    try:
        size = _jpeg(frame)
    except (struct.error, IndexError):
        size = None
    return size[3] if size else 0


def _jpeg(frame: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, samples and bits of a JPEG or JPEG-LS (ITU-T T.81 B.2.2, T.87 C.2.2)."""
    if frame[:2] != b"\xff\xd8":
        return None
    place, found = 2, None
    while True:
        if frame[place] != 0xFF:
            return None
        while frame[place + 1] == 0xFF:
            place += 1
        marker = frame[place + 1]
        (length,) = struct.unpack_from(">H", frame, place + 2)
        if length < 2:
            return None
        if marker == 0xDA:
            return found
        # Hierarchical and arithmetic processes, and those whose size follows later, are none of DICOM's.
        if marker in (0xDE, 0xDF, 0xDC) or 0xC5 <= marker <= 0xCF:
            return None
        if marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
            if found is not None:
                return None
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            found = (rows, columns, samples, bits)
        place += 2 + length


def _jpeg_2000(frame: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, samples and bits of a JPEG 2000 (ITU-T T.800 A.5.1)."""
    start = frame.find(_SIZ)
    boxed = frame[4:8] == b"jP  " or frame[:4] == b"\x0d\x0a\x87\x0a"
    # Behind the boxes of a file around it there must be one alone, or the decoder might read another.
    if start < 0 or (start > 0 and not boxed) or (boxed and frame.find(_SIZ, start + 1) >= 0):
        return None
    right, bottom, left, top, tile_w, tile_h, tile_x, tile_y, samples = struct.unpack_from(">8IH", frame, start + 8)
    parts = [struct.unpack_from("3B", frame, start + 42 + 3 * sample) for sample in range(min(samples, 5))]
    if not parts or any(part[1:] != (1, 1) for part in parts):
        return None
    if not tile_w or not tile_h or tile_x > left or tile_y > top:
        return None
    tiles = -(-(right - tile_x) // tile_w) * -(-(bottom - tile_y) // tile_h)
    if tiles > 65535 or right <= left or bottom <= top:
        return None
    return bottom - top, right - left, samples, max((part[0] & 127) + 1 for part in parts)


def _check_rle(frame: bytes, layout: Layout) -> None:
    """PS3.5 G.5: a header of 64 bytes with the number of segments, one a byte of a pixel, and their places."""
    if len(frame) < 64:
        raise DataError(_BROKEN, remedy=RESTORE)
    count, *places = struct.unpack("<16I", frame[:64])
    wanted = layout.samples * max(1, layout.allocated // 8)
    segments = places[:wanted]
    ends = [*segments[1:], len(frame)]
    rising = all(a < b for a, b in zip(segments, ends, strict=True))
    if (
        count != wanted
        or segments[0] < 64
        or not rising
        or any(_overruns(frame[a:b], layout.rows * layout.columns) for a, b in zip(segments, ends, strict=True))
    ):
        raise DataError(_BROKEN, remedy=RESTORE)


def _overruns(segment: bytes, size: int) -> bool:
    """Return whether a run goes beyond so many bytes, which ends a decoder in Rust by a panic (PS3.5 G.3)."""
    place = unpacked = 0
    end = len(segment)
    while place < end and unpacked < size:
        length = segment[place]
        if length < 128:
            unpacked += length + 1
            place += length + 2
        elif length > 128:
            unpacked += 257 - length
            place += 2
        else:
            place += 1
    # A byte of padding may follow, no further run.
    return unpacked > size or end - place > 1
