"""DICOM files, series and directories.

A file's values pass through the steps of the standard: decompression, colour as RGB, modality LUT or rescale, and the
file's own window where it is asked for. Low values of MONOCHROME1 stay low, and are said to be bright.
"""

from __future__ import annotations

import os

from mailnet.data.archives import read_bytes
from mailnet.data.dicom.directory import files_in
from mailnet.data.dicom.files import guarded, open_content, open_file
from mailnet.data.dicom.header import layout_of
from mailnet.data.dicom.owner import Owner, owner_of
from mailnet.data.dicom.series import files_of, stack_of_files
from mailnet.data.dicom.stack import Source, Stack, count, read_stack, stack_of_file
from mailnet.data.locations import split_location
from mailnet.data.scan import Reading, Scan


@guarded
def read_dicom(content: bytes, reading: Reading) -> Scan:
    """Decode a file.

    Args:
        content: The file.
        reading: What is wanted of it.

    Returns:
        Its frames as planes, by position where each says its own, else as they are stored.

    Raises:
        DataError: It is no DICOM image, broken, too large, or no decoder is installed; names no value of its header.
    """
    dataset = open_content(content)
    return read_stack(stack_of_file(Source(dataset, layout_of(dataset), lambda: dataset), reading), reading)


@guarded
def read_folder(folder: str, reading: Reading) -> Scan:
    """Decode the series that a folder and those in it hold, or the one that ``reading.select`` chooses of several.

    Args:
        folder: Its path.
        reading: What is wanted of it.

    Returns:
        Its planes along their normal; of files without positions by InstanceNumber. Localizers are left out.

    Raises:
        DataError: There is no series, or several, or planes are missing, double or uneven; names the files.
    """
    return read_stack(stack_of_files(files_of(folder), reading), reading)


@guarded
def read_dicomdir(path: str, reading: Reading) -> Scan:
    """Decode the series that a DICOMDIR lists, or the one that ``reading.select`` chooses of several.

    Args:
        path: That of the DICOMDIR; the files that it lists lie in its folder and those below.
        reading: What is wanted of it.

    Raises:
        DataError: As ``read_folder``, and where a file does not exist or lies elsewhere.
    """
    return read_stack(stack_of_files(files_in(path), reading), reading)


@guarded
def count_planes(location: str, reading: Reading) -> int:
    """Return the number of planes of a file, a folder or a DICOMDIR, from the headers alone.

    Args:
        location: As ``read_scan`` takes it.
        reading: What is wanted of it; planes are counted in its direction.

    Raises:
        DataError: As when it is read, as far as the headers tell.
    """
    return count(_stack_at(location, reading), reading)


@guarded
def read_owner(location: str, reading: Reading) -> Owner:
    """Return whose image a file, a folder or a DICOMDIR holds, from the headers alone.

    Args:
        location: As ``read_scan`` takes it.
        reading: What is wanted of it.

    Raises:
        DataError: As when it is read, as far as the headers tell.
    """
    return owner_of(_stack_at(location, reading).planes[0][0].header, reading.select)


def _stack_at(location: str, reading: Reading) -> Stack:
    if os.path.isdir(location):
        return stack_of_files(files_of(location), reading)
    path, member = split_location(location)
    if member is None and os.path.basename(path).lower() == "dicomdir":
        return stack_of_files(files_in(path), reading)
    header = open_file(path, pixels=False) if member is None else open_content(read_bytes(location), pixels=False)
    return stack_of_file(Source(header, layout_of(header), lambda: header), reading)
