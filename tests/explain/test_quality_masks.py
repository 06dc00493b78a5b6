"""A mask lands where its image's lesion lands, whatever the geometry."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.data.images import load_image
from mailnet.data.phantom import generate
from mailnet.errors import DataError
from mailnet.explain.quality import load_mask, phantom_masks

BOX = (slice(10, 40), slice(30, 70))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    image[BOX] = 255
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(image[..., 0] > 0).save(tmp_path / "mask.png")
    return str(tmp_path / "image.png"), str(tmp_path / "mask.png")


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
def test_a_mask_lies_on_its_lesion(pair: tuple[str, str], resize: Any) -> None:
    section = ImageConfig(channels=3, size=(48, 32), resize=resize, range=(0, 255))
    image, mask = load_image(pair[0], section), load_mask(pair[1], section, pair[0])
    assert mask.shape == (48, 32)
    np.testing.assert_array_equal(mask, image[0] >= 128)
    assert 0.05 < mask.mean() < 0.8


def test_the_plane_of_the_image_is_that_of_the_mask(tmp_path: Path) -> None:
    volume = np.zeros((5, 20, 20), dtype=np.uint8)
    volume[3, 4:9, 6:12] = 200
    labels = (volume > 0).astype(np.int16) * 4
    labels[1, 0, 0] = 1
    np.savez(tmp_path / "v.npz", image=volume, mask=labels)
    image, mask = f"{tmp_path}/v.npz!image", f"{tmp_path}/v.npz!mask"
    section = ImageConfig(size=(20, 20), neighbours=1, slice=2)
    for plane in ("!slice/3", f"!largest/{mask}"):
        found = load_mask(mask, section, image + plane)
        np.testing.assert_array_equal(found, volume[3] > 0)
    assert not load_mask(mask, section, image).any()


def test_masks_of_volumes_are_resampled_as_they_are(tmp_path: Path) -> None:
    volume = np.zeros((10, 20, 24), dtype=np.uint8)
    volume[2:8, 4:16, 6:20] = 255
    np.savez(tmp_path / "v.npz", image=volume, mask=volume > 0)
    section = VolumeConfig(kind="volume", size=(8, 16, 16))
    image = load_image(f"{tmp_path}/v.npz!image", section)
    mask = load_mask(f"{tmp_path}/v.npz!mask", section, f"{tmp_path}/v.npz!image")
    np.testing.assert_array_equal(mask, image[0] >= 128)


def test_a_mask_of_another_size_is_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    Image.fromarray(np.ones((30, 50), dtype=bool)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match=r"small\.png: has the size"):
        load_mask(str(tmp_path / "small.png"), ImageConfig(channels=3), pair[0])


def test_a_phantom_lesion_counts_only_where_it_shows() -> None:
    studies = generate(20, size=32)
    findings = studies.labels["finding"]
    found = phantom_masks(studies.masks, findings)
    assert list(found) == ["mri", "ct", "spect"]
    shown = {name: set(findings[masks.any((1, 2))].tolist()) for name, masks in found.items()}
    # 0 normal, 1 calcified, 2 oedema, 3 tumour, 4 infarct
    assert shown == {"mri": {2, 3}, "ct": {1}, "spect": {3, 4}}
