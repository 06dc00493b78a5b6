"""DICOM files, series and directories."""

from __future__ import annotations

import io
import os

import numpy as np

from mailnet.data.scan import Reading, Scan
from mailnet.errors import DataError


def read_dicom(content: bytes, reading: Reading) -> Scan:
    """Decode one file."""
    import pydicom

    data = pydicom.dcmread(io.BytesIO(content))
    frames = int(data.get("NumberOfFrames") or 1)
    reading.check_size(frames, int(data.Rows), int(data.Columns))
    values = np.asarray(data.pixel_array).reshape(frames, data.Rows, data.Columns, -1)
    return Scan(values if reading.planes is None else values[reading.planes.of(frames)])


def read_folder(folder: str, reading: Reading) -> Scan:
    """Decode the only file of a folder."""
    files = sorted(os.scandir(folder), key=lambda file: file.name)
    if len(files) != 1:
        raise DataError(f"holds {len(files)} files", remedy="Give the file")
    with open(files[0].path, "rb") as file:
        return read_dicom(file.read(), reading)


def read_dicomdir(path: str, reading: Reading) -> Scan:
    """Refuse a directory, which holds no image itself."""
    raise DataError("is a directory of images", remedy="Give one of its files")
