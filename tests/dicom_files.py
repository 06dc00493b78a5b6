"""Made-up DICOM files with a patient whose data must appear nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

# Every value is a word of its own that no other text contains.
PATIENT = {
    "PatientName": "Quillfeather^Zebediah",
    "PatientID": "PZX7733991",
    "PatientBirthDate": "19370423",
    "PatientAddress": "Wobblestone 5",
    "AccessionNumber": "ACQ5588123",
    "StudyDate": "20190817",
    "SeriesDate": "20190818",
    "AcquisitionDate": "20190819",
    "StudyTime": "123457",
    "StudyID": "SIDX9944",
    "StudyDescription": "Vexatious",
    "InstitutionName": "Muddlewick General",
    "ReferringPhysicianName": "Pumblechook^Ada",
    "OperatorsName": "Grimthorpe^Bo",
    "PatientComments": "Snorkelfish",
}
SECRETS = [
    "Quillfeather", "Zebediah", "PZX7733991", "19370423", "Wobblestone", "ACQ5588123", "20190817", "20190818",
    "20190819", "123457", "SIDX9944", "Vexatious", "Muddlewick", "Pumblechook", "Grimthorpe", "Snorkelfish",
]  # fmt: skip


def dataset(array: NDArray[Any], **tags: Any) -> Dataset:
    """A data set with (H, W) or (H, W, 3) pixels; a tag that is None is left out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = array.dtype.itemsize * 8
    values = {
        **PATIENT,
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "Modality": "CT",
        "SeriesNumber": 3,
        "SeriesDescription": "thin",
        "Rows": array.shape[0],
        "Columns": array.shape[1],
        "SamplesPerPixel": 3 if array.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if array.ndim == 3 else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(array.dtype.kind == "i"),
        **({"PlanarConfiguration": 0} if array.ndim == 3 else {}),
        "PixelData": array.tobytes() + b"\0" * (array.nbytes % 2),
        **tags,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(data, keyword, value)
    if "PixelData" in data:
        data["PixelData"].VR = "OW" if bits > 8 else "OB"
    return data


def write(path: Path, array: NDArray[Any], **tags: Any) -> Path:
    """Write such a file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset(array, **tags).save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, volume: NDArray[Any], step: float = 2.5, **tags: Any) -> Path:
    """Write an axial series from the feet up, whose names and numbers run the other way."""
    for number, plane in enumerate(volume):
        place = {
            "ImagePositionPatient": [-20.0, -30.0, -40 + step * number],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [0.7, 0.8],
            "SliceThickness": 5,
            "InstanceNumber": len(volume) - number,
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
        }
        write(folder / f"i{len(volume) - number:03d}.dcm", plane, **{**place, **tags})
    return folder
