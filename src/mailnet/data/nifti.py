"""NIfTI-1 and NIfTI-2 files (https://nifti.nimh.nih.gov, the definitions are in nifti1.h and nifti2.h).

Whatever way a file is stored, its axes are turned to the nearest of the patient's and laid out as DICOM shows planes:
axial ones from the feet up with rows to the back and columns to the left, coronal ones from the front with rows to the
feet, sagittal ones from the right with rows to the feet and columns to the back.
"""

from __future__ import annotations

import gzip
import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np

from mailnet.data.archives import MAX_RATIO, identity, open_binary
from mailnet.data.scan import AXES, Direction, Reading, Scan
from mailnet.errors import DataError

# Right, ahead and up are the axes of NIfTI's own space.
_RAS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # xyzt_units: metres and micrometres; 2 and 0 are taken for millimetres
MAX_OFFSET = 2**24
KEPT = 2**28  # bytes of an unpacked file that a thread keeps
_last = threading.local()
_RESTORE = "Restore the file, or leave the study out with --skip-bad"


@dataclass(frozen=True)
class Header:
    """What the header of a file says.

    Args:
        shape: Voxels along the three axes as stored.
        frames: Points in time, or other values a voxel.
        dtype: Of the stored values.
        offset: Where these begin.
        scale: Slope and intercept, None where the stored values are the values.
        affine: (3, 3) mm that a step along each stored axis goes right, ahead and up.
    """

    shape: tuple[int, int, int]
    frames: int
    dtype: np.dtype[Any]
    offset: int
    scale: tuple[float, float] | None
    affine: np.ndarray

    @property
    def end(self) -> int:
        """Size of the whole file in bytes."""
        return self.offset + math.prod(self.shape) * self.frames * self.dtype.itemsize


@dataclass(frozen=True)
class Turn:
    """How to turn a file: which stored axis becomes planes, rows and columns, and whether it is then reversed."""

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]


def read_nifti(location: str, reading: Reading) -> Scan:
    """Decode a file, of which only the planes that are wanted are read.

    Args:
        location: A path or ``set.zip!member``, packed with gzip or not.
        reading: What is wanted of it.

    Returns:
        (D, H, W, C) values after the header's slope and intercept; without a ``frame``, points in time are channels.

    Raises:
        DataError: It is none, broken, cut short or too large, does not say how it lies, or lacks what is wanted.
    """
    with _opened(location, reading) as (stream, size, packed):
        header, turn = _read_layout(stream, size * MAX_RATIO if packed else size, reading)
        if packed and reading.planes is not None:
            stream = _kept(location, stream, header)
        stored = _read_planes(stream, header, turn, reading)
        if packed and stored.size == math.prod(header.shape) * header.frames:
            stream.read(1)  # At the end of the stream gzip compares its checksum.
    spacing = np.linalg.norm(header.affine, axis=0)[list(turn.order)]
    mean = reading.frame == "mean" and header.frames > 1
    return Scan(_values(stored, header, mean), spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])))


def count_planes(location: str, reading: Reading) -> int:
    """Return the number of planes of a file in the direction wanted, from the header alone.

    Raises:
        DataError: As ``read_nifti``, as far as the header tells.
    """
    with _opened(location, reading) as (stream, size, packed):
        header, turn = _read_layout(stream, size * MAX_RATIO if packed else size, reading)
    return header.shape[turn.order[0]]


@contextmanager
def _opened(location: str, reading: Reading) -> Iterator[tuple[IO[bytes], int, bool]]:
    """Yield the file, unpacked on the way, its size on the disk, and whether it is packed."""
    with open_binary(location, reading.max_bytes) as (stream, size):
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not packed:
            yield stream, size, False
            return
        with gzip.GzipFile(fileobj=stream, mode="rb") as unpacked:
            yield cast(IO[bytes], unpacked), size, True


