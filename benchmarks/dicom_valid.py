"""Whether DICOM results are valid: asks dciodvfy of dicom3tools (apt-get install dicom3tools).

    python benchmarks/dicom_valid.py [FOLDER]

Checks every .dcm below the folder, such as OUT of `mailnet watch`. Without one, results of vendors' images that come
with pydicom are made first: a CT slice and a series of it, an MR slice, a colour image. An error of dciodvfy
ends it with status 1; warnings are counted by their text.
"""

from __future__ import annotations

import argparse
import collections
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

from mailnet.data.config import ImageConfig, PixelConfig, VolumeConfig
from mailnet.deploy.dicom import ModelFacts, results_of
from mailnet.deploy.dicom.heat import Heat
from mailnet.specs import TaskSpec

SOURCES: dict[str, PixelConfig] = {
    "CT_small.dcm": ImageConfig(size=64, window={"center": 40, "width": 400}),  # type: ignore[arg-type]
    "MR_small.dcm": ImageConfig(size=64, percentiles=(1, 99)),
    "CT_small.dcm x 8": VolumeConfig(kind="volume", size=(10, 32, 32), percentiles=(1, 99)),
    "examples_rgb_color.dcm": ImageConfig(size=64, channels=3),
}
PREDICTION: dict[str, Any] = {
    "id": "row 1",
    "absent": ["clinical"],
    "foreign": {"image": {"p": 0.02, "alarm": True, "findings": []}},
    "warnings": ["image: darker than any of training"],
    "tasks": {
        "finding": {
            "predicted": "lesion",
            "probabilities": {"none": 0.2, "lesion": 0.8},
            "set": [],
            "answered": False,
        },
        "signs": {
            "predicted": "mass",
            "probabilities": {"mass": 0.7, "größer": 0.1},
            "set": {"present": ["mass"], "undecided": ["größer"]},
        },
    },
}
FACTS = ModelFacts("mail", "made-up", "0.1.0", "0" * 64, {
    "finding": TaskSpec("finding", ("none", "lesion"), "binary"),
    "signs": TaskSpec("signs", ("mass", "größer"), "multilabel"),
}, ("image", "clinical"), 0.1, {"mode": "mean", "draws": 10, "seed": 0}, True)  # fmt: skip


def make(folder: Path) -> None:
    """Write results of pydicom's own images."""
    random = np.random.default_rng(0)
    for name, section in SOURCES.items():
        paths = sources(name, folder)
        values = random.normal(size=section.size).astype(np.float32)
        heats = [Heat("finding", "lesion", "image", "layer_cam", np.abs(values), False, 2.0),
                 Heat("signs", "mass", "image", "gradient", values, True, 2.0)]  # fmt: skip
        results = results_of(PREDICTION, FACTS, {"image": paths}, heats, {"image": section}, "both")
        for file, content in results:
            target = folder / name.replace(".dcm", "") / file
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)


def sources(name: str, folder: Path) -> list[Path]:
    """Return an image that comes with pydicom, or a series of it ``x`` so many slices."""
    name, _, count = name.partition(" x ")
    path = Path(str(get_testdata_file(name)))
    if not count:
        return [path]
    (folder / ".series").mkdir()
    series = []
    for number in range(int(count)):
        one = pydicom.dcmread(path)
        one.ImagePositionPatient[2] += 5 * number
        one.InstanceNumber = number + 1
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{one.SOPInstanceUID}.{number}"
        series.append(folder / ".series" / f"{number}")
        one.save_as(series[-1], enforce_file_format=True)
    return series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    folder = parser.parse_args().folder
    if shutil.which("dciodvfy") is None:
        raise SystemExit("dciodvfy is not installed: apt-get install dicom3tools")
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            folder = Path(made)
            make(folder)
        errors = 0
        warnings: collections.Counter[str] = collections.Counter()
        files = sorted(folder.rglob("*.dcm"))
        for path in files:
            kind = pydicom.dcmread(path, stop_before_pixels=True).SOPClassUID.name
            said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace")
            wrong = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
            warnings.update(
                re.sub(r" for value \d+", "", line)
                for line in (said.stdout + said.stderr).splitlines()
                if line.startswith("Warning")
            )
            errors += len(wrong)
            print(f"{path.relative_to(folder)} ({kind}): {len(wrong)} errors")
            for line in wrong:
                print(f"    {line}")
    for line, count in warnings.most_common():
        print(f"{count} x {line}")
    print(f"{len(files)} files, {errors} errors")
    if errors or not files:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
