from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from factory import read_table, write_study, write_table
from mailnet.data.config import ImageConfig, VolumeConfig, load_config
from mailnet.report.examples import _Pictures, encode, shown


def test_pictures_are_grey_or_in_colour_and_other_channels_leave_the_first() -> None:
    image = np.arange(4 * 9 * 8, dtype=np.uint8).reshape(4, 9, 8)
    np.testing.assert_array_equal(shown(image[:1], ImageConfig()), image[0])
    np.testing.assert_array_equal(shown(image[:3], ImageConfig(channels=3)), image[:3].transpose(1, 2, 0))
    np.testing.assert_array_equal(shown(image, ImageConfig(channels=4)), image[0])


def test_of_neighbouring_planes_the_middle_one_is_shown() -> None:
    image = np.arange(9 * 8 * 8, dtype=np.uint16).reshape(9, 8, 8)
    np.testing.assert_array_equal(shown(image[:3], ImageConfig(slice=1, neighbours=1)), image[1])
    colour = shown(image, ImageConfig(slice=1, neighbours=1, channels=3))
    np.testing.assert_array_equal(colour, image[3:6].transpose(1, 2, 0))


def test_of_a_volume_three_planes_are_shown_with_the_head_above() -> None:
    volume = np.arange(8 * 10 * 12, dtype=np.uint16).reshape(1, 8, 10, 12)
    seen = shown(volume, VolumeConfig(kind="volume", size=(8, 10, 12)))
    assert seen.shape == (10 + 8 + 1, 12 + 10 + 1)
    np.testing.assert_array_equal(seen[:10, :12], volume[0, 4])
    np.testing.assert_array_equal(seen[11:, :12], volume[0, ::-1, 5])
    np.testing.assert_array_equal(seen[11:, 13:], volume[0, ::-1, :, 6])
    colour = shown(np.concatenate([volume] * 3), VolumeConfig(kind="volume", size=(8, 10, 12), channels=3))
    assert colour.shape == (19, 23, 3)


def test_an_image_becomes_a_small_data_uri() -> None:
    uri = encode(np.linspace(0, 4095, 400 * 300).reshape(400, 300).astype(np.uint16))
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert picture.shape == (160, 120)
    assert picture[0].max() < 20
    assert picture[-1].min() > 235


def test_a_study_that_has_a_table_alone_hides_no_other_pictures(tmp_path: Path) -> None:
    config = load_config(write_study(tmp_path / "study", n=30))
    rows = read_table(tmp_path / "study" / "studies.csv")
    rows[24].update(ct="", photo="")
    write_table(tmp_path / "study" / "studies.csv", rows)
    (tmp_path / "study" / "images" / "ct025.png").write_bytes(b"")
    pictures = _Pictures(config, [25, 26, 27])
    pictures.load(["test"], None, tmp_path / "cache")
    found = [[(picture.uri is not None, picture.note) for picture in pictures.of(k)] for k in range(3)]
    table = (False, "table, values not shown")
    assert pictures.note == ""
    assert found[0] == [(False, "absent"), (False, "absent"), table]
    assert found[1] == [(False, "not readable"), (False, "not readable"), table]
    assert found[2] == [(True, ""), (True, ""), table]
