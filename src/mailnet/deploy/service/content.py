"""What kind of file an upload is, told by its content: its name is never asked."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mailnet.data.dicom.files import begins_like_dicom
from mailnet.deploy.service.refusal import Refused

HEAD = 560  # covers the headers of DICOM (132) and NIfTI-2 (540)
# What each kind of content is called so that the readers of ``mailnet.data`` know it.
SUFFIXES = {"picture": ".png", "npy": ".npy", "nifti": ".nii", "nifti.gz": ".nii.gz", "dicom": ".dcm", "zip": ".zip"}
_STARTS = {
    b"\x89PNG\r\n\x1a\n": "picture",
    b"\xff\xd8\xff": "picture",
    b"II*\0": "picture",
    b"MM\0*": "picture",
    b"II+\0": "picture",
    b"MM\0+": "picture",
    b"BM": "picture",
    b"\x93NUMPY": "npy",
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_END, _END_SIZE, _MOST_COMMENT = b"PK\5\6", 22, 2**16 - 1


@dataclass(frozen=True)
class Directory:
    """The end of a zip: how many members its directory names, and the directory's size in bytes."""

    members: int
    size: int
    large: bool


def kind_of_content(path: Path) -> str:
    """Return what a file is, one of ``SUFFIXES``.

    Raises:
        Refused: It is empty, of no known kind, or of two kinds at once, so that what one program shows of it is not
            what another one reads.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        if not head:
            raise Refused(422, "the file is empty", "Send the image itself")
        kinds = {kind for start, kind in _STARTS.items() if head.startswith(start)}
        if head[:2] == b"\x1f\x8b" and _is_nifti(_unpacked_head(file)):
            kinds.add("nifti.gz")
        if _is_nifti(head):
            kinds.add("nifti")
        # A DICOM file may begin as a TIFF file on purpose (PS3.10, 7.1): viewers of slides know both.
        if head[128:132] == b"DICM":
            kinds = (kinds - {"picture"} if head.startswith(_TIFF) else kinds) | {"dicom"}
        elif not kinds and begins_like_dicom(head):
            kinds.add("dicom")
        # What begins as nothing that is known and ends as a zip, such as an installer, is of no known kind.
        if kinds and "zip" not in kinds and directory_of_zip(file) is not None:
            kinds.add("zip")
    if len(kinds) > 1:
        raise Refused(422, f"the file is of several kinds at once: {', '.join(sorted(kinds))}", "Send a plain image")
    if not kinds:
        raise Refused(422, "the file is of no known kind", "Send PNG, JPEG, TIFF, NIfTI, npy, DICOM, or a zip of these")
    return kinds.pop()


def directory_of_zip(file: IO[bytes]) -> Directory | None:
    """Return what the end of a file says of the zip that it is or carries; None where it is none."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_SIZE - _MOST_COMMENT))
    tail = file.read()
    place = len(tail)
    while (place := tail.rfind(_END, 0, place)) >= 0:
        if len(tail) - place < _END_SIZE:
            continue
        members, length, _, comment = struct.unpack("<HIIH", tail[place + 10 : place + _END_SIZE])
        end = size - len(tail) + place
        if end + _END_SIZE + comment != size:
            continue
        large = tail[max(0, place - 20) : place].startswith(b"PK\6\7") or members == 0xFFFF or length == 0xFFFFFFFF
        file.seek(max(0, end - length))
        if large or members == 0 or file.read(4) == b"PK\1\2":
            return Directory(members, length, large)
    return None


def _unpacked_head(file: IO[bytes]) -> bytes:
    file.seek(0)
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            return unpacked.read(HEAD)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_nifti(head: bytes) -> bool:
    first = {head[:4], head[3::-1]}
    return (struct.pack("<i", 348) in first and head[344:347] in (b"n+1", b"ni1")) or (
        struct.pack("<i", 540) in first and head[4:7] in (b"n+2", b"ni2")
    )
