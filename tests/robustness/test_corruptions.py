"""Properties that every kind of damage has, and what some of them are known to be."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import GibbsNoise, RandBiasField
from torch import Tensor

from mailnet.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt, scanner

SHAPES = {"grey": (6, 1, 40, 32), "colour": (6, 3, 33, 40), "volume": (4, 1, 9, 32, 30)}


def images(shape: tuple[int, ...]) -> Tensor:
    """Smooth bright shapes on a dark ground."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(*shape[:2], *[5] * (len(shape) - 2), generator=generator)
    mode = "bilinear" if len(shape) == 4 else "trilinear"
    x = torch.nn.functional.interpolate(coarse, size=shape[2:], mode=mode)
    return (x * 1.6 - 0.4).clamp(0, 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_damage_rises_repeats_and_stays_in_range(kind: str, shape: tuple[int, ...]) -> None:
    x = images(shape)
    kept = x.clone()
    changes = []
    for severity in SEVERITIES:
        found = corrupt(x, kind, severity, seeded())
        assert (found.shape, found.dtype) == (x.shape, x.dtype)
        assert 0 <= found.min() <= found.max() <= 1
        assert torch.equal(found, corrupt(x, kind, severity, seeded()))
        changes.append(float((found - x).abs().mean()))
    assert changes[0] > 0
    assert all(a < b for a, b in pairwise(changes)), changes
    assert torch.equal(x, kept)
    assert corrupt(x[:0], kind, 1, seeded()).shape == x[:0].shape


RANDOM = [kind for kind in CORRUPTIONS if kind not in ("blur", "pixelate", "jpeg", "contrast", "gibbs")]


@pytest.mark.parametrize("kind", RANDOM)
def test_every_image_has_its_own_damage(kind: str) -> None:
    x = images((1, 1, 32, 32)).expand(16, -1, -1, -1)
    found = corrupt(x, kind, 3, seeded())
    assert len(torch.unique(found.flatten(1), dim=0)) > 1
    assert not torch.equal(found, corrupt(x, kind, 3, seeded(1)))


def test_noise_has_its_deviation() -> None:
    x = torch.full((8, 1, 64, 64), 0.5)
    assert float((corrupt(x, "gaussian_noise", 2, seeded()) - x).std()) == pytest.approx(0.12, rel=0.02)
    assert float((corrupt(x, "speckle_noise", 2, seeded()) - x).std()) == pytest.approx(0.1, rel=0.02)
    # Poisson: the variance of a count is its mean.
    assert float(corrupt(x, "shot_noise", 1, seeded()).std()) == pytest.approx((0.5 / 60) ** 0.5, rel=0.02)
    # Without signal the magnitude of complex noise is Rayleigh's, of mean sqrt(pi / 2) sigma.
    dark = corrupt(torch.zeros_like(x), "rician_noise", 3, seeded())
    assert float(dark.mean()) == pytest.approx((np.pi / 2) ** 0.5 * 0.12, rel=0.02)


def test_a_bias_field_is_monais_and_numpys() -> None:
    powers = scanner.field_powers(3)
    drawn = torch.rand(1, len(powers), generator=seeded()) - 0.5
    field = scanner.polynomial_field(drawn.double(), powers, torch.Size((6, 10, 12)))[0]
    expected = RandBiasField(degree=3)._generate_random_field((6, 10, 12), 3, drawn[0].tolist())
    assert torch.allclose(field, torch.as_tensor(np.asarray(expected)).double(), atol=1e-6)
    flat = scanner.field_powers(2)
    matrix = np.zeros((4, 4))
    for (i, j), value in zip(flat, drawn[0].tolist(), strict=False):
        matrix[i, j] = value
    expected = np.polynomial.legendre.leggrid2d(np.linspace(-1, 1, 10), np.linspace(-1, 1, 12), matrix)
    field = scanner.polynomial_field(drawn[:, : len(flat)].double(), flat, torch.Size((10, 12)))[0]
    assert np.allclose(field.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("sides", [(32, 32), (24, 32)])
def test_truncation_is_monais(sides: tuple[int, int]) -> None:
    x = images((1, 1, *sides))
    found = scanner.gibbs(x, 0.6, seeded())[0]
    expected = torch.as_tensor(np.asarray(GibbsNoise(alpha=0.6)(x[0])))
    assert torch.allclose(found, expected, atol=1e-4)


def test_blur_and_contrast_keep_the_mean_and_a_flat_image() -> None:
    flat = torch.full((2, 1, 20, 24), 0.3)
    for kind in ("blur", "motion_blur", "pixelate", "contrast", "motion", "gibbs"):
        assert torch.allclose(corrupt(flat, kind, 4, seeded()), flat, atol=1e-5), kind
    x = images(SHAPES["grey"])
    assert torch.allclose(corrupt(x, "contrast", 3, seeded()).mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-5)


def test_a_box_covers_its_share() -> None:
    for shape in ((5, 1, 100, 100), (3, 2, 40, 40, 40)):
        covered = (corrupt(torch.ones(shape), "occlusion", 4, seeded()) == 0).float().mean(tuple(range(1, len(shape))))
        assert torch.allclose(covered, torch.full_like(covered, 0.2), atol=0.02)


def test_a_turn_to_and_fro_gives_the_middle_back() -> None:
    x = images((1, 1, 48, 48))
    for height, width in ((48, 48), (48, 30)):
        part = x[..., :width]
        turned = corrupt(part, "rotation", 2, seeded())
        back = torch.flip(corrupt(torch.flip(turned, [-1]), "rotation", 2, seeded()), [-1])  # mirrored turns back
        middle = (..., slice(height // 3, -height // 3), slice(width // 3, -width // 3))
        assert float((back[middle] - part[middle]).abs().mean()) < 0.01 < float((turned - part)[middle].abs().mean())


def test_what_is_wrong_is_named() -> None:
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"'fog' is not one of gaussian_noise"):
        corrupt(x, "fog", 1, seeded())
    with pytest.raises(ValueError, match="severity must be 1 to 5, got 6"):
        corrupt(x, "blur", 6, seeded())
    with pytest.raises(ValueError, match="images"):
        corrupt(torch.zeros(1, 8), "blur", 1, seeded())


def test_the_documentation_has_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "damage.md").read_text(encoding="utf-8")
    for kind, corruption in CORRUPTIONS.items():
        values = ", ".join(f"{value:g}" for value in corruption.values)
        assert re.search(rf"^\| `{kind}` \|[^|]*\| {values} \| {re.escape(corruption.meaning)} \|", text, re.M), kind
