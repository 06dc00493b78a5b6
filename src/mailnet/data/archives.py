"""Bytes of a plain file or a zip member, and single items of an array in an npz file, read without unpacking."""

from __future__ import annotations

import hashlib
import math
import os
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

import numpy as np

from mailnet.data.locations import split_location
from mailnet.data.values import nearest
from mailnet.errors import DataError

MAX_BYTES = 2**31
# Deflate packs at most 1,032 bytes into one (https://zlib.net/zlib_tech.html).
MAX_RATIO = 1032
_ANY_SIZE = 2**63
_RESTORE = "Restore the file, or leave the study out with --skip-bad"

# Archives that a thread keeps open: a data set may have one a patient, more than a process may open.
KEPT_OPEN = 8

_open = threading.local()


def read_bytes(location: str, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a plain file or of a member ``set.zip!member``.

    Args:
        location: Where it lies.
        limit: Largest number of bytes.

    Raises:
        DataError: It is missing, unreadable, broken, encrypted, or larger than the limit.
    """
    with open_binary(location, limit) as (stream, _), _explained(location):
        return stream.read()


@contextmanager
def open_binary(location: str, limit: int = MAX_BYTES) -> Iterator[tuple[IO[bytes], int]]:
    """Yield a plain file or a member ``set.zip!member`` as a stream, and its size in bytes.

    Raises:
        DataError: As ``read_bytes``, as far as it shows before the content is read.
    """
    path, member = split_location(location)
    with ExitStack() as opened:
        stream, size = _open_binary(path, member, location, limit, opened)
        yield stream, size


def _open_binary(path: str, member: str | None, location: str, limit: int, opened: ExitStack) -> tuple[IO[bytes], int]:
    with _explained(location):
        if member is None:
            status = os.stat(path)
            # Opening a pipe would wait for its other end.
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise DataError("is a device or a pipe", file=location, remedy="Give a file")
            size = status.st_size
            _refuse_giant(size, location, limit)
            return opened.enter_context(open(path, "rb")), size
        archive = open_zip(path)
        info = member_info(archive, member, location, limit)
        return opened.enter_context(archive.open(info)), info.file_size


def open_zip(path: str) -> zipfile.ZipFile:
    """Return the open archive; each thread keeps its own few until the file changes.

    Raises:
        DataError: It is missing or no whole zip.
    """
    with _explained(path):
        status = os.stat(path)
        key = (status.st_mtime_ns, status.st_size)
        archives: dict[str, tuple[tuple[int, int], zipfile.ZipFile]] = _open.__dict__.setdefault("zips", {})
        known, archive = archives.pop(path, (None, None))
        if archive is None or known != key:
            archive = zipfile.ZipFile(path)
        # The one used last comes last.
        archives[path] = (key, archive)
        if len(archives) > KEPT_OPEN:
            del archives[next(iter(archives))]
        return archive


def member_info(archive: zipfile.ZipFile, member: str, location: str, limit: int = MAX_BYTES) -> zipfile.ZipInfo:
    """Return a member's entry in the directory of its archive.

    Raises:
        DataError: There is no such member, or it is encrypted, a link, or would unpack to more than the limit.
    """
    info = archive.NameToInfo.get(member)
    if info is None:
        raise DataError(
            "the archive has no such member", file=location, remedy="Correct the path or restore the member"
        )
    if info.flag_bits & 1:
        raise DataError("the member is encrypted", file=location, remedy="Write the archive without a password")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError("the member is a link", file=location, remedy="Name the member that it leads to")
    _refuse_giant(info.file_size, location, limit)
    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: MAX_RATIO}.get(info.compress_type)
    if most is not None and info.file_size > info.compress_size * most:
        raise DataError(
            f"the archive is broken: {info.compress_size:,} bytes cannot unpack to {info.file_size:,}",
            file=location,
            remedy=_RESTORE,
        )
    return info


def npz_arrays(path: str) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return the shape and type of every array in an npz file, without reading the arrays.

    Raises:
        DataError: The file is no npz, or an array holds Python objects.
    """
    archive = open_zip(path)
    arrays = {}
    for name in archive.namelist():
        if name.endswith(".npy"):
            location = f"{path}!{name}"
            info = member_info(archive, name, location)
            with _explained(location), archive.open(info) as stream:
                shape, _, dtype = read_header(stream, info.file_size)
                arrays[name.removesuffix(".npy")] = (shape, dtype)
    return arrays


def read_npz(location: str, limit: int = MAX_BYTES) -> np.ndarray:
    """Return ``file.npz!array`` whole, or the item ``file.npz!array/INDEX`` of its first axis.

    Items are streamed from the compressed array; reading them in rising order unpacks the array once.

    Args:
        location: Where it lies.
        limit: Largest number of bytes of what is returned.

    Raises:
        DataError: There is no such array or item, or the array holds Python objects or is stored column by column.
    """
    path, member = split_location(location)
    if member is None:
        raise DataError(
            "names no array",
            file=location,
            remedy=f"Write FILE.npz!ARRAY/INDEX. {nearest('', npz_arrays(path))}",
        )
    name, _, index = member.partition("/")
    archive = open_zip(path)
    if f"{name}.npy" not in archive.NameToInfo:
        remedy = nearest(name, npz_arrays(path)) or "Restore the file"
        raise DataError(f"has no array '{name}'", file=location, remedy=remedy)
    info = member_info(archive, f"{name}.npy", location, _ANY_SIZE if index else limit)
    with _explained(location):
        if index:
            return _item(archive, info, index, location, limit)
        with archive.open(info) as stream:
            return read_array(stream, info.file_size)


def item_shape(location: str) -> tuple[int, ...]:
    """Return the shape of what ``read_npz`` would return, from the header alone."""
    path, member = split_location(location)
    name, _, index = (member or "").partition("/")
    with _explained(location):
        archive = open_zip(path)
        info = member_info(archive, f"{name}.npy", location, _ANY_SIZE)
        with archive.open(info) as stream:
            shape, _, _ = read_header(stream, info.file_size)
    return shape[1:] if index else shape


def read_array(stream: IO[bytes], size: int) -> np.ndarray:
    """Return the array of an npy file of so many bytes; memory is taken only for what the file holds.

    Raises:
        EOFError: It is shorter than its header says.
        ValueError: It is no npy file, or holds Python objects.
    """
    shape, fortran, dtype = read_header(stream, size)
    data = stream.read(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _item(archive: zipfile.ZipFile, info: zipfile.ZipInfo, index: str, location: str, limit: int) -> np.ndarray:
    streams: dict[tuple[int, str], tuple[IO[bytes], Any]] = _open.__dict__.setdefault("streams", {})
    key = (id(archive), info.filename)
    if key not in streams:
        streams.clear()
        stream = archive.open(info)
        shape, fortran, dtype = read_header(stream, info.file_size)
        streams[key] = (stream, (shape, fortran, dtype, stream.tell(), archive))
    stream, (shape, fortran, dtype, start, _) = streams[key]
    if fortran:
        raise DataError(
            "the array is stored column by column", file=location, remedy="Save it with numpy.ascontiguousarray"
        )
    count = shape[0] if shape else 0
    if not index.isdecimal() or int(index) >= count:
        raise DataError(f"has no item '{index}'", file=location, remedy=f"Items are 0 to {count - 1}")
    size = math.prod(shape[1:]) * dtype.itemsize
    _refuse_giant(size, location, limit)
    try:
        stream.seek(start + int(index) * size)
        data = stream.read(size)
    except BaseException:
        streams.clear()  # Where it stopped is not known.
        raise
    if len(data) != size:
        raise EOFError("it ends too early")
    return np.frombuffer(data, dtype).reshape(shape[1:])


def read_header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether it is stored column by column, and type of the array in an npy file of so many bytes.

    Raises:
        EOFError: The file is too short for them.
        ValueError: It is no npy file, or holds Python objects.
    """
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in read:
        raise ValueError(f"npy version {version} is not known")
    shape, fortran, dtype = read[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    if any(n < 0 for n in shape) or stream.tell() + math.prod(shape) * dtype.itemsize > size:
        raise EOFError(f"it ends too early for the shape {list(shape)}")
    return shape, fortran, dtype


def _refuse_giant(size: int, location: str, limit: int) -> None:
    if size > limit:
        raise DataError(
            f"is {size:,} bytes large, at most {limit:,} are read",
            file=location,
            remedy="Write it smaller, or raise the modality's 'max_voxels' or, of pictures, 'max_pixels'",
        )


@contextmanager
def _explained(location: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        remedy = "Correct the path, or leave the study out with --skip-bad"
        raise DataError("the file does not exist", file=location, remedy=remedy) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"is broken or of an unknown kind ({error})", file=location, remedy=_RESTORE) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file=location, remedy=_RESTORE) from error


def identity(location: str, name: str) -> str:
    """Return a text that changes when the content at ``location`` does, found without reading the content.

    Args:
        location: As ``read_image`` takes it, without a plane.
        name: The location as seen from the data root, which may be moved.

    Returns:
        The name, with checksum and size of a zip or npz member; with size, times of change and inode of a plain file;
        with a digest of these of all files in a folder, for a DICOMDIR of those in its folder; empty where there is no
        such file.
    """
    path, member = split_location(location)
    try:
        if member is None and os.path.basename(path).lower() == "dicomdir" and os.path.isfile(path):
            path = os.path.dirname(path)
        if os.path.isdir(path):
            files = sorted(os.path.join(where, file) for where, _, names in os.walk(path) for file in names)
            listing = [(os.path.relpath(file, path), file_state(file)) for file in files]
            return f"{name} {hashlib.sha256(repr(listing).encode()).hexdigest()}"
        if member is None:
            return f"{name} {file_state(path)}"
        inside = path.lower().endswith(".npz")
        info = open_zip(path).NameToInfo.get(f"{member.partition('/')[0]}.npy" if inside else member)
        # By the checksum alone, two of 100,000 members of one size would likely be taken for the same.
        return "" if info is None else f"{name} {info.CRC:08x} {info.file_size}"
    except (OSError, ValueError, DataError):
        return ""


def file_state(path: str) -> tuple[int, ...]:
    """Return numbers of which one changes when a file does."""
    status = os.stat(path)
    # What unpacks an archive often sets the first time of every file to the same.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
