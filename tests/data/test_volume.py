from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom_files import write, write_series
from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.data.images import load_image
from mailnet.data.preprocess import prepare, prepare_array, to_unit
from mailnet.data.resample import Axis, fitted
from mailnet.data.scan import Reading, Scan, reading_of, scan_of_array
from mailnet.errors import DataError

RANDOM = np.random.default_rng(0)


def config(**values: Any) -> VolumeConfig:
    return VolumeConfig(**{"kind": "volume", "size": 16, **values})


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 255), (np.uint16, 65535)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
def test_a_volume_that_fits_is_unchanged(dtype: Any, high: int, channels: int, resize: Any) -> None:
    volume = RANDOM.integers(0, high + 1, (16, 16, 16, channels)).astype(dtype)
    seen = prepare_array(volume, config(channels=channels, resize=resize))
    assert seen.dtype == dtype
    np.testing.assert_array_equal(seen, volume.transpose(3, 0, 1, 2))


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(40, 20, 7), (10, 33, 16), (2, 100, 3)])
def test_resizing_keeps_shape_and_range(resize: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    seen = prepare_array(np.full(shape, 200, dtype), config(resize=resize))
    assert seen.shape == (1, 16, 16, 16)
    assert seen.dtype == dtype
    assert abs(int(seen.max()) - 200) <= 1
    if resize != "letterbox":
        assert abs(int(seen.min()) - 200) <= 1


def test_each_axis_is_filtered_as_pillow_filters() -> None:
    for inside, size in [(40, 16), (7, 16), (33, 8)]:
        row = RANDOM.random((1, inside)).astype(np.float32)
        expected = np.asarray(Image.fromarray(row).resize((size, 1), Image.Resampling.BILINEAR))[0]
        np.testing.assert_allclose(Axis(inside, size, 0, inside / size, 0, size).matrix() @ row[0], expected, atol=1e-5)


def test_shrinking_does_not_alias() -> None:
    for axis in range(3):
        stripes = np.moveaxis(np.tile(np.array([0, 255], np.uint8), (64, 64, 32)), 2, axis)
        assert np.abs(to_unit(prepare_array(stripes, config())) - 0.5).max() < 0.05


def test_letterbox_and_crop_keep_the_proportions_in_millimetres() -> None:
    # 8 planes 5 mm apart of 40 x 20 mm: a cube of 40 mm that is half as wide.
    values = np.full((8, 40, 20, 1), 100, np.uint8)
    boxed = prepare(Scan(values, spacing=(5.0, 1.0, 1.0)), config())[0]
    assert np.argwhere(boxed).min(0).tolist() == [0, 0, 4]
    assert np.argwhere(boxed).max(0).tolist() == [15, 15, 11]
    values[:, :10] = values[:, 30:] = 0
    cropped = prepare(Scan(values, spacing=(5.0, 1.0, 1.0)), config(resize="crop"))[0]
    assert cropped[:, 1:-1].min() == 100
    alone = prepare_array(values, config())[0]
    assert np.argwhere(alone.sum((1, 2))).ravel().tolist() == [6, 7, 8]


def test_an_image_out_of_a_volume_keeps_its_proportions_in_millimetres() -> None:
    values = np.full((1, 8, 40, 1), 100, np.uint8)
    seen = prepare(Scan(values, spacing=(1.0, 5.0, 1.0)), ImageConfig(size=(16, 16)))
    assert (seen == 100).all()
    flat = prepare(Scan(values), ImageConfig(size=(16, 16)))
    assert np.argwhere(flat[0].any(1)).ravel().tolist() == [6, 7, 8]


def test_frames_have_the_proportions_of_a_single_one(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(1, 255, (3, 32, 32)).astype(np.uint8)
    one = write(tmp_path / "1.dcm", frames[1], PixelSpacing=[2, 1])
    several = write(tmp_path / "3.dcm", frames.reshape(96, 32), PixelSpacing=[2, 1], NumberOfFrames=3, Rows=32)
    expected = load_image(str(one), ImageConfig(size=(32, 32)))
    assert not expected[0, :, 0].any()
    np.testing.assert_array_equal(load_image(str(several), ImageConfig(size=(32, 32), slice=1)), expected)
    with pytest.raises(DataError, match="does not say how far"):
        load_image(str(several), VolumeConfig(kind="volume", spacing=(1, 1, 1)))
    with pytest.raises(DataError, match="names a plane of a file"):
        load_image(f"{several}!slice/1", VolumeConfig(kind="volume"))


def test_spacing_is_reached_from_the_centre() -> None:
    ramp = np.broadcast_to(np.arange(64.0)[:, None, None, None], (64, 20, 10, 1)).astype(np.float32)
    scan = Scan(ramp, spacing=(0.5, 1.0, 2.0))
    unit = to_unit(prepare(scan, config(spacing=1, range=(0, 63))))[0]
    # 32 mm deep, of which the 16 mm in the middle are taken; 20 mm high and wide.
    np.testing.assert_allclose(unit[:, 8, 8] * 63, np.arange(16) * 2 + 16.5, atol=0.01)
    padded = to_unit(prepare(scan, config(spacing=2, range=(-1, 63))))[0]
    assert np.argwhere(padded.any((1, 2))).ravel().tolist() == list(range(16))
    assert np.argwhere(padded.any((0, 2))).ravel().tolist() == list(range(3, 13))


def test_spacing_that_no_file_says_is_an_error() -> None:
    for spacing in (None, (float("nan"), 1.0, 1.0)):
        with pytest.raises(DataError, match="how far") as caught:
            prepare(Scan(np.zeros((9, 9, 9, 1), np.uint8), spacing=spacing), config(spacing=1))
        assert "'spacing'" in str(caught.value.remedy)


def test_window_range_percentiles_and_units() -> None:
    ct = Scan(np.linspace(-1000, 1000, 16**3).reshape(16, 16, 16, 1).astype(np.float32), units="HU")
    flat = ct.values[..., 0]
    seen = to_unit(prepare(ct, config(window={"center": 40, "width": 80}, range=(-1024, 3071), units="hu")))[0]
    np.testing.assert_allclose(seen, (flat / 80).clip(0, 1), atol=1e-5)
    low, high = np.percentile(flat, [1, 99])
    seen = to_unit(prepare(ct, config(percentiles=(1, 99))))[0]
    np.testing.assert_allclose(seen, ((flat - low) / (high - low)).clip(0, 1), atol=1e-4)
    with pytest.raises(DataError, match="holds values in HU, the modality declares SUV"):
        prepare(ct, config(units="SUV", range=(-1000, 1000)))
    with pytest.raises(DataError, match="from -1000 to 1000, outside the declared range"):
        prepare(ct, config(window={"center": 40, "width": 80}, range=(-900, 3071)))
    assert prepare(Scan(ct.values), config(units="HU", range=(-1000, 1000))).max() == 65535
    with pytest.raises(DataError, match="has no window of its own") as caught:
        prepare(ct, config(window="file"))
    assert "'window'" in str(caught.value.remedy)
    windowed = Scan((flat / 2000 + 0.5)[..., None], unit_range=True, units="HU")
    np.testing.assert_allclose(to_unit(prepare(windowed, config(window="file")))[0], flat / 2000 + 0.5, atol=1e-5)


def test_percentiles_of_a_file_of_one_value() -> None:
    assert prepare_array(np.full((9, 9, 9), 7, np.int16), config(percentiles=(1, 99))).max() == 0
    spot = np.zeros((16, 16, 16), np.int16)
    spot[3, 4, 5] = 9
    assert np.argwhere(prepare_array(spot, config(percentiles=(1, 99)))[0]).tolist() == [[3, 4, 5]]


def test_8_bits_with_a_window_become_16() -> None:
    seen = prepare_array(np.full((16, 16, 16), 60, np.uint8), config(window={"center": 60, "width": 40}))
    assert seen.dtype == np.uint16
    assert (seen == 32768).all()
    image = prepare_array(np.full((16, 16), 60, np.uint8), ImageConfig(size=(16, 16), percentiles=(0, 100)))
    assert image.dtype == np.uint16


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.zeros((1, 9, 9, 1), np.uint8), "has one plane"),
        (np.zeros((9, 9, 9, 3), np.uint8), "has 3 channels, the modality 1"),
        (np.zeros((9, 9, 9, 20), np.uint8), r"the shape \[9, 9, 9, 20\], that is 20 channels"),
        (np.full((9, 9, 9, 1), np.nan), "NaN"),
        (np.full((9, 9, 9, 1), 1e300), r"beyond 1e\+38"),
        (np.zeros((9, 9, 9, 1), np.float64), "no range of their own"),
        (np.zeros((9, 9, 9, 1), complex), "complex128"),
    ],
)
def test_what_does_not_fit_says_what_was_seen(values: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        prepare(Scan(values), config())
    assert caught.value.remedy


def test_arrays_are_taken_as_the_modality_asks() -> None:
    volume = np.stack([np.full((16, 16), 10 * k, np.uint8) for k in range(9)])
    assert prepare_array(volume, config()).shape == (1, 16, 16, 16)
    around = prepare_array(volume, ImageConfig(size=(16, 16), slice="middle", neighbours=2))
    assert around[:, 0, 0].tolist() == [20, 30, 40, 50, 60]
    colour = np.stack([volume, volume + 1, volume + 2], axis=-1)
    both = prepare_array(colour, ImageConfig(size=(16, 16), slice=0, neighbours=1, channels=3))
    assert both[:, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 10, 11, 12]
    picture = scan_of_array(np.zeros((16, 16, 3), np.uint8), Reading())
    assert picture.values.shape == (1, 16, 16, 3)
    with pytest.raises(DataError, match="has 9 planes, a 2-D modality takes one"):
        prepare(Scan(volume[..., None]), ImageConfig(size=(16, 16)))
    with pytest.raises(DataError, match="has no plane 9"):
        prepare_array(volume, ImageConfig(size=(16, 16), slice=9))
    with pytest.raises(DataError, match="too many voxels"):
        prepare_array(volume, config(max_voxels=100))


def test_an_image_with_neighbours_shares_one_scale() -> None:
    volume = np.stack([np.full((16, 16), 10 * k, np.float32) for k in range(3)])
    section = ImageConfig(size=(16, 16), slice=1, neighbours=1, percentiles=(0, 100))
    np.testing.assert_allclose(to_unit(prepare_array(volume, section))[:, 0, 0], [0, 0.5, 1], atol=1e-4)
    assert reading_of(section).planes is not None


def test_a_large_volume_needs_little_memory_beside_itself() -> None:
    values = np.zeros((128, 256, 256, 1), np.int16)
    tracemalloc.start()
    prepare(Scan(values, spacing=(1.0, 1.0, 1.0)), config(size=(32, 32, 32), range=(-1000, 1000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < values.nbytes / 4


@pytest.mark.parametrize("section", [{"convert": True, "percentiles": (0, 100)}, {"channels": 3, "range": (-1, 300)}])
def test_a_large_picture_needs_little_memory_beside_itself(section: dict[str, Any]) -> None:
    values = np.zeros((1, 4000, 1000, 3), np.uint8)
    values[..., 0] = 200
    tracemalloc.start()
    prepare(Scan(values), ImageConfig(size=(16, 16), **section))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One channel as floating-point numbers, and its copy.
    assert peak < 4000 * 1000 * 4 * 2.5 + 2**25


def test_an_axis_longer_than_the_size_is_cut_only_by_crop() -> None:
    assert [axis.count for axis in fitted((10, 20, 40), (16, 16, 16), (1, 1, 1), "letterbox")] == [4, 8, 16]
    crop = fitted((10, 20, 40), (16, 16, 16), (1, 1, 1), "crop")
    assert [axis.begin for axis in crop] == [0, 5, 15]


def test_the_plane_that_a_dicom_segmentation_marks_most(data_folder: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "series", np.arange(3, dtype=np.uint16)[:, None, None] + np.zeros((16, 16), "u2"))
    mask = data_folder / "io_samples" / "dicom" / "highdicom" / "seg_image_ct_binary.dcm"
    section = ImageConfig(size=(16, 16), slice="largest", mask="mask", range=(-1024, -1022), neighbours=1)
    planes = load_image(f"{series}!largest/{mask}", section)
    assert planes[:, 8, 8].tolist() == [0, 32768, 65535]
    write_series(tmp_path / "longer", np.zeros((4, 16, 16), np.uint16))
    with pytest.raises(DataError, match=r"has the shape \[4, 16, 16\] and its mask \[3, 16, 16\]"):
        load_image(f"{tmp_path}/longer!largest/{mask}", section)
