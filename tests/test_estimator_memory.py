"""Trained on, and asked about, studies in memory: dicts of tensors and MONAI's data sets and transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoised, ScaleIntensityRanged

import mailnet
from mailnet import MAILClassifier
from mailnet.errors import ConfigError

SCALE = ScaleIntensityRanged("photo", a_min=0, a_max=255, b_min=0, b_max=1)
RANDOM = Compose([
    RandFlipd("photo", prob=0.5, spatial_axis=1, allow_missing_keys=True),
    RandGaussianNoised("photo", prob=0.5, std=0.02, allow_missing_keys=True),
])  # fmt: skip


def studies(n: int = 30) -> list[dict[str, Any]]:
    """Red photos in [0, 255] are the label 1."""
    random = torch.Generator().manual_seed(1)
    several = []
    for i in range(n):
        photo = torch.rand(3, 8, 8, generator=random) * 100
        photo[0] += 120.0 * (i % 2)
        several.append({"photo": photo, "label": torch.tensor(i % 2), "patient": i // 2})
    return several


@pytest.fixture
def classifier() -> MAILClassifier:
    return MAILClassifier(
        modalities={"photo": {"size": 8, "channels": 3}},
        tasks={"label": {"kind": "binary", "classes": [0, 1]}},
        model_options={"width": "nano"},
        train={"epochs": 4, "batch_size": 8, "learning_rate": 0.01},
        group="patient",
        prepare=SCALE,
        augment=RANDOM,
    )


def test_a_data_set_is_learnt_and_predicted(classifier: MAILClassifier) -> None:
    several = studies()
    fitted = classifier.fit(Dataset(several))
    assert fitted.score(several) > 0.8
    found = fitted.predict_proba(Dataset(several))
    # The bundle holds no transform: it is given again.
    loaded = mailnet.load(fitted.run_)
    given = loaded.predict(Dataset(several), prepare=SCALE)
    np.testing.assert_array_equal(given.probabilities["label"], found)
    prepared = loaded.predict(Dataset(several, transform=SCALE))
    np.testing.assert_array_equal(prepared.probabilities["label"], found)
    with pytest.raises(ConfigError, match="draws random numbers"):
        loaded.predict(several, prepare=RANDOM)
    with pytest.raises(ConfigError, match="takes studies in memory"):
        loaded.predict("studies.csv", prepare=SCALE)


def test_labels_beside_dicts(classifier: MAILClassifier) -> None:
    several = [{"photo": one["photo"], "patient": one["patient"]} for one in studies()]
    words = np.array(["pale", "red"] * 15)
    fitted = classifier.set_params(tasks=None).fit(several, words)
    assert fitted.classes_.tolist() == ["pale", "red"]
    assert fitted.score(several, words) > 0.8


def test_labels_beside_dicts_whose_key_label_is_an_image(classifier: MAILClassifier) -> None:
    several = [{"label": one["photo"] / 255, "patient": one["patient"]} for one in studies()]
    classifier.set_params(tasks=None, prepare=None, augment=None, modalities={"label": {"size": 8, "channels": 3}})
    fitted = classifier.fit(several, np.arange(30) % 2)
    assert fitted.score(several, np.arange(30) % 2) > 0.8


def test_tensors_and_arrays_are_one(classifier: MAILClassifier) -> None:
    several = studies()
    fitted = classifier.fit(several)
    arrays = [{"photo": np.moveaxis(one["photo"].numpy() / 255, 0, 2)} for one in several]
    with_range = MAILClassifier(**{**classifier.get_params(), "prepare": None}).set_params(
        modalities={"photo": {"size": 8, "channels": 3, "range": [0, 1]}}
    )
    labels = [int(one["label"]) for one in several]
    patients = [{**one, "patient": i // 2} for i, one in enumerate(arrays)]
    np.testing.assert_allclose(
        with_range.fit(patients, labels).predict_proba(arrays), fitted.predict_proba(several), atol=1e-5
    )
