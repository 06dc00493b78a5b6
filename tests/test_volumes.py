"""NIfTI volumes from files to a report: as volumes, and as their middle planes with neighbours."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

from mailnet.bundle import load
from mailnet.cli.info import describe
from mailnet.data.config import StudyConfig, load_config
from mailnet.evaluation import evaluate
from mailnet.report import write_report
from mailnet.training import train

SHAPE = (20, 18, 10)  # to the right, to the front, upwards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 volumes with a bright ball on the right or on the left, which is the label."""
    folder = tmp_path_factory.mktemp("volumes")
    random = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"))
    rows = []
    for i in range(24):
        side = i % 2
        centre = np.array([5 if side else 15, 9, 5]) + random.integers(-1, 2, 3)
        ball = np.square((places - centre[:, None, None, None]) * np.array([1, 1, 2])[:, None, None, None]).sum(0) < 16
        values = random.normal(100, 20, SHAPE) + 600 * ball
        image = nibabel.Nifti1Image(values.astype(np.int16), np.diag([-2.0, 2.0, 4.0, 1.0]))
        name = f"v{i:02d}.nii{'.gz' if i % 3 else ''}"
        nibabel.save(image, folder / name)
        split = ("train", "train", "train", "val", "test", "train")[i // 2 % 6]
        rows.append({"mr": name, "side": ("left", "right")[side], "split": split})
    with (folder / "studies.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def study(folder: Path, **modality: Any) -> StudyConfig:
    values = {
        "name": "balls",
        "manifest": "studies.csv",
        "split": "split",
        "modalities": {"mr": {"percentiles": [1, 99.8], **modality}},
        "tasks": {"side": {"kind": "binary", "classes": ["left", "right"]}},
        "model": {"name": "mail", "options": {"width": "nano"}},
        "train": {"epochs": 2, "batch_size": 8},
        "evaluation": {"bootstrap": 0},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    return load_config(folder / "study.yaml")


@pytest.mark.parametrize(
    ("modality", "channels", "words"),
    [
        ({"kind": "volume", "size": 16, "resize": "stretch"}, 1, "16 x 16 x 16, 1 channel"),
        ({"size": 16, "slice": "middle", "neighbours": 1}, 3, "16 x 16, 3 channels, the middle plane with 1 before"),
    ],
    ids=["volume", "planes"],
)
def test_train_evaluate_predict_and_report(
    folder: Path, tmp_path: Path, modality: dict[str, Any], channels: int, words: str
) -> None:
    run, cache = tmp_path / "run", tmp_path / "cache"
    train(study(folder, **modality), run, cache=cache)
    evaluate(run, cache=cache)
    page = write_report(run, cache=cache).read_text(encoding="utf-8")
    assert words in page
    assert f"percentiles 1 to 99.8 of {'each file' if channels == 1 else 'the planes taken'}" in page
    assert page.count("data:image/jpeg") > 1
    assert ("Of volumes the middle planes" in page) == (channels == 1)
    card = (run / "bundle" / "README.md").read_text(encoding="utf-8")
    assert words in card
    takes = describe(run)["modalities"]["mr"]
    assert takes["channels"] == channels
    assert takes["takes"].startswith(words)

    predictor = load(run, device="cpu")
    from_files = predictor.predict(folder / "studies.csv").probabilities["side"]
    assert from_files.shape == (24, 2)
    values = np.asarray(nibabel.Nifti1Image.from_filename(folder / "v00.nii").dataobj)[::-1].transpose(2, 1, 0)[
        :, ::-1, ::-1
    ]
    in_memory = predictor.predict({"mr": values}).probabilities["side"]
    np.testing.assert_allclose(in_memory[0], from_files[0], atol=1e-5)
