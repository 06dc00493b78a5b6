"""Opens DICOM files; what a header says of a patient reaches no message, no warning and no log."""

from __future__ import annotations

import functools
import io
import logging
import os
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, ParamSpec, TypeVar

from mailnet.errors import DataError

P = ParamSpec("P")
T = TypeVar("T")

RESTORE = "Restore the file, or leave the study out with --skip-bad"
# A deflated data set is unpacked as a whole, whatever its header would say.
MAX_DEFLATED = 2**28
EXPLICIT, BIG_ENDIAN, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"
DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)

_LOGGERS = ("pydicom", "highdicom", "pylibjpeg", "openjpeg", "libjpeg", "rle", "jpeg_ls")
_lock = threading.Lock()
_depth = 0
_undo: list[Callable[[], object]] = []


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom and the decoders from warning and logging, which they do with the values of headers.

    Filters of warnings belong to the process, so the first thread that enters sets them and the last one that leaves
    takes them back.
    """
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            caught = warnings.catch_warnings()
            caught.__enter__()
            warnings.simplefilter("ignore")
            _undo.append(functools.partial(caught.__exit__, None, None, None))
            for logger in map(logging.getLogger, _LOGGERS):
                _undo.append(functools.partial(logger.setLevel, logger.level))
                logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            while _depth == 0 and _undo:
                _undo.pop()()


def guarded(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function quiet, and every exception in it a ``DataError`` that says nothing of the header's values."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with quiet():
            try:
                return function(*args, **kwargs)
            except DataError as error:
                failure = error
            except MemoryError:
                failure = DataError("needs more memory than there is", remedy="Lower 'max_pixels' or 'max_voxels'")
            # pydicom meets broken files with exceptions of every kind, and their texts hold values.
            except Exception as error:
                failure = told(error)
        failure.__cause__ = failure.__context__ = None
        raise failure

    return call


def told(error: Exception) -> DataError:
    """Return what may be said of an exception: the system's reason, or its kind."""
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(f"cannot be read ({os.strerror(error.errno)})", remedy=RESTORE)
    return DataError(f"is no DICOM file that can be decoded ({type(error).__name__})", remedy=RESTORE)


def open_content(content: bytes, pixels: bool = True) -> Any:
    """Return the data set of a file in memory; without its pixels where only the header is wanted."""
    return _parse(io.BytesIO(content), pixels)


def open_file(path: str, pixels: bool = True) -> Any:
    """Return the data set of a file on the disk."""
    with _Clipped(io.FileIO(path)) as stream:
        return _parse(stream, pixels)


def looks_like_dicom(path: str) -> bool:
    """Return whether a file begins as DICOM files do."""
    with open(path, "rb") as file:
        return begins_like_dicom(file.read(132))


def begins_like_dicom(head: bytes) -> bool:
    """Return whether bytes begin as DICOM files do: with their mark, or with the first groups of a data set.

    >>> begins_like_dicom(bytes(128) + b"DICM"), begins_like_dicom(b"BM")
    (True, False)
    """
    return head[128:132] == b"DICM" or (head[:2] in (b"\2\0", b"\x08\0") and head[3:4] == b"\0" and head[4:6].isalpha())


def transfer_syntax(dataset: Any) -> str:
    """Return the UID of the encoding."""
    return str(dataset.file_meta.TransferSyntaxUID)


class _Clipped(io.BufferedReader):
    """A file of which no more is asked than it holds: a wrong length would have memory for it set aside."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > 2**16:
            size = max(0, min(size, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def _parse(stream: BinaryIO, pixels: bool) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filereader import read_dataset

    head = stream.read(132)
    if head[128:] != b"DICM":
        if not begins_like_dicom(head):
            raise DataError("is no DICOM file", remedy=RESTORE)
        stream.seek(0)
    start = stream.tell()
    group = stream.read(4)[:2]
    stream.seek(start)
    meta = FileMetaDataset()
    if group == b"\2\0":
        meta = FileMetaDataset(read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2))
    syntax = str(meta.get("TransferSyntaxUID") or "")
    if not syntax:
        raise DataError(
            "has no DICOM meta header that says how it is encoded",
            remedy="Write it anew with a tool that adds one, such as dcmconv IN OUT",
        )
    body: BinaryIO = stream
    if syntax in DEFLATED:
        body = io.BytesIO(_inflated(stream.read()))

    def before_pixels(tag: int, vr: str | None, length: int) -> bool:
        return tag in PIXELS

    dataset = read_dataset(body, syntax == IMPLICIT, syntax != BIG_ENDIAN, stop_when=None if pixels else before_pixels)
    if len(dataset) == 0:
        raise DataError("is broken: an element has a wrong length, or the file ends too early", remedy=RESTORE)
    whole = FileDataset(io.BytesIO(), dataset, file_meta=meta)
    whole.set_original_encoding(syntax == IMPLICIT, syntax != BIG_ENDIAN, dataset._character_set)
    return whole


def _inflated(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacker.decompress(packed, MAX_DEFLATED)
    if unpacker.unconsumed_tail:
        raise DataError(
            f"unpacks to more than {MAX_DEFLATED:,} bytes, at most so many are read of a deflated file",
            remedy="Write it with another transfer syntax, such as dcmconv +te IN OUT",
        )
    return content
