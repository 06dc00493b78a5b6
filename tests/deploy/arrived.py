"""Made-up DICOM studies as they arrive in a folder, and facts and answers of a made-up model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dicom_files import write
from mailnet.deploy.dicom import ModelFacts
from mailnet.deploy.dicom.inbox import Instance, digest
from mailnet.specs import TaskSpec

US = "1.2.840.10008.5.1.4.1.1.6.1"
FACTS = ModelFacts(
    network="mail",
    study="breast",
    version="0.1.0",
    weights="0123456789abcdef" * 4,
    tasks={
        "pathology": TaskSpec("pathology", ("benign", "malignant"), "binary"),
        "signs": TaskSpec("signs", ("mass", "Verkalkung, größer"), "multilabel"),
    },
    modalities=("left", "right", "clinical"),
    alpha=0.1,
    noise={"mode": "mean", "draws": 10, "seed": 0},
    calibrated=True,
)
PREDICTION: dict[str, Any] = {
    "id": "row 1",
    "absent": ["clinical"],
    "foreign": {
        "left": {"p": 0.003, "alarm": True, "findings": []},
        "right": {"p": 0.4, "alarm": False, "findings": []},
    },
    "tasks": {
        "pathology": {
            "predicted": "malignant",
            "probabilities": {"benign": 0.127, "malignant": 0.873},
            "set": ["malignant"],
            "answered": False,
        },
        "signs": {
            "predicted": "mass",
            "probabilities": {"mass": 0.7, "Verkalkung, größer": 0.2},
            "set": {"present": ["mass"], "undecided": ["Verkalkung, größer"]},
        },
    },
}


def study_uid(number: int) -> str:
    """Study Instance UID of a study."""
    return f"1.2.826.0.1.{number + 1}"


def send(inbox: Path, number: int, view: str = "left", image: int = 0, **tags: Any) -> Path:
    """Write an ultrasound image of a study as a sender would, whole at once; return its path."""
    study = study_uid(number)
    series = f"{study}.{1 if view == 'left' else 2}"
    pixels = np.random.default_rng([number, image, len(view)]).integers(0, 255, (32, 32), np.uint8)
    values = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "SOPInstanceUID": f"{series}.{image + 1}",
        "SOPClassUID": US,
        "Modality": "US",
        "SeriesDescription": f"view {view}",
        "PatientSex": "F",
        **tags,
    }
    path = inbox / f"study-{number}-{view}-{image}.dcm"
    half = write(inbox / ".half", pixels, **values)
    half.rename(path)
    return path


def name_of(number: int) -> str:
    """Digest by which a study is called."""
    return digest(study_uid(number))


def list_images(series: dict[str, list[Instance]], work: Path) -> list[tuple[str, bytes]]:
    """An answer without a model: the images of each modality, by name."""
    assert work.is_dir()
    text = "".join(f"{name} {Path(one.path).name}\n" for name, images in series.items() for one in images)
    return [("answer.txt", text.encode())]
