"""Files as a clinic has them, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_png(path: Path, shape: tuple[int, ...] = (96, 128), seed: int = 0) -> Path:
    """Write an 8-bit picture with a bright lesion, (H, W) or (H, W, 3)."""
    down, across = np.mgrid[: shape[0], : shape[1]]
    lesion = 150 * np.exp(-((down - shape[0] * 0.55) ** 2 + (across - shape[1] * 0.45) ** 2) / (shape[0] * 3))
    values = 40 + lesion + np.random.default_rng(seed).normal(0, 9, shape[:2])
    if len(shape) == 3:
        values = values[..., None] * np.array([1.0, 0.8, 0.6])
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(path)
    return path


def write_series(folder: Path, depth: int = 6, size: int = 48) -> list[Path]:
    """Write a CT series, one 16-bit DICOM file a plane, in files whose order is not that of the planes."""
    folder.mkdir(exist_ok=True)
    series, paths = generate_uid(), []
    for plane in range(depth):
        down, across = np.mgrid[:size, :size] - size / 2
        values = np.where(down**2 + across**2 < (size / 2 - 4) ** 2, 1040 + 12 * plane, 24)
        values = values + np.where((down - 6) ** 2 + (across + 5) ** 2 < (plane * 1.4) ** 2, 420, 0)
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
        one.SeriesInstanceUID, one.InstanceNumber, one.Modality = series, plane + 1, "CT"
        one.Rows = one.Columns = size
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
        one.PhotometricInterpretation = "MONOCHROME2"
        one.PixelData = values.astype("<u2").tobytes()
        paths.append(folder / f"{(plane * 5) % 7:02d}.dcm")
        one.save_as(paths[-1], enforce_file_format=True)
    return paths
