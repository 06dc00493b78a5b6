from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mailnet.data import readers
from mailnet.data.readers import known_suffixes, read_image, register_reader
from mailnet.data.scan import Reading
from mailnet.errors import DataError

GREY = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)
DEEP = GREY.astype(np.uint16) * 257 + 3


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def refused(location: Path | str, text: str) -> DataError:
    with pytest.raises(DataError, match=text) as caught:
        read_image(str(location))
    assert caught.value.file == str(location)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".bmp"])
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_8_bits(tmp_path: Path, suffix: str, array: NDArray[np.uint8]) -> None:
    Image.fromarray(array).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_image(str(tmp_path / f"a{suffix}")), array)


@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_jpeg(tmp_path: Path, array: NDArray[np.uint8]) -> None:
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    seen = read_image(str(tmp_path / "a.jpg"))
    assert seen.shape == array.shape
    assert np.abs(seen.astype(int) - array).max() < 30


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_16_bits(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    np.save(path, DEEP) if suffix == ".npy" else Image.fromarray(DEEP).save(path)
    seen = read_image(str(path))
    assert seen.dtype == np.uint16
    np.testing.assert_array_equal(seen, DEEP)


def test_16_bit_colour_keeps_its_range(tmp_path: Path) -> None:
    pixels = np.array([[[65535, 0, 32768]]], dtype=">u2")
    (tmp_path / "a.png").write_bytes(png(1, 1, 16, 2, b"\0" + pixels.tobytes()))
    seen = read_image(str(tmp_path / "a.png"))
    assert seen.dtype == np.uint16
    assert seen.tolist() == [[[65535, 0, 128 * 257]]]


def test_float_tiff(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32) / 7).save(tmp_path / "a.tif")
    assert read_image(str(tmp_path / "a.tif")).dtype == np.float32


def test_one_bit_and_palettes(tmp_path: Path) -> None:
    Image.fromarray(GREY > 50).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_image(str(tmp_path / "mask.png")), (GREY > 50) * 255)
    Image.fromarray(COLOUR).quantize(8).save(tmp_path / "colours.png")
    assert read_image(str(tmp_path / "colours.png")).shape == (12, 10, 3)
    Image.fromarray(GREY // 8 * 8).convert("P").save(tmp_path / "greys.png")
    np.testing.assert_array_equal(read_image(str(tmp_path / "greys.png")), GREY // 8 * 8)


@pytest.mark.parametrize("alpha", [255, 128])
def test_alpha_counts_only_where_a_pixel_is_transparent(tmp_path: Path, alpha: int) -> None:
    image = Image.fromarray(COLOUR)
    image.putalpha(alpha)
    image.save(tmp_path / "a.png")
    assert read_image(str(tmp_path / "a.png")).shape == (12, 10, 3 if alpha == 255 else 4)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), np.rot90(GREY, -1))


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (9, 9)).save(tmp_path / "a.jpg")
    refused(tmp_path / "a.jpg", "colour mode CMYK")


def test_several_pages_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(GREY)])
    refused(tmp_path / "a.tif", "holds 2 images")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".npy"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6])
def test_truncated_files(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    np.save(path, noise) if suffix == ".npy" else Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "leave the study out" in str(refused(path, "cannot be decoded").remedy)


def test_missing_unreadable_and_unknown_files(tmp_path: Path) -> None:
    refused(tmp_path / "none.png", "does not exist")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "holds no DICOM file")
    (tmp_path / "a.xyz").write_bytes(b"")
    assert ".png" in str(refused(tmp_path / "a.xyz", "no reader knows").remedy)
    (tmp_path / "text.png").write_text("not a picture")
    refused(tmp_path / "text.png", "cannot be decoded")


def test_decompression_bombs_are_refused_with_their_size(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 1, 0, b""))
    refused(tmp_path / "bomb.png", "too many pixels .*900000000")
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="too many pixels: 10 x 12, at most 100") as caught:
        read_image(str(tmp_path / "a.png"), Reading(max_pixels=100))
    assert "max_pixels" in str(caught.value.remedy)


def test_arrays_of_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(tmp_path / "a.npy", "cannot be decoded")
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    refused(f"{tmp_path}/a.npz!x/0", "Python objects")


def test_zip_members(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(GREY).save(content, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in/a.png", content.getvalue())
    np.testing.assert_array_equal(read_image(f"{tmp_path}/a.zip!in/a.png"), GREY)
    refused(f"{tmp_path}/a.zip!in/b.png", "no such member")
    with pytest.raises(DataError, match="does not exist"):
        read_image(f"{tmp_path}/b.zip!in/a.png")


def test_a_zip_that_changes_is_read_again(tmp_path: Path) -> None:
    for value in (GREY, COLOUR):
        content = io.BytesIO()
        Image.fromarray(value).save(content, "PNG")
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.png", content.getvalue())
        np.testing.assert_array_equal(read_image(f"{tmp_path}/a.zip!a.png"), value)


def test_broken_and_encrypted_zips(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="is broken"):
        read_image(f"{tmp_path}/broken.zip!a.png")
    content = io.BytesIO()
    Image.fromarray(GREY).save(content, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", content.getvalue())
    whole = (tmp_path / "a.zip").read_bytes()
    place = whole.index(b"IDAT") + 8
    (tmp_path / "crc.zip").write_bytes(whole[:place] + b"XX" + whole[place + 2 :])
    refused(f"{tmp_path}/crc.zip!a.png", "is broken.*CRC")
    # Bit 0 of the flags says that a member is encrypted (APPNOTE 4.4.4): local header and directory.
    locked = bytearray(whole)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(signature) + offset] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    assert "password" in str(refused(f"{tmp_path}/locked.zip!a.png", "encrypted").remedy)


def test_npz_items_in_any_order(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=images, one=GREY)
    for index in (0, 7, 19, 3):
        np.testing.assert_array_equal(read_image(f"{tmp_path}/a.npz!images/{index}"), images[index])
    np.testing.assert_array_equal(read_image(f"{tmp_path}/a.npz!one"), GREY)
    assert "0 to 19" in str(refused(f"{tmp_path}/a.npz!images/20", "no item '20'").remedy)
    assert "'images'" in str(refused(f"{tmp_path}/a.npz!image/0", "no array 'image'").remedy)
    assert "images, one" in str(refused(f"{tmp_path}/a.npz", "names no array").remedy)


def test_an_array_stored_by_columns_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(np.zeros((3, 4, 5))))
    refused(f"{tmp_path}/a.npz!x/0", "column by column")


def test_another_format_is_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_READERS", dict(readers._READERS))

    @register_reader(".raw.gz")
    def read_raw(content: bytes) -> np.ndarray:
        if not content:
            raise KeyError("pixels")
        return np.frombuffer(content, np.uint8).reshape(2, 2)

    (tmp_path / "a.raw.gz").write_bytes(b"abcd")
    assert read_image(str(tmp_path / "a.raw.gz")).shape == (2, 2)
    (tmp_path / "b.raw.gz").write_bytes(b"")
    refused(tmp_path / "b.raw.gz", "pixels")
    assert ".raw.gz" in known_suffixes()
    with pytest.raises(ValueError, match="registered already"):
        register_reader(".png")(read_raw)
