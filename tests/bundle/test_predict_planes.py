"""Predictions of volumes and of planes, by the very images that training had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from mailnet.bundle import Predictor, load, save_bundle
from mailnet.data.config import StudyConfig, load_config
from mailnet.data.study import StudyData, load_study
from mailnet.nn import create_model

RANDOM = np.random.default_rng(0)
DEPTH = 4


def write(folder: Path, modality: dict[str, Any]) -> StudyConfig:
    """Write a study of twelve small volumes, each with a mask."""
    rows = []
    for k in range(12):
        volume = RANDOM.integers(0, 256, (8, 8, DEPTH), dtype=np.uint8)
        mask = np.zeros((8, 8, DEPTH), np.uint8)
        mask[2:5, 3, k % DEPTH] = 1
        for name, array in (("v", volume), ("m", mask)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{name}{k}.nii.gz")
        split = ("train", "train", "val", "test")[k // 3]
        rows.append({"id": f"s{k}", "mr": f"v{k}.nii.gz", "mask": f"m{k}.nii.gz", "y": k % 2, "split": split})
    pd.DataFrame(rows).to_csv(folder / "studies.csv", index=False)
    values = {
        "name": "volumes",
        "manifest": "studies.csv",
        "id": "id",
        "split": "split",
        "modalities": {"mr": modality},
        "tasks": {"y": {"kind": "binary", "classes": [0, 1]}},
    }
    path = folder / "study.yaml"
    path.write_text(str(values).replace("True", "true"))
    return load_config(path)


def trained(folder: Path, modality: dict[str, Any]) -> tuple[StudyData, Predictor]:
    data = load_study(write(folder, modality), cache=folder / "cache")
    torch.manual_seed(0)
    model = create_model("mail", data.modalities, data.tasks, width="nano")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return data, load(save_bundle(folder / "bundle", model, "mail", {"width": "nano"}, data.config, data.tables))


@pytest.mark.parametrize(
    "modality",
    [
        {"size": 8, "slice": "middle", "neighbours": 1},
        {"size": 8, "slice": "largest", "mask": "mask"},
        {"size": 8, "slice": "all"},
    ],
)
def test_planes_are_those_of_training(tmp_path: Path, modality: dict[str, Any]) -> None:
    data, predictor = trained(tmp_path, modality)
    found = predictor.predict(tmp_path / "studies.csv")
    assert found.ids == [str(study) for study in data.frame["id"]]
    loaded = predictor.predict_data(data, np.arange(len(data)))["y"]
    np.testing.assert_allclose(found.probabilities["y"], loaded, atol=1e-6)


def test_every_plane_is_a_prediction(tmp_path: Path) -> None:
    _, predictor = trained(tmp_path, {"size": 8, "slice": "all"})
    file = str(tmp_path / "v0.nii.gz")
    whole = predictor.predict([{"id": "a", "mr": file}, {"id": "b", "mr": f"{file}!slice/2"}])
    assert whole.ids == [*(f"a slice {k}" for k in range(DEPTH)), "b"]
    np.testing.assert_allclose(whole.probabilities["y"][2], whole.probabilities["y"][DEPTH], atol=1e-6)
    # In memory planes come first, rows and columns as DICOM shows them.
    array = np.asarray(nibabel.load(file).dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]  # type: ignore[attr-defined]
    in_memory = predictor.predict({"id": "a", "mr": array})
    assert in_memory.ids == whole.ids[:DEPTH]
    np.testing.assert_allclose(in_memory.probabilities["y"], whole.probabilities["y"][:DEPTH], atol=1e-6)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"")
    some = predictor.predict([{"id": "a", "mr": file}, {"id": "b", "mr": str(broken)}], skip_bad=True)
    assert some.ids == whole.ids[:DEPTH]
    assert [problem.study for problem in some.bad] == ["b slice 0"]


def test_a_mask_that_is_missing(tmp_path: Path) -> None:
    _, predictor = trained(tmp_path, {"size": 8, "slice": "largest", "mask": "mask"})
    some = predictor.predict({"id": "a", "mr": str(tmp_path / "v0.nii.gz")}, skip_bad=True)
    assert "'mask' names no mask of the image" in some.bad[0].message


def test_a_volume_from_a_file_and_from_memory(tmp_path: Path) -> None:
    data, predictor = trained(tmp_path, {"kind": "volume", "size": 8})
    assert data.arrays["mr"].shape == (12, 1, 8, 8, 8)
    file = str(tmp_path / "v0.nii.gz")
    array = np.asarray(nibabel.load(file).dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]  # type: ignore[attr-defined]
    found = predictor.predict([{"id": "file", "mr": file}, {"id": "memory", "mr": array}]).probabilities["y"]
    np.testing.assert_allclose(found[0], predictor.predict_data(data, np.array([0]))["y"][0], atol=1e-6)
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