def _kept(location: str, stream: IO[bytes], header: Header) -> IO[bytes]:
    """Return the unpacked file from memory where a thread asks for another plane of the one it had last.

    A file of which each plane is a study is so unpacked once or twice, not once a plane.
    """
    key = identity(location, location)
    if _last.__dict__.get("key") != key:
        _last.key, _last.content = key, None
    elif _last.content is None and header.end <= KEPT:
        stream.seek(0)
        _last.content = stream.read(header.end)
        stream.read(1)  # At the end of the stream gzip compares its checksum.
    return stream if _last.content is None else io.BytesIO(_last.content)


def _read_layout(stream: IO[bytes], most: int, reading: Reading) -> tuple[Header, Turn]:
    """Return the header of a file of at most so many bytes, and how to turn it; refuse what is too large."""
    header = _read_header(stream)
    turn = find_turn(header.affine, header.shape, reading)
    depth, height, width = (header.shape[axis] for axis in turn.order)
    reading.check_size(depth, height, width, header.frames)
    if header.end > most:
        raise _cut_short(header)
    return header, turn


def _read_header(stream: IO[bytes]) -> Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    block = stream.read(540)
    kinds = {348: (Nifti1Header, b"n+1\0", 344), 540: (Nifti2Header, b"n+2\0", 4)}
    length = next((n for n in kinds for order in ("<", ">") if block[:4] == np.array(n, f"{order}i4").tobytes()), None)
    if length is None or len(block) < length:
        raise DataError("is no NIfTI file", remedy=_RESTORE)
    kind: Any
    kind, magic, place = kinds[length]
    if block[place : place + 4] != magic:
        raise DataError("holds no image, which lies in a second file", remedy="Write one .nii or .nii.gz file")
    # Unchecked, since nibabel's own checks mend the header and log what they did.
    header = kind(block[:length], check=False)
    dims = tuple(int(n) for n in header.get_data_shape())
    if not 2 <= len(dims) <= 7 or min(dims) < 1 or sum(n > 1 for n in dims[3:]) > 1:
        raise DataError(
            f"has the shape {list(dims)}", remedy="Write one volume, or one with a fourth axis of points in time"
        )
    first = (*dims[:3], 1)[:3]
    offset = float(header["vox_offset"])
    if not length <= offset <= MAX_OFFSET:
        raise DataError(f"has a wrong header: the image would begin at byte {offset:g}", remedy=_RESTORE)
    slope, intercept = header.get_slope_inter()
    scale = None if slope is None or (slope, intercept) == (1, 0) else (float(slope), float(intercept))
    return Header(
        shape=(first[0], first[1], first[2]),
        frames=math.prod(dims[3:]),
        dtype=_dtype(header),
        offset=int(offset),
        scale=scale,
        affine=_affine(header),
    )


def _dtype(header: Any) -> np.dtype[Any]:
    code = int(header["datatype"])
    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except (KeyError, ValueError, TypeError):
        dtype = np.dtype("V")
    kinds = [dtype[name] for name in dtype.names] if dtype.names else [dtype]
    if any(kind.kind not in "iuf" or kind.itemsize > 8 for kind in kinds):
        raise DataError(f"holds values of the type {dtype} (code {code})", remedy="Write real numbers of 8 to 64 bits")
    return dtype


def _affine(header: Any) -> np.ndarray:
    from nibabel.spatialimages import HeaderDataError

    try:
        affine = np.array(header.get_best_affine(), np.float64)[:3, :3]
    except (HeaderDataError, ValueError, ArithmeticError):
        affine = np.zeros((3, 3))
    return check_affine(affine * _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0))


def check_affine(affine: np.ndarray) -> np.ndarray:
    """Return a (3, 3) affine, mm that a step along each axis goes right, ahead and up, if it says how something lies.

    Raises:
        DataError: It does not.
    """
    lengths = np.linalg.norm(affine, axis=0)
    # The volume of a voxel by that of a box with its edges: 0 where these lie in one plane.
    if not (np.isfinite(affine).all() and (lengths > 0).all() and abs(np.linalg.det(affine / lengths)) > 1e-4):
        raise DataError(
            "does not say how it lies in space: its affine is singular or not finite",
            remedy="Write the file with a whole sform or qform and positive pixdim, or leave the study out",
        )
    return affine


