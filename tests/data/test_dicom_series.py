"""Folders that are a series, and DICOMDIR."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID

from dicom_files import dataset, write, write_series
from mailnet.data import dicom
from mailnet.data.archives import identity
from mailnet.data.config import VolumeConfig
from mailnet.data.dicom import count_planes
from mailnet.data.readers import read_scan
from mailnet.data.scan import Planes, Reading, reading_of
from mailnet.errors import DataError

# Each plane has its number added, so that order and direction can be seen.
VOLUME = (np.arange(5)[:, None, None] * 100 + np.arange(24).reshape(1, 4, 6)).astype(np.uint16)


def refused(folder: Path, text: str, **reading: Any) -> DataError:
    with pytest.raises(DataError, match=text) as caught:
        read_scan(str(folder), Reading(**reading))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


def test_planes_are_sorted_by_position(tmp_path: Path) -> None:
    scan = read_scan(str(write_series(tmp_path / "s", VOLUME)))
    np.testing.assert_array_equal(scan.values[..., 0], VOLUME.astype(int) - 1024)
    assert scan.spacing == (2.5, 0.7, 0.8)
    assert scan.units == "HU"
    assert count_planes(str(tmp_path / "s"), Reading()) == 5


def test_real_series(data_folder: Path) -> None:
    folder = data_folder / "io_samples/dicom/torchio_series"
    scan = read_scan(str(folder))
    files = sorted(map(pydicom.dcmread, folder.glob("*.dcm")), key=lambda data: data.ImagePositionPatient[2])
    np.testing.assert_array_equal(scan.values[..., 0], np.stack([data.pixel_array for data in files]))
    assert scan.spacing == (2, 2, 2)
    # The files lie with their columns to the right and their rows to the front.
    turned = read_scan(str(folder), Reading(volume=True))
    np.testing.assert_array_equal(turned.values, scan.values[:, ::-1, ::-1])
    coronal = read_scan(str(folder), Reading(direction="coronal"))
    np.testing.assert_array_equal(coronal.values[..., 0], turned.values[::-1, :, :, 0].transpose(1, 0, 2))
    assert coronal.spacing == (2, 2, 2)


def test_headers_of_a_series_are_read_once_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_series(tmp_path / "s", VOLUME)
    read = []
    header = dicom.series._header
    monkeypatch.setattr(dicom.series, "_header", lambda path: read.append(path) or header(path))
    for plane in range(5):
        assert (
            read_scan(str(folder), Reading(planes=Planes(plane))).values[0, 0, 0, 0] == int(VOLUME[plane, 0, 0]) - 1024
        )
    assert len(read) == 5
    assert count_planes(str(folder), Reading()) == 5
    assert len(read) == 5
    (folder / "i005.dcm").unlink()
    assert count_planes(str(folder), Reading()) == 4
    assert len(read) == 9
    refused(folder, "holds no series that", select={"SeriesDescription": "other"})


def test_only_the_wanted_planes_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(write_series(tmp_path / "s", VOLUME))
    opened = []
    original = dicom.series.open_file

    def spy(path: str, pixels: bool = True) -> Any:
        opened.extend([Path(path).name] if pixels else [])
        return original(path, pixels)

    monkeypatch.setattr(dicom.series, "open_file", spy)
    scan = read_scan(folder, Reading(planes=Planes(1, neighbours=1), direction="axial"))
    np.testing.assert_array_equal(scan.values[..., 0], VOLUME[:3].astype(int) - 1024)
    assert sorted(opened) == ["i003.dcm", "i004.dcm", "i005.dcm"]
    opened.clear()
    assert count_planes(folder, Reading(direction="coronal")) == 4
    assert opened == []


@pytest.mark.parametrize("direction", ["axial", "coronal", "sagittal"])
def test_every_acquisition_gives_the_same_planes(tmp_path: Path, direction: Any) -> None:
    body = np.random.default_rng(1).integers(0, 999, (3, 4, 5)).astype(np.uint16)  # feet to head, to back, to left
    axial = write_series(tmp_path / "axial", body, step=3, PixelSpacing=[2, 1])
    seen = read_scan(str(axial), Reading(direction=direction))
    expected = {
        "axial": body,
        "coronal": body.transpose(1, 0, 2)[:, ::-1],
        "sagittal": body.transpose(2, 0, 1)[:, ::-1],
    }[direction]
    np.testing.assert_array_equal(seen.values[..., 0], expected.astype(int) - 1024)
    assert seen.spacing == {"axial": (3, 2, 1), "coronal": (2, 3, 1), "sagittal": (1, 3, 2)}[direction]
    sagittal = tmp_path / "sagittal"
    for x in range(5):
        place = {"ImagePositionPatient": [x, 0, 6], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
        rescale = {"RescaleSlope": 1, "RescaleIntercept": -1024, "PixelSpacing": [3, 2]}
        write(sagittal / f"{x}.dcm", np.ascontiguousarray(body[::-1, :, x]), **place, **rescale)
    other = read_scan(str(sagittal), Reading(direction=direction))
    np.testing.assert_array_equal(other.values, seen.values)
    assert other.spacing == seen.spacing
    for place in (0, "middle"):
        one = read_scan(str(sagittal), Reading(direction=direction, planes=Planes(place)))  # type: ignore[arg-type]
        np.testing.assert_array_equal(one.values[0], seen.values[0 if place == 0 else len(seen.values) // 2])


def test_a_volume_is_brought_upright(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME, ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])
    reading = reading_of(VolumeConfig(kind="volume"))
    assert reading.volume
    values = read_scan(str(folder), reading).values[..., 0]
    np.testing.assert_array_equal(values, VOLUME[:, :, ::-1].astype(int) - 1024)


def test_a_single_plane_has_one_direction(tmp_path: Path) -> None:
    path = write_series(tmp_path / "s", VOLUME[:1]) / "i001.dcm"
    assert read_scan(str(path), Reading(direction="axial")).values.shape == (1, 4, 6, 1)
    refused(path, "single axial plane, of which there is no sagittal one", direction="sagittal")
    refused(write(tmp_path / "a.dcm", VOLUME[0]), "does not say how it lies", direction="axial")
    assert read_scan(str(tmp_path / "a.dcm"), Reading(volume=True)).values.shape == (1, 4, 6, 1)


def test_without_positions_the_numbers_count(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME, ImagePositionPatient=None, ImageOrientationPatient=None)
    assert (read_scan(str(folder)).values[:, 0, 0, 0] + 1024).tolist() == [400, 300, 200, 100, 0]
    for n in range(12):
        write(tmp_path / "t" / f"b{n}.dcm", VOLUME[0] + n)
    assert read_scan(str(tmp_path / "t")).values[:, 0, 0, 0].tolist() == list(range(12))


def test_what_is_no_image_is_ignored(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME)
    for name in ("Thumbs.db", "DICOMDIR", ".DS_Store", "notes.txt", "._i001.dcm"):
        (folder / name).write_bytes(b"not an image" * 20)
    report = dataset(VOLUME[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Rows=None, Columns=None, PixelData=None)
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    assert read_scan(str(folder)).values.shape == (5, 4, 6, 1)
    (folder / "stripped").write_bytes((folder / "i001.dcm").read_bytes()[:900])
    error = refused(folder, "holds no image .CT Image Storage")
    assert error.file == str(folder / "stripped")
    (folder / "stripped").unlink()
    (folder / "broken.dcm").write_bytes(b"not an image" * 20)
    error = refused(folder, "is no DICOM file")
    assert error.file == str(folder / "broken.dcm")


def test_localizers_are_left_out(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME)
    write(folder / "scout.dcm", VOLUME[0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID="1.2.9")
    assert read_scan(str(folder)).values.shape == (5, 4, 6, 1)
    shutil.copy(folder / "scout.dcm", tmp_path / "scout.dcm")
    assert read_scan(str(tmp_path / "scout.dcm")).values.shape == (1, 4, 6, 1)
    scout = read_scan(str(folder), Reading(select={"ImageType": "*localizer*"}))
    assert scout.values.shape == (1, 4, 6, 1)


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    refused(tmp_path, "holds no DICOM file")
    (tmp_path / "a.txt").write_text("text")
    refused(tmp_path, "holds no DICOM file")
    report = dataset(VOLUME[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Rows=None, PixelData=None)
    report.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    refused(tmp_path, "holds no DICOM file with an image")


def test_a_file_further_down_changes_what_the_cache_knows(tmp_path: Path) -> None:
    folder = study(tmp_path / "study")
    before = identity(str(folder), "study")
    assert identity(str(folder), "study") == before
    write(folder / "ct" / "i001.dcm", VOLUME[0], SeriesDescription="changed")
    assert identity(str(folder), "study") != before


def study(folder: Path) -> Path:
    write_series(folder / "ct", VOLUME)
    mr = {"Modality": "MR", "SeriesInstanceUID": "1.2.5", "SeriesNumber": 7, "SeriesDescription": "Ax T1 FS"}
    write_series(folder / "mr", VOLUME[:3] + 7, **mr)
    t2 = {"Modality": "MR", "SeriesInstanceUID": "1.2.6", "SeriesNumber": 8, "SeriesDescription": "Ax T2"}
    write_series(folder / "mr2", VOLUME[:2] + 9, **t2)
    return folder


def test_mixed_series_and_select(tmp_path: Path) -> None:
    folder = study(tmp_path / "study")
    error = refused(folder, r"holds 3 series: CT 3 'thin' \(5 files\); MR 7 'Ax T1 FS' \(3 files\); MR 8 'Ax T2'")
    assert "select" in (error.remedy or "")
    for select, depth in (
        ({"Modality": "CT"}, 5),
        ({"Modality": "mr", "SeriesDescription": "*t1*"}, 3),
        ({"SeriesNumber": "8"}, 2),
    ):
        assert len(read_scan(str(folder), Reading(select=select)).values) == depth
        assert count_planes(str(folder), Reading(select=select)) == depth
    refused(folder, "holds 2 series", select={"Modality": "MR"})
    refused(folder, r"no series that \{Modality: 'PT'\} selects, but CT 3", select={"Modality": "PT"})
    error = refused(folder, "'SeriesDescripton', which is no DICOM keyword", select={"SeriesDescripton": "*"})
    assert error.remedy == "Did you mean 'SeriesDescription'?"
    for keyword in ("PatientName", "StudyDate", "ReferringPhysicianName", "AccessionNumber", "SeriesTime"):
        refused(folder, f"'{keyword}', which may identify a patient", select={keyword: "*"})
    refused(folder, "'PatientID', which may identify a patient", select={"PatientID": "PZX*"})


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_missing_slices_are_named(tmp_path: Path, lost: int) -> None:
    folder = write_series(tmp_path / "s", np.concatenate([VOLUME, VOLUME]))
    for n in range(4, 4 + lost):
        (folder / f"i{n:03d}.dcm").unlink()
    places = ", ".join(f"{-40 + 2.5 * (10 - n):g}" for n in reversed(range(4, 4 + lost)))
    refused(folder, f"has slices missing at {places} mm, between i{4 + lost:03d}.dcm and i003.dcm")


def test_double_positions_are_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME, EchoNumbers=1)
    write_series(tmp_path / "t", VOLUME, EchoNumbers=2)
    for file in (tmp_path / "t").iterdir():
        shutil.copy(file, folder / f"e{file.name}")
    error = refused(folder, "two planes at -40 mm: ei005.dcm and i005.dcm")
    assert "{EchoNumbers: '2'}" in (error.remedy or "")
    assert len(read_scan(str(folder), Reading(select={"EchoNumbers": "2"})).values) == 5


def test_planes_in_several_units(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME)
    path = sorted(folder.iterdir())[1]
    plane = pydicom.dcmread(path)
    plane.RescaleType = "OD"
    plane.save_as(path)
    refused(folder, "has planes in several units: HU, OD")


def test_uneven_series(tmp_path: Path) -> None:
    for name, text, plane, tags in (
        ("size", "several sizes: i001.dcm 6 x 4, z.dcm 3 x 4", VOLUME[0, :, :3], {}),
        ("spacing", "several pixel spacings: i001.dcm, z.dcm", VOLUME[0], {"PixelSpacing": [0.7, 0.9]}),
        ("polarity", "low values are bright.*i001.dcm, z.dcm", VOLUME[0], {"PhotometricInterpretation": "MONOCHROME1"}),
        ("colour", "grey and colour planes: i001.dcm, z.dcm", np.stack([VOLUME[0]] * 3, axis=2), {}),
        ("turn", "several directions", VOLUME[0], {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}),
        ("frames", "6 files of one series, of which 1 have several", VOLUME[:2, :2].reshape(4, 6), {"frames": 2}),
    ):
        folder = write_series(tmp_path / name, VOLUME)
        place = {"ImagePositionPatient": [-20, -30, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        tags = {**place, "PixelSpacing": [0.7, 0.8], **tags}
        if tags.pop("frames", None):
            tags |= {"NumberOfFrames": 2, "Rows": 2}
        write(folder / "z.dcm", np.ascontiguousarray(plane), **tags)
        refused(folder, text)


def test_a_broken_file_of_a_series_is_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME)
    path = folder / "i003.dcm"
    path.write_bytes(path.read_bytes()[:-10])
    assert refused(folder, "is truncated").file == str(path)
    # A plane beside it is read without it.
    assert read_scan(str(folder), Reading(planes=Planes(0))).values.shape == (1, 4, 6, 1)


def test_links_that_leave_the_folder(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME)
    other = write(tmp_path / "other.dcm", VOLUME[0])
    os.symlink(other, folder / "z.dcm")
    assert refused(folder, "is a link that leaves its folder").file == str(folder / "z.dcm")
    (folder / "z.dcm").unlink()
    os.symlink(folder / "i001.dcm", folder / "z.dcm")
    refused(folder, "two planes at")


def test_every_value_of_a_rescale_that_differs(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "s", VOLUME[:2], RescaleIntercept=0)
    data = pydicom.dcmread(folder / "i001.dcm")
    data.RescaleSlope = 0.5
    data.save_as(folder / "i001.dcm")
    values = read_scan(str(folder)).values[..., 0]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, VOLUME[:2] * np.array([1, 0.5])[:, None, None])


@pytest.fixture
def media(data_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(data_folder / "io_samples/dicom/pydicom/dicomdirtests", tmp_path / "media")
    for path in (tmp_path / "media").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "media").chmod(0o755)
    return tmp_path / "media"


def test_dicomdir(media: Path) -> None:
    path = str(media / "DICOMDIR")
    refused(Path(path), r"holds 12 series: CR 1 'Cervical LAT' \(1 file\); .*CT 2 'Routine Brain' \(4 files\)")
    scan = read_scan(path, Reading(select={"SeriesDescription": "smartscore*"}))
    assert scan.values.shape == (5, 16, 16, 1)
    assert scan.spacing == pytest.approx((2.5, 0.488281, 0.488281))
    np.testing.assert_array_equal(scan.values, read_scan(str(media / "98892001/CT5N")).values)
    assert count_planes(path, Reading(select={"SeriesNumber": "5"})) == 5
    refused(Path(path), "several directions", select={"SeriesNumber": "700"})


def test_dicomdir_of_lost_files(media: Path) -> None:
    (media / "98892001/CT5N/2392").unlink()
    refused(media / "DICOMDIR", "lists images that do not exist: 1, the first of them 2392")


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize("parts", [["..", "out"], ["/etc", "passwd"], ["a/../../out"], ["..\\out"], ["out"]])
def test_dicomdir_that_leaves_its_folder(media: Path, parts: list[str]) -> None:
    write(media.parent / "out", VOLUME[0])
    if parts == ["out"]:
        os.symlink(media.parent / "out", media / "out")
    data = pydicom.dcmread(media / "DICOMDIR")
    for record in data.DirectoryRecordSequence:
        if record.DirectoryRecordType == "IMAGE":
            record.ReferencedFileID = parts
    pydicom.dcmwrite(media / "DICOMDIR", data)
    refused(media / "DICOMDIR", "lists a file outside of its folder")


def test_dicomdir_without_files(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(b"text")
    refused(tmp_path / "DICOMDIR", "is no DICOM file")
    write(tmp_path / "DICOMDIR", VOLUME[0], SOPClassUID=UID("1.2.840.10008.1.3.10"))
    refused(tmp_path / "DICOMDIR", "lists no files")
