"""Studies in memory: dicts, data sets and transforms of MONAI."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import CacheDataset, Dataset, MetaTensor
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    OneOf,
    RandFlipd,
    RandomOrder,
    Resized,
    ScaleIntensityd,
    SomeOf,
    Spacingd,
)
from torch.utils.data import Subset

from mailnet.data.config import StudyConfig, VolumeConfig, parse_config
from mailnet.data.images import load_image
from mailnet.data.memory import iterate_items, random_parts, read_studies
from mailnet.data.preprocess import prepare
from mailnet.data.study import load_study
from mailnet.data.tensors import scan_of_tensor
from mailnet.errors import ConfigError, DataError


def config(**changes: Any) -> StudyConfig:
    values: dict[str, Any] = {
        "name": "study",
        "manifest": [],
        "group": "patient",
        "split": {"train": 0.6, "val": 0.4, "test": 0},
        "modalities": {"ct": {"size": 8}, "clinic": {"kind": "tabular", "numeric": ["age"]}},
        "tasks": {"label": {"kind": "binary", "classes": [0, 1]}},
    }
    return parse_config({**values, **changes})


def studies(n: int = 12) -> list[dict[str, Any]]:
    random = torch.Generator().manual_seed(0)
    return [
        {
            "ct": torch.rand(1, 8, 8, generator=random),
            "age": torch.tensor(40.0 + i),
            "label": torch.tensor([i % 2]),
            "patient": f"p{i // 2}",
            "ct_meta_dict": {"spacing": [1, 1]},
        }
        for i in range(n)
    ]


@pytest.mark.parametrize("kind", [list, Dataset, CacheDataset])
def test_dicts_become_a_study(kind: Any) -> None:
    given = studies()
    source = kind(given, transform=None) if kind is not list else given
    data = load_study(config(), table=read_studies(source, config()))
    images = data.arrays["ct"][np.arange(12)]
    assert images.dtype == np.uint16
    np.testing.assert_allclose(images / 65535, torch.stack([one["ct"] for one in given]).numpy(), atol=1e-5)
    assert data.labels["label"].tolist() == [0, 1] * 6
    np.testing.assert_allclose(data.arrays["clinic"][:, 0].argsort(), np.arange(12))
    # A patient is on one side.
    assert (data.frame.groupby("group")["split"].nunique() == 1).all()
    assert not [column for column in data.frame if "meta" in column]


def test_the_same_image_stays_on_one_side_without_a_group() -> None:
    several = studies(20)
    for i in range(10):
        several[i + 10]["ct"] = several[i]["ct"].clone()
    one = config(group=None, modalities={"ct": {"size": 8}})
    data = load_study(one, table=read_studies(several, one))
    assert (data.frame["split"].iloc[:10].to_numpy() == data.frame["split"].iloc[10:].to_numpy()).all()


def test_absent_modalities_and_arrays_of_numpy() -> None:
    several: list[dict[str, Any]] = studies(8)
    for i, one in enumerate(several):
        one["ct"] = None if i == 3 else np.full((8, 8), i * 10, np.uint8)
    data = load_study(config(), table=read_studies(several, config()))
    assert data.present["ct"].tolist() == [i != 3 for i in range(8)]
    assert data.arrays["ct"][np.array([2, 3, 7])][:, 0, 0, 0].tolist() == [20, 0, 70]
    table = pd.DataFrame(several)
    again = load_study(config(), table=read_studies(table, config()))
    np.testing.assert_array_equal(again.arrays["ct"][np.arange(8)], data.arrays["ct"][np.arange(8)])


def test_a_transform_is_applied_before() -> None:
    def scale(study: dict[str, Any]) -> dict[str, Any]:
        return {**study, "ct": study["ct"] / 2}

    halves = read_studies(studies(4), config(), scale).images["ct"]
    whole = read_studies(studies(4), config()).images["ct"]
    for half, full in zip(halves.values(), whole.values(), strict=True):
        np.testing.assert_allclose(half * 2.0, full, atol=2)


def test_random_transforms_are_refused() -> None:
    random = Compose([ScaleIntensityd("ct"), RandFlipd("ct", prob=1.0)])
    assert random_parts(random) == ["RandFlipd"]
    with pytest.raises(ConfigError, match=r"'prepare' draws random numbers \(RandFlipd\)"):
        read_studies(studies(4), config(), random)
    with pytest.raises(ConfigError, match="the data set's transform draws"):
        list(iterate_items(Dataset(studies(4), transform=random)))
    with pytest.raises(ConfigError, match="the data set's transform draws"):
        list(iterate_items(Subset(Dataset(studies(4), transform=random), [0, 1])))


@pytest.mark.parametrize("kind", [OneOf, SomeOf, RandomOrder])
def test_what_draws_which_transform_is_random_too(kind: Any) -> None:
    drawing = kind([ScaleIntensityd("ct"), ScaleIntensityd("ct", minv=0.2)])
    assert random_parts(Compose([ScaleIntensityd("ct"), drawing])) == [kind.__name__]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ct": torch.rand(8, 8)}, r"study row 2, modality ct: is a tensor of the shape \[8, 8\]"),
        ({"ct": torch.rand(1, 8, 8) * 3}, "outside|a tensor without a declared range is in"),
        ({"ct": torch.full((1, 8, 8), float("nan"))}, r"nan to nan"),
        ({"ct": "a.png"}, "a path in some studies and an array in others"),
        ({"label": torch.tensor([0, 1])}, r"'label' holds no single value \(its shape \[2\]\)"),
        ({"ct": [1, 2]}, r"'ct' holds no single value \(its type list\)"),
        ({"ct": torch.rand(3, 8, 8)}, "has 3 channels, the modality 1"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict[str, Any], message: str) -> None:
    several = studies(6)
    several[1].update(change)
    with pytest.raises(DataError, match=message):
        read_studies(several, config())


def test_failures_of_a_transform_name_the_study() -> None:
    def broken(study: dict[str, Any]) -> Any:
        return [study] if study["patient"] == "p1" else study

    with pytest.raises(DataError, match="study row 3: 'prepare' made a list"):
        read_studies(studies(6), config(), broken)
    with pytest.raises(DataError, match=r"study row 1: 'prepare' failed \(KeyError"):
        read_studies(studies(6), config(), ScaleIntensityd("mr"))


def test_a_volume_of_monai_lies_as_its_file_does(tmp_path: Any) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (20, 24, 12)).astype(np.int16)
    affine = np.diag([-1.5, 1.5, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "ct.nii.gz")
    section = VolumeConfig(kind="volume", size=(8, 16, 16), spacing=(3, 2, 2), range=(0, 1000))
    expected = load_image(str(tmp_path / "ct.nii.gz"), section)
    loaded = Compose([LoadImaged("ct"), EnsureChannelFirstd("ct")])({"ct": str(tmp_path / "ct.nii.gz")})["ct"]
    assert isinstance(loaded, MetaTensor)
    np.testing.assert_array_equal(prepare(scan_of_tensor(loaded, section), section), expected)
    spaced = Spacingd("ct", pixdim=(2.0, 2.0, 3.0))({"ct": loaded})["ct"]
    assert scan_of_tensor(spaced, section).spacing == pytest.approx((3, 2, 2))
    # Of a tensor that came from nowhere nothing is known but its axes.
    plain = scan_of_tensor(MetaTensor(torch.rand(1, 8, 16, 24)), VolumeConfig(kind="volume"))
    assert plain.values.shape == (8, 16, 24, 1)
    assert plain.spacing is None


def test_files_through_a_pipeline_of_monai(tmp_path: Any) -> None:
    several = studies(4)
    for i, one in enumerate(several):
        np.save(tmp_path / f"{i}.npy", one["ct"][0].numpy() * 500)
        one["ct"] = str(tmp_path / f"{i}.npy")
    pipeline = Compose([
        LoadImaged("ct"),
        EnsureChannelFirstd("ct", channel_dim="no_channel"),
        ScaleIntensityd("ct"),
        Resized("ct", (16, 16)),
    ])  # fmt: skip
    wide = config(modalities={"ct": {"size": 16}})
    images = read_studies(several, wide, pipeline).images["ct"]
    assert len(images) == 4
    assert all(image.shape == (1, 16, 16) and image.max() == 65535 for image in images.values())