def find_turn(affine: np.ndarray, shape: tuple[int, int, int], reading: Reading) -> Turn:
    """Return how to turn what lies by an affine (3, 3) and has a shape along its axes, for a reading of it."""
    from nibabel.orientations import io_orientation

    # One row a stored axis: which of right, ahead and up it is nearest to, and whether it goes there or back.
    nearest = io_orientation(np.block([[affine, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]))

    def towards(direction: Direction) -> Turn:
        axes = [_RAS[letter] for letter in AXES[direction]]
        order = [int(np.flatnonzero(nearest[:, 0] == axis)[0]) for axis, _ in axes]
        flips = [bool(nearest[own, 1] * sign < 0) for own, (_, sign) in zip(order, axes, strict=True)]
        return Turn((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))

    if reading.direction is not None:
        return towards(reading.direction)
    if not reading.volume and shape.count(1) == 1:
        # A single plane is shown in its own direction.
        return next(turn for turn in map(towards, AXES) if shape[turn.order[0]] == 1)
    return towards("axial")


def _read_planes(stream: IO[bytes], header: Header, turn: Turn, reading: Reading) -> np.ndarray:
    """Return (D, H, W, T) values as stored, turned."""
    from nibabel.fileslice import fileslice

    wanted: list[slice] = [slice(None)] * 4
    planes, depth = turn.order[0], header.shape[turn.order[0]]
    numbers = None
    if reading.planes is not None:
        numbers = [depth - 1 - n if turn.flips[0] else n for n in reading.planes.of(depth)]
        wanted[planes] = slice(min(numbers), max(numbers) + 1)
    if isinstance(reading.frame, int):
        if reading.frame >= header.frames:
            raise DataError(
                f"has no point in time {reading.frame}",
                remedy=f"They are numbered 0 to {header.frames - 1}: correct 'frame'",
            )
        wanted[3] = slice(reading.frame, reading.frame + 1)
    shape = (*header.shape, header.frames)
    try:
        stored: np.ndarray = fileslice(stream, tuple(wanted), shape, header.dtype, header.offset, order="F")
    except (EOFError, ValueError) as error:
        raise _cut_short(header) from error
    turned: np.ndarray = stored.transpose(*turn.order, 3)
    first = [n - min(numbers) for n in numbers] if numbers is not None else _reversed_if(turn.flips[0])
    return turned[first][:, _reversed_if(turn.flips[1]), _reversed_if(turn.flips[2])]


def _cut_short(header: Header) -> DataError:
    return DataError(f"is cut short: its header announces {header.end:,} bytes", remedy=_RESTORE)


def _reversed_if(flip: bool) -> slice:
    return slice(None, None, -1) if flip else slice(None)


def _values(stored: np.ndarray, header: Header, mean: bool) -> np.ndarray:
    """Return (D, H, W, C) values."""
    if stored.dtype.names:
        colours = np.stack([stored[name] for name in stored.dtype.names], axis=-1)
        flat: np.ndarray = colours.reshape(*colours.shape[:3], -1)
        return flat
    if header.scale is None and not mean:
        native: np.ndarray = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        return native
    slope, intercept = header.scale or (1.0, 0.0)
    values = np.empty((*stored.shape[:3], 1 if mean else stored.shape[3]), np.float32)
    # A plane at a time in double precision, which of the whole would need much memory.
    with np.errstate(over="ignore", invalid="ignore"):
        for plane, out in zip(stored, values, strict=True):
            exact = plane.astype(np.float64)
            out[...] = (exact.mean(axis=2, keepdims=True) if mean else exact) * slope + intercept
    return values
