from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mailnet.data.config import ImageConfig
from mailnet.data.preprocess import prepare_array, to_unit
from mailnet.errors import DataError

RANDOM = np.random.default_rng(0)


def config(**values: Any) -> ImageConfig:
    return ImageConfig(**{"size": (16, 16), **values})


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_that_fits_is_unchanged(dtype: Any, high: int, channels: int) -> None:
    image = RANDOM.integers(0, high + 1, (16, 16, channels)).astype(dtype)
    seen = prepare_array(image, config(channels=channels))
    assert seen.dtype == dtype
    np.testing.assert_array_equal(seen, image.transpose(2, 0, 1))


def test_the_declared_range_becomes_zero_and_one() -> None:
    image = np.linspace(-1000, 1000, 256, dtype=np.float32).reshape(16, 16)
    unit = to_unit(prepare_array(image, config(range=(-1000, 1000))))
    np.testing.assert_allclose(unit[0], (image + 1000) / 2000, atol=1 / 65535)
    signed = prepare_array(image.astype(np.int16), config(range=(-1024, 3071)))
    np.testing.assert_allclose(to_unit(signed)[0], (image.astype(np.int16) + 1024.0) / 4095, atol=1 / 65535)


def test_the_narrow_range_of_an_8_bit_file_is_spread() -> None:
    image = np.full((16, 16), 50, np.uint8)
    assert to_unit(prepare_array(image, config(range=(0, 100)))).max() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(40, 20), (10, 33), (16, 40), (300, 5)])
def test_resizing_keeps_shape_and_range(resize: Any, dtype: Any, shape: tuple[int, int]) -> None:
    image = np.full(shape, 200, dtype)
    seen = prepare_array(image, config(resize=resize))
    assert seen.shape == (1, 16, 16)
    assert seen.dtype == dtype
    assert abs(int(seen.max()) - 200) <= 1
    if resize != "letterbox":
        assert abs(int(seen.min()) - 200) <= 1


def test_letterbox_centres_and_crop_cuts() -> None:
    image = np.zeros((20, 40), np.uint8)
    image[:, :10], image[:, 10:30] = 50, 200
    boxed = prepare_array(image, config(resize="letterbox"))[0]
    assert boxed[:4].max() == 0
    assert boxed[12:].max() == 0
    assert boxed[8, 8] == 200
    assert abs(int(boxed[8, 1]) - 50) <= 1
    cropped = prepare_array(image, config(resize="crop"))[0]
    assert cropped.min() >= 180


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_shrinking_does_not_alias(dtype: Any) -> None:
    high = np.iinfo(dtype).max
    stripes = np.tile(np.array([0, high], dtype), (160, 80))
    seen = to_unit(prepare_array(stripes, config()))
    assert np.abs(seen - 0.5).max() < 0.05


def test_8_and_16_bits_shrink_alike() -> None:
    image = RANDOM.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    low = to_unit(prepare_array(image, config(channels=3)))
    high = to_unit(prepare_array(image.astype(np.uint16) * 257, config(channels=3)))
    np.testing.assert_allclose(low, high, atol=1.5 / 255)


def test_channels_convert_only_where_allowed() -> None:
    colour = np.zeros((16, 16, 3), np.uint8)
    colour[..., 1] = 200
    with pytest.raises(DataError, match="has 3 channels, the modality 1") as caught:
        prepare_array(colour, config())
    assert "convert: true" in str(caught.value.remedy)
    assert prepare_array(colour, config(convert=True))[0, 0, 0] == round(0.587 * 200)
    grey = colour[..., 1]
    with pytest.raises(DataError, match="has 1 channel, the modality 3"):
        prepare_array(grey, config(channels=3))
    np.testing.assert_array_equal(prepare_array(grey, config(channels=3, convert=True)), np.full((3, 16, 16), 200))


def test_transparency_is_laid_on_black_where_allowed() -> None:
    image = np.full((16, 16, 4), 200, np.uint8)
    image[..., 3] = 51
    with pytest.raises(DataError, match="has 4 channels"):
        prepare_array(image, config(channels=3))
    assert prepare_array(image, config(channels=3, convert=True)).max() == 40


@pytest.mark.parametrize(
    ("image", "values", "text"),
    [
        (np.full((16, 16), 120, np.uint8), {"range": (0, 100)}, r"from 120 to 120, outside the declared range \[0"),
        (np.full((16, 16), -1.5, np.float32), {"range": (0, 1)}, "from -1.5 to -1.5, outside"),
        (np.full((16, 16), 0.5, np.float32), {}, "float32 values .* no range"),
        (np.full((16, 16), 5, np.int32), {}, "int32 values .* no range"),
        (np.full((16, 16), np.nan, np.float32), {"range": (0, 1)}, "NaN"),
        (np.full((16, 16), np.inf, np.float32), {"range": (0, 1)}, "NaN or infinite"),
        (np.zeros((4, 16, 16, 3), np.uint8), {}, "has 4 planes"),
        (np.zeros((3, 16, 16), np.uint8), {}, r"shape \[3, 16, 16\]"),
        (np.zeros((0, 16), np.uint8), {}, r"shape \[0, 16\]"),
        (np.zeros((16, 16), complex), {}, "complex128"),
    ],
)
def test_what_does_not_fit_says_what_was_seen(image: Any, values: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        prepare_array(image, config(**values))
    assert caught.value.remedy


def test_masks_are_images() -> None:
    assert prepare_array(np.eye(16, dtype=bool), config()).max() == 255
