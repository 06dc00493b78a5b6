"""The files that a DICOMDIR lists (DICOM PS3.3 F.3, PS3.10 8.6)."""

from __future__ import annotations

import os
from collections.abc import Iterable

from mailnet.data.dicom.files import open_file
from mailnet.errors import DataError


def files_in(path: str) -> list[str]:
    """Return the images that a DICOMDIR lists.

    Raises:
        DataError: It is none, it names files outside of its folder, or these do not exist.
    """
    records = open_file(path).get("DirectoryRecordSequence")
    if not records:
        raise DataError("lists no files", remedy="Give a DICOM file, or the folder of a series")
    folder = os.path.dirname(os.path.abspath(path))
    found: list[str] = []
    lost: list[str] = []
    for record in records:
        parts = record.get("ReferencedFileID")
        if not parts or str(record.get("DirectoryRecordType")) != "IMAGE":
            continue
        file = _inside(folder, [parts] if isinstance(parts, str) else [str(part) for part in parts])
        (found if os.path.isfile(file) else lost).append(file)
    if lost:
        raise DataError(
            f"lists images that do not exist: {len(lost)}, the first of them {os.path.basename(lost[0])}",
            remedy="Copy all files with their folders, or give the folder of one series",
        )
    if not found:
        raise DataError("lists no images", remedy="Give a DICOM file, or the folder of a series")
    return found


def _inside(folder: str, parts: Iterable[str]) -> str:
    names = list(parts)
    for names_ in (names, [name.lower() for name in names]):
        file = os.path.join(folder, *names_)
        real, inside = os.path.realpath(file), os.path.realpath(folder)
        # Names of files have no separators of their own, and none leads upwards.
        if any(set(name) & {"/", "\\", "\0"} or name in ("", ".", "..") for name in names_) or (
            os.path.commonpath([real, inside]) != inside
        ):
            raise DataError(
                "lists a file outside of its folder", remedy="Give the folder of a series instead of this DICOMDIR"
            )
        if os.path.isfile(file):
            return file
    return os.path.join(folder, *names)
