"""Heat maps lie where their images do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from arrived import FACTS, PREDICTION

from dicom_files import write, write_series
from mailnet.data.config import ImageConfig, PixelConfig, VolumeConfig
from mailnet.data.images import load_image
from mailnet.data.preprocess import to_unit
from mailnet.deploy.dicom import results_of
from mailnet.deploy.dicom.heat import Heat
from mailnet.deploy.dicom.native import read_source

PLACED: dict[str, Any] = {"FrameOfReferenceUID": "1.2.3.77"}
WINDOW = {"center": 76.0, "width": 2200.0}


def smooth(*shape: int) -> np.ndarray:
    """Values from 0 to 2200 that change slowly, differently along every axis and from the middle outwards."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    wave = np.zeros(shape)
    for number, axis in enumerate(axes):
        wave += np.sin(2.1 * axis + number) * (1 + 0.4 * number)
    wave -= wave.min()
    values: np.ndarray = (wave / wave.max() * 2200).astype(np.uint16)
    return values


SECTIONS: dict[str, PixelConfig] = {
    "letterbox": VolumeConfig(kind="volume", size=(12, 40, 40), window=WINDOW),
    "stretch": VolumeConfig(kind="volume", size=(24, 40, 30), resize="stretch", window=WINDOW),
    "crop": VolumeConfig(kind="volume", size=(16, 32, 32), resize="crop", window=WINDOW),
    "spaced": VolumeConfig(kind="volume", size=(16, 24, 24), spacing=(2.0, 1.0, 1.0), window=WINDOW),
    "middle": ImageConfig(size=(48, 40), slice="middle", window=WINDOW),
    "axial": ImageConfig(size=(40, 40), slice=3, plane="axial", neighbours=1, resize="crop", window=WINDOW),
}


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("turned", [[1, 0, 0, 0, 1, 0], [0, -1, 0, 1, 0, 0]], ids=str)
def test_what_the_network_sees_comes_back_to_its_place(tmp_path: Path, name: str, turned: list[int]) -> None:
    section = SECTIONS[name]
    volume = smooth(10, 50, 40)
    series = write_series(tmp_path / "ct", volume, ImageOrientationPatient=turned, **PLACED)
    files = [str(path) for path in sorted(series.iterdir())]
    seen = to_unit(load_image(str(series), section))
    heat = seen[len(seen) // 2]
    native = read_source(files, section).native(heat)
    assert native is not None
    for plane, (header, _) in enumerate(native.planes):
        own = pydicom.dcmread(next(f for f in files if pydicom.dcmread(f).SOPInstanceUID == header.SOPInstanceUID))
        expected = (own.pixel_array.astype(float) / 2200).clip(0, 1)
        inside = native.heat[plane] > 0
        if not inside.any():
            continue
        assert np.abs(native.heat[plane] - expected)[inside].mean() < 0.03
        assert np.abs(native.picture(plane)[..., 0] - expected).max() < 0.01
    assert (native.heat > 0).mean() > 0.3


def test_a_plane_across_the_files_has_no_place_in_them(tmp_path: Path) -> None:
    series = write_series(tmp_path / "ct", smooth(10, 50, 40), **PLACED)
    section = ImageConfig(size=(16, 16), slice="middle", plane="coronal", window=WINDOW)
    assert read_source(sorted(series.iterdir()), section).native(np.ones((16, 16), np.float32)) is None


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Path]:
    """Results of a volume and of a photograph without a place, with both kinds of heat map."""
    folder = tmp_path_factory.mktemp("sources")
    volume = write_series(folder / "ct", smooth(8, 140, 140), StudyInstanceUID="1.2.3", PatientSex="F", **PLACED)
    grey = write(folder / "us.dcm", smooth(60, 140) // 16, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.5",
                 SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1", Modality="US", BodyPartExamined="BREAST", Laterality="L",
                 LossyImageCompression="01")  # fmt: skip
    spot = np.zeros((8, 28, 28), np.float32)
    spot[4, 7, 20] = 3.0
    spot[4, 20, 7] = -1.5
    heats = [
        Heat("pathology", "malignant", "left", "layer_cam", spot, True, 3.0),
        Heat("pathology", "malignant", "right", "layer_cam", np.eye(30, dtype=np.float32), False, 3.0),
    ]
    sections: dict[str, PixelConfig] = {
        "left": VolumeConfig(kind="volume", size=(8, 28, 28), window=WINDOW, resize="stretch"),
        "right": ImageConfig(size=30, range=(0, 4095)),
    }
    files = {"left": sorted(volume.iterdir()), "right": [grey]}
    return dict(results_of(PREDICTION, FACTS, files, heats, sections, "both")), folder


