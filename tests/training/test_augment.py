from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.nn.batch import Batch
from mailnet.training.augment import (
    PRESETS,
    VOLUME_PRESETS,
    Augmentation,
    augment,
    augment_batch,
    random_resized_crop,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator(9))


def test_every_name_of_the_configuration_has_a_preset() -> None:
    for presets, section in ((PRESETS, ImageConfig), (VOLUME_PRESETS, VolumeConfig)):
        assert set(presets) == set(section.model_fields["augment"].annotation.__args__)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(5, 1, 20, 32), (3, 3, 16, 16)])
def test_result_stays_in_range_and_repeats(name: str, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    y = augment(x, PRESETS[name], generator())
    assert y.shape == x.shape
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    assert torch.equal(y, augment(x, PRESETS[name], generator()))
    assert torch.equal(x, images(*shape))
    assert torch.equal(y, x) == (name == "none")


def test_large_images_taken_a_few_at_a_time_are_all_there() -> None:
    x = torch.linspace(0.1, 0.9, 6).view(6, 1, 1, 1).expand(6, 1, 300, 300).contiguous()
    y = augment(x, Augmentation(contrast=0.1), generator())
    torch.testing.assert_close(y.mean((1, 2, 3)), x.mean((1, 2, 3)))


def test_mirroring_is_exact_and_happens_to_half() -> None:
    x = images(1, 1, 12, 8).repeat(400, 1, 1, 1)
    y = augment(x, Augmentation(flip_horizontal=True), generator())
    mirrored = torch.tensor([torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(y, x, strict=True)])
    kept = torch.tensor([torch.allclose(a, b, atol=1e-5) for a, b in zip(y, x, strict=True)])
    assert bool((mirrored ^ kept).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("name", ["auto", "radiograph", "slice", "ultrasound"])
def test_top_stays_top(name: str) -> None:
    x = torch.zeros(200, 1, 16, 16)
    x[:, :, :8] = 1
    y = augment(x, PRESETS[name], generator())
    assert bool((y[:, :, :8].mean((1, 2, 3)) > y[:, :, 8:].mean((1, 2, 3))).all())


@pytest.mark.parametrize("name", ["auto", "radiograph"])
def test_left_stays_left(name: str) -> None:
    x = torch.zeros(200, 1, 16, 16)
    x[..., :8] = 1
    y = augment(x, PRESETS[name], generator())
    assert bool((y[..., :8].mean((1, 2, 3)) > y[..., 8:].mean((1, 2, 3))).all())


def test_rotation_keeps_shapes_of_images_that_are_not_square() -> None:
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = ((rows - 19.5) ** 2 + (columns - 39.5) ** 2).sqrt()
    x = (1 - disc / 20).clamp(0, 1)[None, None].repeat(8, 1, 1, 1)
    y = augment(x, Augmentation(rotate=90.0), generator())
    torch.testing.assert_close(y, x, atol=0.02, rtol=0)


def test_rotation_turns_by_the_angle() -> None:
    x = torch.zeros(64, 1, 65, 65)
    x[:, :, 32, 52] = 1  # 20 pixels right of the centre
    x = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    y = augment(x, Augmentation(rotate=45.0), generator())
    weight = y / y.sum((2, 3), keepdim=True)
    row = (weight.sum(3) * (torch.arange(65.0) - 32)).sum(2)
    column = (weight.sum(2) * (torch.arange(65.0) - 32)).sum(2)
    torch.testing.assert_close((row**2 + column**2).sqrt(), torch.full((64, 1), 20.0), atol=0.2, rtol=0)
    angles = torch.atan2(row, column)
    assert float(angles.abs().max()) <= math.radians(45) + 0.02
    assert float(angles.max()) > 0.5
    assert float(angles.min()) < -0.5


def test_each_modality_draws_its_own() -> None:
    x = images(1, 1, 16, 16).repeat(4, 1, 1, 1)
    here = torch.ones(4, dtype=torch.bool)
    batch = Batch({"ct": x, "mri": x, "clinical": torch.ones(4, 2)}, {"ct": here, "mri": here, "clinical": here})
    changed = augment_batch(batch, {"ct": "slice", "mri": "slice"}, generator())
    assert not torch.equal(changed.inputs["ct"], changed.inputs["mri"])
    assert changed.inputs["clinical"] is batch.inputs["clinical"]


@pytest.mark.parametrize("name", VOLUME_PRESETS)
@pytest.mark.parametrize("shape", [(5, 1, 8, 10, 12), (3, 3, 9, 9, 9)])
def test_volumes_stay_in_range_and_repeat(name: str, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    y = augment(x, VOLUME_PRESETS[name], generator())
    assert y.shape == x.shape
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    assert torch.equal(y, augment(x, VOLUME_PRESETS[name], generator()))
    assert torch.equal(x, images(*shape))
    assert torch.equal(y, x) == (name == "none")


def test_no_axis_of_a_volume_is_mirrored() -> None:
    for axis in (2, 3, 4):
        x = torch.zeros(60, 1, 16, 16, 16)
        x.narrow(axis, 0, 8).fill_(1)
        y = augment(x, VOLUME_PRESETS["auto"], generator())
        halves = [y.narrow(axis, start, 8).mean((1, 2, 3, 4)) for start in (0, 8)]
        assert bool((halves[0] > halves[1]).all())


def test_a_ball_stays_a_ball_in_a_volume_of_unequal_sides() -> None:
    axes = torch.meshgrid(*[torch.arange(float(n)) - (n - 1) / 2 for n in (20, 30, 40)], indexing="ij")
    distance = torch.stack(axes).square().sum(0).sqrt()
    x = (1 - distance / 10).clamp(0, 1)[None, None].repeat(6, 1, 1, 1, 1)
    y = augment(x, Augmentation(rotate=60.0, tilt=60.0), generator())
    torch.testing.assert_close(y, x, atol=0.05, rtol=0)
    assert not torch.equal(y, x)


@pytest.mark.parametrize(("how", "axis"), [({"rotate": 30.0}, 2), ({"tilt": 30.0}, 0)])
def test_rotation_is_within_planes_and_tilt_across_them(how: dict[str, float], axis: int) -> None:
    x = torch.zeros(40, 1, 21, 21, 21)
    x[:, :, 10, 9:12, 16:19] = 1  # right of the centre, in the middle plane
    y = augment(x, Augmentation(**how), generator())  # type: ignore[arg-type]
    weight = y / y.sum((2, 3, 4), keepdim=True)
    plane = (weight.sum((3, 4)) * (torch.arange(21.0) - 10)).sum(2).abs().max()
    row = (weight.sum((2, 4)) * (torch.arange(21.0) - 10)).sum(2).abs().max()
    moved, kept = (row, plane) if axis == 2 else (plane, row)
    assert float(moved) > 1.5
    assert float(kept) < 0.1 or axis == 0


def test_volumes_and_images_of_one_batch_take_their_own_presets() -> None:
    here = torch.ones(2, dtype=torch.bool)
    batch = Batch({"ct": images(2, 1, 8, 8, 8), "xray": images(2, 1, 8, 8)}, {"ct": here, "xray": here})
    changed = augment_batch(batch, {"ct": "auto", "xray": "auto"}, generator())
    assert changed.inputs["ct"].shape == (2, 1, 8, 8, 8)
    assert not torch.equal(changed.inputs["xray"], batch.inputs["xray"])


def test_a_crop_is_a_stretched_part_of_each_side() -> None:
    sides = (8, 16, 24)
    kept = []
    for axis, side in enumerate(sides):
        # A ramp along one axis stays one along it, and how far it rises is the share of the side.
        shape = [side if k == axis else 1 for k in range(3)]
        ramp = ((torch.arange(side) + 0.5) / side).view(1, 1, *shape).expand(300, 1, *sides)
        y = random_resized_crop(ramp, 0.5, generator())
        assert y.shape == ramp.shape
        line = y.movedim(2 + axis, -1).flatten(1, 3)  # (300, ..., side)
        torch.testing.assert_close(line, line[:, :1].expand_as(line))
        inner = line[:, 0, 1:-1]  # half a pixel at either edge may repeat it
        rise = (inner[:, 1:] - inner[:, :-1]) * side
        torch.testing.assert_close(rise, rise[:, :1].expand_as(rise), atol=1e-3, rtol=0)
        share = rise[:, 0]
        assert 0.499 < float(share.min()) < 0.55 < 0.95 < float(share.max()) < 1.001
        middle = line[:, 0].mean(1)
        assert float(((middle - 0.5).abs() - (1 - share) / 2).max()) < 1e-3  # never beyond the image
        assert float(middle.std()) > 0.05
        kept.append(share)
    assert float(torch.corrcoef(torch.stack(kept)).fill_diagonal_(0).abs().max()) < 0.2


def test_a_crop_repeats_and_a_whole_one_changes_nothing() -> None:
    x = images(4, 3, 12, 20)
    assert torch.equal(random_resized_crop(x, 0.5, generator()), random_resized_crop(x, 0.5, generator()))
    torch.testing.assert_close(random_resized_crop(x, 1.0, generator()), x, atol=1e-5, rtol=0)
