"""Bytes of a plain file or a zip member, and single items of an array in an npz file, read without unpacking."""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from mailnet.data.locations import split_location, split_plane
from mailnet.data.values import nearest
from mailnet.errors import DataError

MAX_BYTES = 2**31

_open = threading.local()


def read_bytes(location: str) -> bytes:
    """Return the content of a plain file or of a member ``set.zip!member``.

    Raises:
        DataError: It is missing, unreadable, broken, encrypted, or larger than 2 GiB.
    """
    path, member = split_location(location)
    with _explained(location):
        if member is None:
            with open(path, "rb") as file:
                _refuse_giant(os.fstat(file.fileno()).st_size, location)
                return file.read()
        archive = open_zip(path)
        info = member_info(archive, member, location)
        _refuse_giant(info.file_size, location)
        return archive.read(info)


def open_zip(path: str) -> zipfile.ZipFile:
    """Return the open archive; each thread keeps its own until the file changes.

    Raises:
        DataError: It is missing or no whole zip.
    """
    with _explained(path):
        stat = os.stat(path)
        key = (stat.st_mtime_ns, stat.st_size)
        archives: dict[str, tuple[tuple[int, int], zipfile.ZipFile]] = _open.__dict__.setdefault("zips", {})
        if path not in archives or archives[path][0] != key:
            archives[path] = (key, zipfile.ZipFile(path))
        return archives[path][1]


def member_info(archive: zipfile.ZipFile, member: str, location: str) -> zipfile.ZipInfo:
    """Return a member's entry in the directory of its archive.

    Raises:
        DataError: There is no such member, or it is encrypted.
    """
    info = archive.NameToInfo.get(member)
    if info is None:
        raise DataError(
            "the archive has no such member", file=location, remedy="Correct the path or restore the member"
        )
    if info.flag_bits & 1:
        raise DataError("the member is encrypted", file=location, remedy="Write the archive without a password")
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
            with _explained(f"{path}!{name}"), archive.open(name) as stream:
                shape, _, dtype = _header(stream)
                arrays[name.removesuffix(".npy")] = (shape, dtype)
    return arrays


def read_npz(location: str) -> np.ndarray:
    """Return ``file.npz!array`` whole, or the item ``file.npz!array/INDEX`` of its first axis.

    Items are streamed from the compressed array; reading them in rising order unpacks the array once.

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
    info = member_info(archive, f"{name}.npy", location)
    with _explained(location):
        if not index:
            _refuse_giant(info.file_size, location)
            with archive.open(info) as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        return _item(archive, info, index, location)


def _item(archive: zipfile.ZipFile, info: zipfile.ZipInfo, index: str, location: str) -> np.ndarray:
    streams: dict[tuple[int, str], tuple[IO[bytes], Any]] = _open.__dict__.setdefault("streams", {})
    key = (id(archive), info.filename)
    if key not in streams:
        streams.clear()
        stream = archive.open(info)
        shape, fortran, dtype = _header(stream)
        streams[key] = (stream, (shape, fortran, dtype, stream.tell(), archive))
    stream, (shape, fortran, dtype, start, _) = streams[key]
    if fortran:
        raise DataError(
            "the array is stored column by column", file=location, remedy="Save it with numpy.ascontiguousarray"
        )
    count = shape[0] if shape else 0
    if not index.isdecimal() or int(index) >= count:
        raise DataError(f"has no item '{index}'", file=location, remedy=f"Items are 0 to {count - 1}")
    size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    _refuse_giant(size, location)
    stream.seek(start + int(index) * size)
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("it ends too early")
    return np.frombuffer(data, dtype).reshape(shape[1:])


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in read:
        raise ValueError(f"npy version {version} is not known")
    shape, fortran, dtype = read[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    return shape, fortran, dtype


def _refuse_giant(size: int, location: str) -> None:
    if size > MAX_BYTES:
        raise DataError(f"is {size:,} bytes large", file=location, remedy="A single image may have 2 GiB")


@contextmanager
def _explained(location: str) -> Iterator[None]:
    restore = "Restore the file, or leave the study out with --skip-bad"
    try:
        yield
    except FileNotFoundError as error:
        remedy = "Correct the path, or leave the study out with --skip-bad"
        raise DataError("the file does not exist", file=location, remedy=remedy) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"is broken or of an unknown kind ({error})", file=location, remedy=restore) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", file=location, remedy=restore) from error


def identity(location: str, name: str) -> str:
    """Return a text that changes when the content at ``location`` does, found without reading the content.

    Args:
        location: As ``read_image`` takes it.
        name: The location as seen from the data root, the same on every machine.

    Returns:
        The checksum of a zip or npz member; name, size, time of change and permissions of a plain file; name and a
        digest of the listing of a folder; empty where there is no such file. A plane adds its own.
    """
    location, plane = split_plane(location)
    if plane is not None:
        kind, _, rest = plane.partition("/")
        own, name = identity(location, split_plane(name)[0]), name.partition(f"!{kind}/")[2]
        return f"{own} {kind} {identity(rest, name) if kind == 'largest' else rest}"
    path, member = split_location(location)
    try:
        if os.path.isdir(path):
            listing = sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in os.scandir(path))
            return f"{name} {hashlib.sha256(repr(listing).encode()).hexdigest()}"
        if member is None:
            stat = os.stat(path)
            return f"{name} {stat.st_size} {stat.st_mtime_ns} {stat.st_mode}"
        array, _, index = member.partition("/")
        inside = path.lower().endswith(".npz")
        info = open_zip(path).NameToInfo.get(f"{array}.npy" if inside else member)
        return "" if info is None else f"{info.CRC:08x} {info.file_size} {index if inside else ''}"
    except (OSError, DataError):
        return ""
