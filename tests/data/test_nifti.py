from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.data.images import count_planes, load_image
from mailnet.data.preprocess import to_unit
from mailnet.data.readers import read_scan
from mailnet.data.scan import Planes, Reading
from mailnet.errors import DataError

# (R, A, S) = (4, 5, 6): every voxel says where it lies.
BOX = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
AXIAL = BOX.transpose(2, 1, 0)[:, ::-1, ::-1, None]


def save(path: Path, array: np.ndarray = BOX, affine: np.ndarray | None = AFFINE, kind: Any = None) -> str:
    image = (kind or nibabel.Nifti1Image)(array, affine)
    nibabel.save(image, path)
    return str(path)


def changed(path: Path, change: Callable[[Any], None], array: np.ndarray = BOX) -> str:
    """A file whose header is written as ``change`` leaves it, unchecked."""
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_sform(AFFINE, 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    change(header)
    path.write_bytes(header.binaryblock + bytes(4) + array.tobytes(order="F"))
    return str(path)


def refused(location: str, text: str, reading: Reading | None = None) -> DataError:
    with pytest.raises(DataError, match=text) as caught:
        read_scan(location, reading)
    assert caught.value.file == location
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_planes_are_axial_from_the_feet_with_the_front_above_and_the_right_on_the_left(
    tmp_path: Path, suffix: str, kind: Any
) -> None:
    scan = read_scan(save(tmp_path / f"a{suffix}", kind=kind))
    np.testing.assert_array_equal(scan.values, AXIAL)
    assert scan.values.dtype == np.int16
    assert scan.spacing == (4.0, 3.0, 2.0)
    assert scan.units is None


def test_all_48_ways_to_store_a_volume_give_the_same(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(BOX, AFFINE)
    for codes in [(a, b, c) for a in "RLAPSI" for b in "RLAPSI" for c in "RLAPSI"]:
        if len({"RL".find(k) // 2 * 10 + "AP".find(k) // 2 * 100 for k in codes}) != 3:
            continue
        turn = [nibabel.orientations.axcodes2ornt(axes) for axes in ("RAS", codes)]
        path = tmp_path / f"{''.join(codes)}.nii"
        nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(*turn)), path)
        scan = read_scan(str(path))
        np.testing.assert_array_equal(scan.values, AXIAL)
        assert scan.spacing == (4.0, 3.0, 2.0)
        for reading in (Reading(planes=Planes(1, 1)), Reading(planes=Planes(2), direction="sagittal")):
            part = read_scan(str(path), reading).values
            expected = AXIAL[:3] if reading.direction is None else BOX[1].T[::-1, ::-1][None, ..., None]
            np.testing.assert_array_equal(part, expected)
    assert len(list(tmp_path.iterdir())) == 48


def test_coronal_and_sagittal_planes_have_the_head_above(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz")
    coronal = read_scan(path, Reading(direction="coronal"))
    np.testing.assert_array_equal(coronal.values[..., 0], BOX.transpose(1, 2, 0)[::-1, ::-1, ::-1])
    assert coronal.spacing == (3.0, 4.0, 2.0)
    sagittal = read_scan(path, Reading(direction="sagittal"))
    np.testing.assert_array_equal(sagittal.values[..., 0], BOX.transpose(0, 2, 1)[::-1, ::-1, ::-1])
    assert sagittal.spacing == (2.0, 4.0, 3.0)


def test_a_single_plane_is_shown_in_its_own_direction(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", BOX[:, 2:3])
    np.testing.assert_array_equal(read_scan(path).values[0, ..., 0], BOX[::-1, 2, ::-1].T)
    flat = save(tmp_path / "b.nii", BOX[:, :, 0])
    np.testing.assert_array_equal(read_scan(flat).values, AXIAL[:1])


def test_points_in_time_are_channels_or_one_or_their_mean(tmp_path: Path) -> None:
    series = np.stack([BOX, BOX * 2, BOX * 6], axis=3)
    path = save(tmp_path / "a.nii.gz", series)
    np.testing.assert_array_equal(read_scan(path).values, AXIAL * np.array([1, 2, 6]))
    np.testing.assert_array_equal(read_scan(path, Reading(frame=1)).values, AXIAL * 2)
    np.testing.assert_array_equal(read_scan(path, Reading(frame="mean")).values, AXIAL * 3)
    assert "0 to 2" in str(refused(path, "no point in time 3", Reading(frame=3)).remedy)
    np.testing.assert_array_equal(read_scan(save(tmp_path / "b.nii"), Reading(frame="mean")).values, AXIAL)
    vectors = save(tmp_path / "c.nii", series[:, :, :, None])
    assert read_scan(vectors).values.shape == (6, 5, 4, 3)
    refused(save(tmp_path / "d.nii", np.zeros((4, 4, 4, 2, 2), np.uint8)), r"the shape \[4, 4, 4, 2, 2\]")


def test_slope_intercept_and_byte_order(tmp_path: Path) -> None:
    def scaled(header: Any) -> None:
        header["scl_slope"], header["scl_inter"] = 0.5, -10

    scan = read_scan(changed(tmp_path / "a.nii", scaled))
    assert scan.values.dtype == np.float32
    np.testing.assert_array_equal(scan.values, AXIAL * 0.5 - 10)
    big = nibabel.Nifti1Image(BOX.astype(">i2"), AFFINE, nibabel.Nifti1Header(endianness=">"))
    nibabel.save(big, tmp_path / "b.nii")
    assert (tmp_path / "b.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    np.testing.assert_array_equal(read_scan(str(tmp_path / "b.nii")).values, AXIAL)


def test_colour_is_three_channels_and_complex_values_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"], rgb["B"] = BOX, 7
    scan = read_scan(save(tmp_path / "a.nii.gz", rgb))
    np.testing.assert_array_equal(scan.values[..., :1], AXIAL)
    assert (scan.values[..., 2] == 7).all()
    refused(save(tmp_path / "b.nii", BOX.astype(np.complex64)), "type complex64")


def test_units_of_length_become_millimetres(tmp_path: Path) -> None:
    for code, factor in ((1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)):

        def measured(header: Any, code: int = code) -> None:
            header["xyzt_units"] = code

        path = changed(tmp_path / "a.nii", measured)
        assert read_scan(path).spacing == pytest.approx((4 * factor, 3 * factor, 2 * factor))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".zip"])
def test_only_wanted_planes_are_unpacked(tmp_path: Path, suffix: str) -> None:
    # What lies behind the wanted plane is broken, so that reading it would fail.
    path = save(tmp_path / "a.nii", np.random.default_rng(0).integers(0, 99, (32, 32, 64)).astype(np.int16))
    content = Path(path).read_bytes()
    whole = read_scan(path).values
    if suffix == ".nii.gz":
        packed = gzip.compress(content)
        path = str(tmp_path / "b.nii.gz")
        Path(path).write_bytes(packed[: len(packed) // 2])
    elif suffix == ".zip":
        with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("in/a.nii", content)
        packed = (tmp_path / "b.zip").read_bytes()
        (tmp_path / "b.zip").write_bytes(packed[:60000] + bytes(100) + packed[60100:])
        path = f"{tmp_path}/b.zip!in/a.nii"
    np.testing.assert_array_equal(read_scan(path, Reading(planes=Planes(3, 1))).values, whole[2:5])
    assert count_planes(path, ImageConfig(slice="all")) == 64
    if suffix != ".nii":
        refused(path, "broken|cannot be decoded|cut short")


def test_the_number_of_planes_is_in_the_header(tmp_path: Path) -> None:
    path = changed(tmp_path / "a.nii.gz", lambda header: None)
    Path(path).write_bytes(gzip.compress(Path(path).read_bytes()[:352]))
    assert count_planes(path, ImageConfig(slice="all")) == 6
    assert count_planes(path, ImageConfig(slice="all", plane="coronal")) == 5
    assert count_planes(path, ImageConfig(slice="all", plane="sagittal")) == 4
    refused(path, "cannot be decoded|cut short")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda h: h.set_sform(np.diag([2.0, 0, 4, 1]), 1), "affine is singular"),
        (lambda h: h.set_sform(np.full((4, 4), np.nan), 1), "affine is singular or not finite"),
        (lambda h: h.set_sform([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], 1), "affine is singular"),
        (lambda h: (h.set_sform(None, 0), h.__setitem__("pixdim", 0)), "affine is singular"),
        (lambda h: (h.set_sform(None, 0), h.__setitem__("qform_code", 1), h.__setitem__("quatern_b", 9)), "singular"),
        (lambda h: h.__setitem__("dim", [3, 4000, 4000, 4000, 1, 1, 1, 1]), "too many voxels"),
        (lambda h: h.__setitem__("dim", [3, 20000, 20000, 2, 1, 1, 1, 1]), "too many pixels"),
        (lambda h: h.__setitem__("dim", [4, 4, 5, 6, 30000, 1, 1, 1]), "cut short"),
        (lambda h: h.__setitem__("dim", [3, 4, -5, 6, 1, 1, 1, 1]), "the shape"),
        (lambda h: h.__setitem__("dim", [3, 4, 0, 6, 1, 1, 1, 1]), "the shape"),
        (lambda h: h.__setitem__("dim", [1, 120, 1, 1, 1, 1, 1, 1]), "the shape"),
        (lambda h: h.__setitem__("vox_offset", 1e9), "would begin at byte"),
        (lambda h: h.__setitem__("vox_offset", np.nan), "would begin at byte"),
        (lambda h: h.__setitem__("datatype", 1536), "type"),
        (lambda h: h.__setitem__("datatype", 999), "code 999"),
        (lambda h: h.__setitem__("datatype", 1), "type"),
        (lambda h: h.__setitem__("magic", b"ni1"), "second file"),
        (lambda h: h.__setitem__("sizeof_hdr", 5), "no NIfTI"),
        (lambda h: h.__setitem__("scl_inter", np.inf), "cannot be decoded"),
    ],
)
def test_wrong_headers(tmp_path: Path, change: Callable[[Any], None], text: str) -> None:
    def with_slope(header: Any) -> None:
        header["scl_slope"] = 2
        change(header)

    path = changed(tmp_path / "a.nii", with_slope)
    error = refused(path, text)
    if "singular" in text:
        assert "sform or qform" in str(error.remedy)
    Path(path + ".gz").write_bytes(gzip.compress(Path(path).read_bytes()))
    refused(path + ".gz", text)


def test_more_planes_than_memory_holds(tmp_path: Path) -> None:
    header = nibabel.Nifti2Header()
    header.set_data_shape((1, 1, 2**40))
    header.set_data_dtype(np.uint8)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = 544
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(100))
    with pytest.raises(DataError, match="planes, rows or columns"):
        count_planes(str(tmp_path / "a.nii"), ImageConfig(slice="all"))


def test_a_small_file_that_announces_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = changed(tmp_path / "a.nii", lambda header: header.__setitem__("dim", [3, 600, 600, 600, 1, 1, 1, 1]))
    Path(path + ".gz").write_bytes(gzip.compress(Path(path).read_bytes() + bytes(50_000)))
    refused(path + ".gz", "cut short: its header announces 432,000,352 bytes")


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    content = Path(changed(tmp_path / "a.nii", lambda header: None)).read_bytes()
    path.write_bytes(gzip.compress(content + bytes(2**26)))
    np.testing.assert_array_equal(read_scan(str(path)).values, AXIAL)
    refused(str(path), "too many voxels: 6 x 5 x 4, at most 119", Reading(max_voxels=119))


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    content = bytearray(gzip.compress(Path(changed(tmp_path / "a.nii", lambda header: None)).read_bytes()))
    content[-8] ^= 1
    path.write_bytes(content)
    refused(str(path), "CRC")


@pytest.mark.parametrize(("places", "chosen"), [((2,), 2), ((1, 4), 4)])
def test_the_plane_with_the_largest_area_of_the_mask(tmp_path: Path, places: tuple[int, ...], chosen: int) -> None:
    volume = np.repeat(np.arange(6, dtype=np.uint8)[None, None] * 40, 16, 0).repeat(16, 1)
    mask = np.zeros((16, 16, 6), np.uint8)
    for place in places:
        mask[: place * 2, :4, place] = 1
    location = f"{save(tmp_path / 'a.nii.gz', volume, np.eye(4))}!largest/{save(tmp_path / 'm.nii', mask)}"
    section = ImageConfig(size=(16, 16), slice="largest", mask="m", neighbours=1)
    planes = load_image(location, section)
    assert planes[:, 0, 0].tolist() == [(chosen - 1) * 40, chosen * 40, min(chosen + 1, 5) * 40]
    whole = load_image(f"{tmp_path}/a.nii.gz!slice/{chosen}", section)
    np.testing.assert_array_equal(whole, planes)


def test_a_mask_of_another_shape_or_without_a_mark(tmp_path: Path) -> None:
    image = save(tmp_path / "a.nii", np.ones((16, 16, 6), np.uint8))
    section = ImageConfig(size=(16, 16), slice="largest", mask="m")
    for shape in [(16, 16, 5), (16, 15, 6)]:
        other = save(tmp_path / "m.nii", np.ones(shape, np.uint8))
        with pytest.raises(DataError, match=r"has the shape \[6, 16, 16\] and its mask"):
            load_image(f"{image}!largest/{other}", section)
    empty = save(tmp_path / "m.nii", np.zeros((16, 16, 6), np.uint8))
    with pytest.raises(DataError, match="marks nothing") as caught:
        load_image(f"{image}!largest/{empty}", section)
    assert caught.value.file == empty


def test_a_volume_of_known_spacing(tmp_path: Path) -> None:
    volume = np.zeros((8, 8, 16), np.uint8)
    volume[:, :, 8:] = 200
    path = save(tmp_path / "a.nii.gz", volume, np.diag([2.0, 2.0, 1.0, 1.0]))
    seen = to_unit(load_image(path, VolumeConfig(kind="volume", size=(16, 16, 16), spacing=1)))[0]
    np.testing.assert_allclose(seen[:8], 0)
    np.testing.assert_allclose(seen[8:], 200 / 255, atol=1 / 255)


def test_every_sample_equals_nibabel(data_folder: Path) -> None:
    files = sorted((data_folder / "io_samples" / "nifti").rglob("*.nii*"))
    assert len(files) == 12
    for file in files:
        image = nibabel.as_closest_canonical(nibabel.load(file))
        expected = image.get_fdata().reshape(*image.shape[:3], -1).transpose(2, 1, 0, 3)[:, ::-1, ::-1]
        scan = read_scan(str(file))
        np.testing.assert_array_equal(scan.values, expected.astype(scan.values.dtype), err_msg=str(file))
        assert scan.spacing == pytest.approx(image.header.get_zooms()[2::-1], rel=1e-5)
        middle = read_scan(str(file), Reading(planes=Planes(), direction="coronal")).values
        coronal = expected.transpose(1, 0, 2, 3)[:, ::-1]
        np.testing.assert_array_equal(middle[0], coronal[len(coronal) // 2].astype(middle.dtype))


def test_planes_of_a_packed_file_asked_for_one_by_one_and_of_its_successor(tmp_path: Path) -> None:
    def planes(location: str) -> list[np.ndarray]:
        return [read_scan(location, Reading(planes=Planes(k))).values[0] for k in range(6)]

    location = save(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(planes(location), AXIAL)
    np.testing.assert_array_equal(planes(save(tmp_path / "a.nii.gz", BOX[::-1].copy())), AXIAL[:, :, ::-1])
