"""Plain checks find plain faults, and little else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mailnet.trust.checks import STATISTICS, ImageChecks, fit_image_checks, image_statistics, measure_images

Array = np.ndarray[Any, Any]


def scan(seed: int, channels: int = 3, tint: float = 0.0) -> Array:
    """A smooth picture with noise on a black ground, its channels alike or tinted."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    disc = np.clip(1.2 - 1.5 * np.hypot(x - 0.2 * rng.normal(), y), 0, 1) * (0.5 + 0.2 * rng.random())
    grey = np.clip(disc + (disc > 0) * 0.05 * rng.normal(size=disc.shape), 0, 1)
    tints = 1 - tint * np.arange(channels)[:, None, None] / 2
    return np.asarray(grey * tints, dtype=np.float32)


GREY = fit_image_checks(scan(seed) for seed in range(300))
COLOUR = fit_image_checks(scan(seed, tint=0.6) for seed in range(300))


def test_statistics_by_hand() -> None:
    image = np.zeros((2, 2, 2))
    image[0, 0] = 1
    found = image_statistics(image)
    assert found == pytest.approx(
        {"mean": 0.25, "spread": 0.25, "dark": 0.5, "bright": 0, "detail": 0.25, "colour": 0.5}
    )
    volume = np.random.default_rng(0).random((1, 3, 4, 5))
    assert image_statistics(volume) == pytest.approx(image_statistics(volume[..., ::-1]), abs=1e-6)
    assert image_statistics(np.ones((1, 1, 1)))["detail"] == 0


@pytest.mark.parametrize("shape", [(300, 1, 40, 24), (5, 3, 300, 200), (3, 1, 5, 12, 9), (2, 1, 1, 7)])
def test_many_images_at_once_have_the_numbers_of_each(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).beta(0.4, 1, shape).astype(np.float32)
    images[0] = 0
    found = measure_images(images)
    for image, row in zip(images, found, strict=True):
        grey = image.mean(0)
        steps = [np.abs(np.diff(grey, axis=axis)).mean(dtype=float) for axis in (-2, -1) if grey.shape[axis] > 1]
        colour = (image.max(0) - image.min(0)).mean(dtype=float)
        share = [(grey <= 0.5 / 255).mean(), (grey >= 1 - 0.5 / 255).mean()]
        by_hand = [grey.mean(dtype=float), grey.std(dtype=float), *share, np.mean(steps), colour]
        np.testing.assert_allclose(row, by_hand, rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(row, [*image_statistics(image).values()])
    checks = fit_image_checks(found[:2])
    assert checks.check_statistics(found) == [checks.check(image) for image in images]
    assert measure_images(images[:0]).shape == (0, 6)


def test_images_like_those_of_training_pass() -> None:
    assert sum(bool(GREY.check(scan(seed))) for seed in range(1000, 1300)) <= 6


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_blank_image_is_blank_and_nothing_else(value: float) -> None:
    (finding,) = GREY.check(np.full((3, 24, 24), value))
    assert finding.code == "blank"
    assert "the image is blank" in str(finding)


def test_colour_and_its_lack() -> None:
    first = GREY.check(scan(1, tint=0.6))[0]
    assert (first.code, first.statistic) == ("colour", "colour")
    assert "colours where grey is expected" in str(first)
    assert COLOUR.check(scan(1))[0].code == "grey"
    assert not COLOUR.check(scan(1001, tint=0.6))
    assert not GREY.check(scan(1, tint=0.01))


def test_other_images_are_told_by_what_is_odd() -> None:
    rng = np.random.default_rng(0)
    odd = {
        "detail": rng.random((3, 24, 24)) * np.ones((3, 1, 1)),
        "mean": np.clip(scan(1) + 0.4, 0, 1),
        "bright": np.clip(scan(1) * 4, 0, 1),
    }
    for statistic, image in odd.items():
        assert statistic in {finding.statistic for finding in GREY.check(image)}


def test_few_images_expect_more_than_they_show() -> None:
    few = fit_image_checks([scan(seed) for seed in range(5)])
    seen = measure_images(np.stack([scan(seed) for seed in range(5)]))
    for values, (low, high) in zip(seen.T, few.ranges.values(), strict=True):
        assert 0 <= low <= min(values) <= max(values) < high
    assert few.check(np.zeros((3, 24, 24)))[0].code == "blank"
    assert fit_image_checks(seen).ranges == few.ranges


def test_blank_images_of_training_are_no_fault() -> None:
    checks = fit_image_checks([np.zeros((1, 8, 8))] * 10 + [scan(seed, 1) for seed in range(10)])
    assert not checks.check(np.zeros((1, 8, 8)))


def test_checks_to_json_and_back() -> None:
    again = ImageChecks.from_dict(json.loads(json.dumps(GREY.as_dict(), allow_nan=False)))
    assert again == GREY
    assert json.dumps([finding.as_dict() for finding in again.check(np.zeros((3, 8, 8)))])
    good = GREY.as_dict()
    for change in (
        {"ranges": {"mean": [0, 1]}},
        {"ranges": {key: [1, 0] for key in STATISTICS}},
        {"images": -1},
        {"rate": 2},
        {"ranges": {key: [1] for key in STATISTICS}},
    ):
        with pytest.raises(ValueError, match="checks"):
            ImageChecks.from_dict(good | change)


def test_what_is_no_image_is_refused() -> None:
    for wrong in (np.zeros((8, 8)), np.zeros((1, 0, 8)), np.full((1, 4, 4), 1.5), np.full((1, 4, 4), np.nan)):
        with pytest.raises(ValueError, match="an image must"):
            image_statistics(wrong)
    with pytest.raises(ValueError, match="a training image"):
        fit_image_checks([])
    with pytest.raises(ValueError, match="rate"):
        fit_image_checks([scan(0)], rate=0)
