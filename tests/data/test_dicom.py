"""The values of DICOM files: those of real samples beside pydicom's own, and of made-up ones beside the standard."""

from __future__ import annotations

import csv
import functools
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing

from dicom_files import dataset, write
from mailnet.data.config import ImageConfig, Window
from mailnet.data.dicom import count_planes
from mailnet.data.dicom.geometry import turn_to
from mailnet.data.dicom.values import window
from mailnet.data.images import load_image
from mailnet.data.readers import read_scan
from mailnet.data.scan import Planes, Reading
from mailnet.errors import DataError

GREY = np.arange(12 * 10, dtype=np.uint16).reshape(12, 10)

# Why a sample cannot be read, by what its name holds.
REFUSED = {
    "JPLY": r"1\.2\.840\.10008\.1\.2\.4\.51 \(JPEG Extended .* 12 bits, in a form that no installed decoder reads",
    "JPEG-lossy": "no installed decoder reads",
    "liver_rle": r"RLE Lossless\) with 1 bit, which no installed decoder reads",
    "MR_truncated": "is truncated: 8,130 bytes of pixels, its header says 8,192",
    "LitEndNoMeta": "no DICOM meta header",
    "no_meta": "is no DICOM file",
    "DICOMDIR": "holds 12 series",
}


@pytest.fixture(scope="session")
def samples(data_folder: Path) -> Path:
    return data_folder / "io_samples"


@functools.cache
def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "INDEX.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["kind"] != "nifti"]


def saved(folder: Path, array: NDArray[Any], **tags: Any) -> str:
    return str(write(folder / "a.dcm", array, **tags))


