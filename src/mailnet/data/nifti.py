"""NIfTI files."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np

from mailnet.data.scan import Reading, Scan


def read_nifti(content: bytes, reading: Reading) -> Scan:
    """Decode a file; planes are axial, rows go to the back, columns to the left, as DICOM shows them."""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    image = image.as_reoriented(nibabel.orientations.io_orientation(image.affine))
    values = np.asanyarray(image.dataobj).reshape(*image.shape[:3], -1)
    values = values.transpose(2, 1, 0, 3)[:, ::-1, ::-1]
    reading.check_size(*values.shape[:3])
    return Scan(values if reading.planes is None else values[reading.planes.of(len(values))])