def opened(results: tuple[dict[str, bytes], Path], name: str) -> Any:
    return pydicom.dcmread(io.BytesIO(results[0][name]))


def test_a_capture_shows_the_plane_with_most_heat(results: tuple[dict[str, bytes], Path]) -> None:
    image = opened(results, "heatmap-1.dcm")
    source = next(
        one for one in map(pydicom.dcmread, (results[1] / "ct").iterdir())
        if one.SOPInstanceUID == image.SourceImageSequence[0].ReferencedSOPInstanceUID
    )  # fmt: skip
    assert float(source.ImagePositionPatient[2]) == -40 + 2.5 * 4
    assert image.ImagePositionPatient == source.ImagePositionPatient
    assert (image.FrameOfReferenceUID, image.PixelSpacing) == ("1.2.3.77", source.PixelSpacing)
    pixels = image.pixel_array.astype(int)
    assert pixels.shape == (140 + 14, 140, 3)
    redness = pixels[:140, :, 0] - pixels[:140, :, 2]
    y, x = np.unravel_index(redness.argmax(), redness.shape)
    assert (y // 5, x // 5) == (7, 20)
    y, x = np.unravel_index(redness.argmin(), redness.shape)
    assert (y // 5, x // 5) == (20, 7)
    assert pixels[140:].max() > 150
    assert "research use" in image.ImageComments


def test_a_capture_of_an_image_without_a_place_makes_none_up(results: tuple[dict[str, bytes], Path]) -> None:
    image = opened(results, "heatmap-2.dcm")
    assert "ImagePositionPatient" not in image
    assert not image.PatientOrientation
    assert (image.Laterality, image.BodyPartExamined, image.LossyImageCompression) == ("L", "BREAST", "01")
    assert image.pixel_array.shape == (74, 140, 3)


def test_a_parametric_map_holds_the_values_where_the_slices_lie(results: tuple[dict[str, bytes], Path]) -> None:
    made = hd.pm.ParametricMap.from_dataset(opened(results, "heatmap-values-1.dcm"))
    places = [
        float(item.PlanePositionSequence[0].ImagePositionPatient[2]) for item in made.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(places) == [-40 + 2.5 * plane for plane in range(8)]
    order = np.argsort(places)
    values = made.pixel_array[order]
    y, x = np.unravel_index(values[4].argmax(), values[4].shape)
    assert (y // 5, x // 5) == (7, 20)
    assert values[4].max() == pytest.approx(3.0, abs=1e-5)
    assert values[4].min() == pytest.approx(-1.5, abs=1e-5)
    assert not values[[0, 1, 2, 6, 7]].any()
    assert "heatmap-values-2.dcm" not in results[0]
    assert b"do not say how they lie" in results[0]["prediction.json"]


def test_of_a_file_with_frames_each_goes_to_its_own(tmp_path: Path) -> None:
    pixels = smooth(8, 30, 30)
    groups = []
    for frame in range(8):  # stored from the head down
        place, position = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [0, 0, -2.0 * frame]
        place.PlanePositionSequence = [position]
        groups.append(place)
    shared, measures, way = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 2
    way.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [way]
    path = write(tmp_path / "mr.dcm", pixels[0], NumberOfFrames=8, PixelData=pixels.tobytes(), Modality="MR",
                 SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", PerFrameFunctionalGroupsSequence=groups,
                 SharedFunctionalGroupsSequence=[shared], PatientSex="F", **PLACED)  # fmt: skip
    heat = np.zeros((8, 30, 30), np.float32)
    heat[7, 3, 3] = 1.0  # the plane nearest to the head, which is stored first
    section = VolumeConfig(kind="volume", size=(8, 30, 30), resize="stretch", range=(0, 4095))
    one = Heat("pathology", "malignant", "left", "layer_cam", heat, False, 1.0)
    found = dict(results_of(PREDICTION, FACTS, {"left": [path]}, [one], {"left": section}, "both"))
    values = pydicom.dcmread(io.BytesIO(found["heatmap-values-1.dcm"])).pixel_array
    assert np.flatnonzero(values.any((1, 2))).tolist() == [0]
    image = pydicom.dcmread(io.BytesIO(found["heatmap-1.dcm"]))
    assert image.SourceImageSequence[0].ReferencedFrameNumber == 1