def reference(path: Path) -> tuple[NDArray[Any], Dataset]:
    """(D, H, W, C) of pydicom alone, after the documented steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
        pixels = data.pixel_array
        if data.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, data)
        holder = data
        if "SharedFunctionalGroupsSequence" in data:
            shared = data.SharedFunctionalGroupsSequence[0]
            holder = shared.get("PixelValueTransformationSequence", [data])[0]
        values = apply_modality_lut(pixels, holder)
        channels = 3 if data.SamplesPerPixel == 3 or data.PhotometricInterpretation == "PALETTE COLOR" else 1
        return values.reshape(-1, data.Rows, data.Columns, channels), data


def test_samples(samples: Path) -> None:
    read, refused = 0, 0
    for row in rows(samples):
        path = samples / row["file"]
        if row["decoded"] != "yes":
            (text,) = [text for part, text in REFUSED.items() if part in path.name]
            with pytest.raises(DataError, match=text) as caught:
                read_scan(str(path))
            assert "\n" not in str(caught.value)
            assert caught.value.remedy
            refused += 1
            continue
        scan = read_scan(str(path))
        expected, data = reference(path)
        assert (scan.mirror is not None) == (data.PhotometricInterpretation == "MONOCHROME1")
        if "eCT" in path.name:
            # Its frames are stored against the direction of their normal.
            expected = expected[::-1]
        assert scan.values.shape == expected.shape, row["file"]
        assert str(row["shape"]).startswith("x".join(map(str, scan.values.shape[:3])))
        if scan.values.dtype.kind == "f":
            np.testing.assert_allclose(scan.values, expected, rtol=1e-6, err_msg=row["file"])
        else:
            np.testing.assert_array_equal(scan.values, expected, err_msg=row["file"])
        assert count_planes(str(path), Reading()) == len(scan.values)
        read += 1
    assert refused == 9
    assert read == len(rows(samples)) - 9 > 100


@pytest.mark.parametrize("kind", ["CT1", "US1", "MR4", "NM1"])
def test_lossless_variants_equal_the_uncompressed_file(samples: Path, kind: str) -> None:
    whole = read_scan(str(samples / f"dicom/wg04/{kind}_UNC.dcm"))
    for name in ("J2KR", "JLSL", "JPLL", "RLE"):
        path = samples / f"dicom/wg04/{kind}_{name}.dcm"
        if path.exists():
            other = read_scan(str(path))
            np.testing.assert_array_equal(other.values, whole.values)
            assert (str(other.spacing), other.units) == (str(whole.spacing), whole.units)


def test_stored_values_have_the_range_of_the_index(samples: Path) -> None:
    for row in rows(samples):
        if row["decoded"] == "yes" and row["slope"] in ("", "1") and row["photometric"] == "MONOCHROME2":
            values = read_scan(str(samples / row["file"])).values
            shift = float(row["intercept"] or 0)
            if "mlut" not in row["file"] and "eCT" not in row["file"]:
                expected = (float(row["min"]) + shift, float(row["max"]) + shift)
                assert (values.min(), values.max()) == pytest.approx(expected), row["file"]


def test_planes_of_a_file_with_several_frames(samples: Path) -> None:
    for name in ("emri_small", "emri_small_RLE", "emri_small_jpeg_2k_lossless", "emri_small_big_endian"):
        path = str(samples / f"dicom/pydicom-data/{name}.dcm")
        whole = read_scan(path).values
        few = read_scan(path, Reading(planes=Planes("middle", neighbours=1))).values
        np.testing.assert_array_equal(few, whole[4:7])
        edge = read_scan(path, Reading(planes=Planes(9, neighbours=2))).values
        np.testing.assert_array_equal(edge, whole[[7, 8, 9, 9, 9]])
    with pytest.raises(DataError, match="no plane 10"):
        read_scan(path, Reading(planes=Planes(10)))


def test_spacing_and_units(samples: Path) -> None:
    scan = read_scan(str(samples / "dicom/pydicom-data/eCT_Supplemental.dcm"))
    assert scan.spacing == pytest.approx((10, 0.388672, 0.388672))
    assert (scan.units, scan.values.dtype) == ("HU", np.int32)
    scan = read_scan(str(samples / "dicom/wg04/CT1_UNC.dcm"))
    assert scan.spacing == pytest.approx((5, 0.661468, 0.661468))
    assert scan.units == "HU"
    scan = read_scan(str(samples / "dicom/wg04/NM1_UNC.dcm"))
    assert scan.spacing is not None
    assert np.isnan(scan.spacing[0])
    assert scan.spacing[1:] == (2.26, 2.26)


@pytest.mark.parametrize(
    ("tags", "units"),
    [
        ({"RescaleType": "HU", "Modality": "OT"}, "HU"),
        ({"RescaleType": "US"}, "HU"),
        ({}, "HU"),
        ({"Modality": "MR"}, None),
        ({"RescaleType": "Z_EFF"}, "Z_EFF"),
        ({"RescaleSlope": None}, None),
        ({"RescaleType": "Quillfeather"}, None),
        ({"Modality": "PT", "Units": "BQML"}, "BQML"),
        ({"Modality": "PT", "Units": "QUILLFEATHER"}, None),
    ],
)
def test_units(tmp_path: Path, tags: dict[str, Any], units: str | None) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, **tags}
    assert read_scan(saved(tmp_path, GREY, **tags)).units == units


@pytest.mark.parametrize(
    ("dtype", "bits", "slope", "intercept", "expected"),
    [
        (np.uint16, 12, 1, -1024, np.int16),
        (np.uint16, 16, 1, -1024, np.int32),
        (np.int16, 16, 1, -1024, np.int32),
        (np.int16, 12, 1, -1024, np.int16),
        (np.uint8, 8, 1, 0, np.uint8),
        (np.uint8, 8, 2, 0, np.int16),
        (np.uint16, 12, 0.5, 0, np.float32),
        (np.uint32, 32, 1, -1, np.float32),
        (np.uint32, 32, 1, 0, np.uint32),
        (np.int32, 32, 1, 0, np.int32),
    ],
)
def test_whole_numbers_stay_whole(
    tmp_path: Path, dtype: type, bits: int, slope: float, intercept: float, expected: type
) -> None:
    array = GREY.astype(dtype)
    tags = {"BitsStored": bits, "HighBit": bits - 1, "RescaleSlope": slope, "RescaleIntercept": intercept}
    values = read_scan(saved(tmp_path, array, **tags)).values[0, ..., 0]
    assert values.dtype == expected
    np.testing.assert_allclose(values, array.astype(float) * slope + intercept)


def test_bits_that_are_not_stored_do_not_count(tmp_path: Path) -> None:
    path = saved(tmp_path, GREY | 0xF000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_scan(path).values[0, ..., 0], GREY)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_mirrored_within_what_can_be_stored(tmp_path: Path, bits: int, signed: bool) -> None:
    kind = np.dtype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    array = np.linspace(low, high, 120).astype(kind).reshape(12, 10)
    tags = {"BitsStored": bits, "HighBit": bits - 1}
    section = ImageConfig(size=(12, 10), range=None if kind != "i1" else (low, high))
    mirrored = load_image(saved(tmp_path, (low + high - array.astype(int)).astype(kind), **tags), section)
    path = saved(tmp_path, array, PhotometricInterpretation="MONOCHROME1", **tags)
    np.testing.assert_array_equal(read_scan(path).values[0, ..., 0], array)
    assert read_scan(path).mirror == low + high
    image = load_image(path, section)
    assert image.dtype == mirrored.dtype
    np.testing.assert_array_equal(image, mirrored)
    tags |= {"RescaleSlope": 1, "RescaleIntercept": -1000, "PhotometricInterpretation": "MONOCHROME1"}
    assert read_scan(saved(tmp_path, array, **tags)).mirror == low + high - 2000


def test_what_is_declared_is_in_the_units_of_monochrome1(tmp_path: Path) -> None:
    array = np.linspace(0, 4095, 120).astype(np.uint16).reshape(12, 10)
    tags: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 1000.5, "WindowWidth": 501}
    for keys in ({"window": {"center": 1000, "width": 500}}, {"range": (0, 4095)}, {"percentiles": (2, 90)}):
        section = ImageConfig(size=(12, 10), **keys)
        plain = load_image(saved(tmp_path, array, **tags), section).astype(int)
        inverse = load_image(saved(tmp_path, array, PhotometricInterpretation="MONOCHROME1", **tags), section)
        np.testing.assert_allclose(inverse, 65535 - plain, atol=1)
    own = load_image(str(tmp_path / "a.dcm"), ImageConfig(size=(12, 10), window="file"))
    given = load_image(str(tmp_path / "a.dcm"), ImageConfig(size=(12, 10), window=Window(center=1000, width=500)))
    np.testing.assert_allclose(own.astype(int), given, atol=1)


def test_modality_lut(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [4, 10, 16], [7, 100, 5, 60000], "OD"
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    scan = read_scan(saved(tmp_path, GREY, ModalityLUTSequence=[item]))
    expected = np.array([7, 100, 5, 60000])[np.clip(GREY.astype(int) - 10, 0, 3)]
    np.testing.assert_array_equal(scan.values[0, ..., 0], expected)
    assert scan.units == "OD"


def test_the_window_of_a_file(tmp_path: Path) -> None:
    tags = {"WindowCenter": [40, 5], "WindowWidth": [80, 6], "RescaleSlope": 1, "RescaleIntercept": -20}
    for function in (None, "LINEAR", "LINEAR_EXACT", "SIGMOID"):
        scan = read_scan(saved(tmp_path, GREY, VOILUTFunction=function, **tags), Reading(file_window=True))
        assert scan.unit_range
        assert scan.values.dtype == np.float32
        data = dataset(GREY, VOILUTFunction=function, **tags)
        shown = apply_windowing(apply_modality_lut(GREY, data), data)
        np.testing.assert_allclose(scan.values[0, ..., 0], (shown + 20) / 65535, atol=1e-6)
    tags["PhotometricInterpretation"] = "MONOCHROME1"
    inverse = read_scan(saved(tmp_path, GREY, VOILUTFunction="SIGMOID", **tags), Reading(file_window=True))
    np.testing.assert_allclose(inverse.values, 1 - scan.values, atol=1e-6)


def test_window_at_its_edges() -> None:
    values = np.array([-1.0, 0, 50, 99, 100])
    np.testing.assert_allclose(window(values, 50, 100, "LINEAR"), [0, 0, 0.5 + 0.5 / 99, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(window(values, 50, 100, "LINEAR_EXACT"), [0, 0, 0.5, 0.99, 1], rtol=1e-6)
    np.testing.assert_array_equal(window(values, 50, 1, "LINEAR"), [0, 0, 1, 1, 1])
    for center, width, function in ((0, 0, "SIGMOID"), (0, 0.5, "LINEAR"), (0, -1, "LINEAR_EXACT"), (0, 1, "OTHER")):
        with pytest.raises(DataError, match="declares a window"):
            window(values, center, width, function)


def test_voi_lut(samples: Path) -> None:
    path = samples / "dicom/pydicom-data/vlut_04.dcm"
    data = pydicom.dcmread(path)
    bits = data.VOILUTSequence[0].LUTDescriptor[2]
    shown = read_scan(str(path), Reading(file_window=True)).values[0, ..., 0]
    np.testing.assert_allclose(shown, apply_voi(data.pixel_array, data) / (2**bits - 1), rtol=1e-6)


def test_a_file_without_a_window(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"declares no window of its own.*center, width"):
        read_scan(saved(tmp_path, GREY), Reading(file_window=True))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", [0, 1])
def test_colour(tmp_path: Path, kind: type, planar: int) -> None:
    colour = np.stack([GREY, GREY + 40, GREY + 90], axis=2).astype(kind)
    stored = colour.transpose(2, 0, 1) if planar else colour
    path = saved(tmp_path, colour, PlanarConfiguration=planar, PixelData=stored.tobytes())
    np.testing.assert_array_equal(read_scan(path).values[0], colour)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_pixels(tmp_path: Path, kind: type) -> None:
    array = (GREY / 7 - 3).astype(kind)
    data = dataset(array, PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None)
    setattr(data, "FloatPixelData" if kind is np.float32 else "DoubleFloatPixelData", array.tobytes())
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    values = read_scan(str(tmp_path / "a.dcm")).values[0, ..., 0]
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, array, rtol=1e-6)


def enhanced(heights: list[float], **tags: Any) -> Dataset:
    """Frames of which the n-th is filled with n, at heights; each with a rescale of its own."""
    frames = np.stack([np.full((4, 6), n, np.uint16) for n in range(len(heights))])
    data = dataset(frames[0], PixelData=frames.tobytes(), NumberOfFrames=len(heights), **tags)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.25], 9
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for n, height in enumerate(heights):
        group, position, transform = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, height]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 10, n, "HU"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [position], [transform]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    return data


def test_frames_are_ordered_by_position_and_have_a_rescale_each(tmp_path: Path) -> None:
    path = str(tmp_path / "a.dcm")
    enhanced([6.0, 2.0, 4.0]).save_as(path, enforce_file_format=True)
    scan = read_scan(path)
    assert scan.values[:, 0, 0, 0].tolist() == [11, 22, 0]
    assert scan.spacing == (2.0, 0.5, 0.25)
    assert scan.units == "HU"
    assert read_scan(path, Reading(planes=Planes(0))).values[:, 0, 0, 0].tolist() == [11]
    assert read_scan(path, Reading(direction="coronal")).values.shape == (4, 3, 6, 1)
    assert count_planes(path, Reading(direction="sagittal")) == 6


def test_frames_at_one_place_are_no_volume(tmp_path: Path) -> None:
    path = str(tmp_path / "a.dcm")
    enhanced([6.0, 6.0, 4.0]).save_as(path, enforce_file_format=True)
    assert len(read_scan(path).values) == 3
    with pytest.raises(DataError, match="several frames at one place"):
        read_scan(path, Reading(volume=True))
    enhanced([0.0, 1.0, 2.0, 4.0]).save_as(path, enforce_file_format=True)
    with pytest.raises(DataError, match="frames missing at 3 mm"):
        read_scan(path)


def test_every_orientation_is_turned_the_same_way() -> None:
    rng = np.random.default_rng(0)
    body = rng.normal(size=(3, 4, 5))
    upright = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for flips in np.ndindex(2, 2, 2):
            seen = body.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
            axes = upright[list(order)] * (1 - 2 * np.array(flips))[:, None]
            back, reverse = turn_to(axes, "axial")
            turned = seen.transpose(back)[tuple(slice(None, None, -1 if flip else 1) for flip in reverse)]
            np.testing.assert_array_equal(turned, body)


def test_content_from_an_archive(samples: Path, tmp_path: Path) -> None:
    path = samples / "dicom/pydicom/CT_small.dcm"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "in/ct")
    location = f"{tmp_path / 'a.zip'}!in/ct"
    np.testing.assert_array_equal(read_scan(location).values, read_scan(str(path)).values)
    assert count_planes(location, Reading()) == 1
