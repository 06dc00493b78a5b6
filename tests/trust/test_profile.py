"""The profile of an image, and that it tells kinds of images apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mailnet.trust import fit_alarm, fit_mahalanobis, image_profile
from mailnet.trust.profile import BANDS, CELLS, QUANTILES, image_profiles

Array = np.ndarray[Any, Any]


def picture(kind: str, seed: int, shape: tuple[int, ...] = (1, 32, 32)) -> Array:
    """A disc with noise, the same upside down in brightness, or a wave: all of about one brightness."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : shape[-2] * 1j, -1 : 1 : shape[-1] * 1j]
    disc = np.clip(1 - np.hypot(x - 0.1 * rng.normal(), y - 0.1 * rng.normal()), 0, 1)
    plain = {"disc": disc, "ring": 1 - disc, "wave": 0.5 + 0.4 * np.sin(9 * x + rng.normal())}[kind]
    return np.asarray(np.clip(plain + 0.05 * rng.normal(size=shape), 0, 1))


def test_parts_of_the_profile() -> None:
    image = np.zeros((1, 16, 24))
    image[:, :2, :3] = 1
    found = image_profile(image)
    assert found.shape == (81,)
    assert found.dtype == np.float32
    assert found[:64].tolist() == [1.0, *[0.0] * 63]
    assert found[64:74].tolist() == [0.0] * 10
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * 0.25 * np.arange(32))
    bands = image_profile(np.tile(wave, (1, 32, 1)))[74:]
    # A wave of a quarter cycle a pixel has all its power, 1/8, in the band from 0.2 to 0.3.
    assert bands[4] == pytest.approx(np.log10(0.125), abs=1e-3)
    assert np.delete(bands, 4) == pytest.approx(-6, abs=0.1)


def test_colours_volumes_and_small_images() -> None:
    tinted = np.full((3, 8, 8), 0.5)
    tinted[0] += 0.3
    assert image_profile(tinted)[81:] == pytest.approx([0.2, -0.1, -0.1])
    volume = np.random.default_rng(0).random((1, 20, 12, 16))
    assert image_profile(volume).shape == (81,)
    assert image_profile(volume)[0] == pytest.approx(volume[0, :5, :3, :4].mean(), abs=1e-6)
    assert np.isfinite(image_profile(np.zeros((1, 3, 5)))).all()
    with pytest.raises(ValueError, match="must lie in"):
        image_profile(tinted + 1)


def by_hand(image: Array) -> Array:
    """The profile of one image, cell by cell and wave by wave."""
    grey = image.mean(0)
    count = CELLS[grey.ndim]
    for axis, size in enumerate(grey.shape):
        if size < count:
            grey = np.take(grey, np.arange(count) * size // count, axis=axis)
    cuts = [np.r_[np.arange(count) * size // count, size] for size in grey.shape]
    cells = [
        grey[tuple(slice(cut[k], cut[k + 1]) for cut, k in zip(cuts, place, strict=True))].mean()
        for place in np.ndindex(*[count] * grey.ndim)
    ]
    grey = image.mean(0)
    planes = grey[None] if grey.ndim == 2 else grey[np.unique(np.linspace(0, len(grey) - 1, 16).astype(int))]
    power = np.mean([np.square(np.abs(np.fft.fft2(plane - plane.mean()) / plane.size)) for plane in planes], 0)
    waves = np.hypot(*np.meshgrid(*(np.fft.fftfreq(size) for size in grey.shape[-2:]), indexing="ij"))
    place = np.searchsorted(BANDS, np.round(waves, 12), side="right")
    bands = [np.log10(1e-6 + power[place == k].sum()) for k in range(len(BANDS) + 1)]
    channels = [(channel - image.mean(0)).mean() for channel in image] if len(image) > 1 else []
    return np.array([*cells, *np.quantile(image.mean(0), QUANTILES), *bands, *channels])


@pytest.mark.parametrize("shape", [(300, 1, 40, 24), (5, 3, 300, 200), (3, 1, 20, 12, 9), (2, 1, 3, 5), (2, 2, 1, 1)])
def test_many_images_at_once_have_the_profiles_of_each(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).beta(2, 5, shape).astype(np.float32)
    images[0] = 0
    found = image_profiles(images)
    for image, row in list(zip(images, found, strict=True))[:5]:
        np.testing.assert_allclose(row, by_hand(image.astype(np.float64)), atol=2e-6)
        np.testing.assert_array_equal(row, image_profile(image))
    assert image_profiles(images[:0]).shape == (0, found.shape[1])


def test_other_kinds_of_images_sound_the_alarm() -> None:
    profiles = {
        kind: [np.stack([image_profile(picture(kind, seed + start)) for seed in range(60)]) for start in (0, 100, 200)]
        for kind in ("disc", "ring", "wave")
    }
    for kind, (train, val, test) in profiles.items():
        score = fit_mahalanobis(train)
        alarm = fit_alarm(score.score(val), 0.05)
        assert alarm.sounds(score.score(test)).mean() < 0.15
        for other in set(profiles) - {kind}:
            assert alarm.sounds(score.score(profiles[other][2])).mean() > 0.95
