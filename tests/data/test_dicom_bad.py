"""Files that lie about their size, lack what they need or cannot be decoded: one line each, before memory is taken."""

from __future__ import annotations

import functools
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_files import dataset, write
from mailnet.data.config import ImageConfig
from mailnet.data.dicom import codestream, files
from mailnet.data.images import count_planes
from mailnet.data.readers import read_scan
from mailnet.data.scan import Reading
from mailnet.errors import DataError

GREY = np.arange(12 * 10, dtype=np.uint16).reshape(12, 10)


def refused(path: Path, text: str, remedy: str = "", **reading: Any) -> DataError:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=text) as caught:
            read_scan(str(path), Reading(**reading))
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    error = caught.value
    assert remedy in (error.remedy or "")
    assert error.remedy
    assert "\n" not in str(error)
    assert error.file == str(path)
    return error


def save(path: Path, data: Dataset) -> Path:
    data.save_as(path, enforce_file_format=True)
    return path


def compressed(path: Path, syntax: UID, frames: list[bytes], **tags: Any) -> Path:
    data = dataset(GREY, **tags)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate(frames)
    data["PixelData"].VR = "OB"
    return save(path, data)


def siz(width: int, height: int, samples: int = 1, tile: int = 0, steps: tuple[int, int] = (1, 1)) -> bytes:
    """The beginning of a JPEG 2000."""
    tile_w, tile_h = (tile, tile) if tile else (width, height)
    fields = struct.pack(">HHIIIIIIIIH", 38 + 3 * samples, 0, width, height, 0, 0, tile_w, tile_h, 0, 0, samples)
    return b"\xff\x4f\xff\x51" + fields + struct.pack("3B", 15, *steps) * samples + bytes(40)


def sof(width: int, height: int, marker: int = 0xC3, bits: int = 16) -> bytes:
    """The beginning of a JPEG."""
    frame = struct.pack(">BBHBHHB", 0xFF, marker, 11, bits, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + bytes(40) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"Rows": 60000, "Columns": 60000}, "too many pixels: 60000 x 60000"),
        ({"Rows": 8000, "Columns": 8000, "NumberOfFrames": 1000}, "too many voxels: 1000 x 8000 x 8000"),
        ({"Rows": 8000, "Columns": 8000}, "is truncated: 240 bytes of pixels, its header says 128,000,000"),
        ({"NumberOfFrames": 7}, "is truncated: 240 bytes of pixels, its header says 1,680"),
        ({"Rows": 0}, "impossible Rows"),
        ({"NumberOfFrames": 0}, "impossible NumberOfFrames"),
        ({"BitsAllocated": 12}, "impossible BitsAllocated"),
        ({"BitsStored": 17}, "impossible BitsStored"),
        ({"SamplesPerPixel": 3}, "impossible SamplesPerPixel"),
        ({"BitsAllocated": None}, "no usable BitsAllocated"),
        ({"PhotometricInterpretation": "CMYK"}, "colours of a kind that is not read .CMYK."),
        ({"PhotometricInterpretation": None}, "colours of a kind that is not read"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "has no palette"),
        ({"PixelData": None}, "holds no pixels"),
        ({"PixelData": b""}, "holds no pixels"),
        ({"Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.5"}, "holds no image .RT Plan Storage"),
        ({"Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "holds no image .Basic Text SR Storage"),
        ({"Rows": None, "SOPClassUID": "9.8.7"}, "holds no image .an unknown kind of object"),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, tags: dict[str, Any], text: str) -> None:
    refused(save(tmp_path / "a.dcm", dataset(GREY, **tags)), text)


def test_the_limits_are_those_of_the_modality(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", dataset(GREY))
    refused(path, "too many pixels", "max_pixels", max_pixels=119)
    refused(path, "too many voxels", "max_voxels", max_voxels=119)
    assert read_scan(str(path), Reading(max_pixels=120, max_voxels=120)).values.size == 120


@pytest.mark.parametrize(
    ("syntax", "frame", "text"),
    [
        (JPEG2000Lossless, siz(2**31, 2**31), "compressed pixels of 2147483648 x 2147483648"),
        (JPEG2000Lossless, siz(10, 12, samples=16000), "with 16000 times 16 bits"),
        (JPEG2000Lossless, siz(10, 12, steps=(1, 2)), "compressed pixels that are broken"),
        (JPEG2000Lossless, siz(10, 12, steps=(0, 0)), "compressed pixels that are broken"),
        (JPEG2000Lossless, b"\0" * 60, "compressed pixels that are broken"),
        (JPEG2000Lossless, b"\0\0\0\x0cjP  \r\n\x87\n" + siz(10, 12) + siz(9999, 9999), "that are broken"),
        (JPEG2000Lossless, siz(10, 12), "pixels that cannot be decoded"),
        (JPEGLosslessSV1, sof(65000, 65000), "compressed pixels of 65000 x 65000"),
        (JPEGLosslessSV1, sof(10, 0), "compressed pixels of 10 x 0"),
        (JPEGLosslessSV1, sof(10, 12, 0xC9), "compressed pixels that are broken"),
        (JPEGLosslessSV1, sof(10, 12)[:-60] + sof(65000, 65000)[2:], "broken"),
        (JPEGLosslessSV1, sof(10, 12), "pixels that cannot be decoded"),
        (JPEGLSLossless, sof(65000, 12, 0xF7), "compressed pixels of 65000 x 12"),
        (JPEGLSLossless, b"\xff\xd8", "compressed pixels that are broken"),
        (RLELossless, struct.pack("<16I", 2, 64, 64, *[0] * 13) + bytes(40), "compressed pixels that are broken"),
        (RLELossless, struct.pack("<16I", 15, *[64] * 15) + bytes(40), "compressed pixels that are broken"),
        # A run beyond the end once ended the decoder with a panic.
        (RLELossless, struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\0\x81\0", "compressed pixels that are broken"),
    ],
    ids=map(str, range(17)),
)
def test_compressed_pixels_that_lie(tmp_path: Path, syntax: UID, frame: bytes, text: str) -> None:
    refused(compressed(tmp_path / "a.dcm", syntax, [frame]), text)


def test_more_frames_than_memory_holds(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), NumberOfFrames=2_000_000_000))
    for read in (read_scan, functools.partial(count_planes, section=ImageConfig(slice="all"))):
        with pytest.raises(DataError, match="has 2,000,000,000 planes"):
            read(path)


def test_fewer_frames_than_the_header_says(tmp_path: Path) -> None:
    data = compressed(tmp_path / "a.dcm", JPEG2000Lossless, [siz(10, 12)] * 2, NumberOfFrames=5)
    refused(data, "truncated or broken where its compressed pixels are")


def test_an_image_of_almost_no_bytes(tmp_path: Path) -> None:
    path = compressed(tmp_path / "a.dcm", JPEG2000Lossless, [siz(8000, 8000)], Rows=8000, Columns=8000)
    refused(path, "would unpack from .* to 128,000,000 bytes, more than images do")


def test_a_segmented_palette_is_not_expanded_beyond_reason(tmp_path: Path) -> None:
    data = dataset(GREY.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    bomb = np.tile(np.array([1, 65535, 9], "<u2"), 5000).tobytes()
    for colour in ("Red", "Green", "Blue"):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(data, f"Segmented{colour}PaletteColorLookupTableData", b"\0\0\1\0\5\0" + bomb)
    refused(save(tmp_path / "a.dcm", data), "palette of a kind that is not read")


def deflated(path: Path, body: bytes) -> Path:
    """A deflated file around the bytes of a data set."""
    data = dataset(GREY)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(path, data)
    content = path.read_bytes()
    start = pydicom.dcmread(path, specific_tags=[]).file_meta.FileMetaInformationGroupLength + 144
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(content[:start] + packer.compress(body) + packer.flush())
    return path


def test_a_deflated_file_is_unpacked_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(GREY)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(tmp_path / "a.dcm", data)
    np.testing.assert_array_equal(read_scan(str(path)).values[0, ..., 0], GREY)
    monkeypatch.setattr(files, "MAX_DEFLATED", 2**20)
    refused(deflated(path, bytes(2**23)), "unpacks to more than 1,048,576 bytes", "dcmconv")


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (JPEG2000Lossless, "pip install 'pylibjpeg[openjpeg]'"),
        (JPEGLosslessSV1, "pip install 'pylibjpeg[libjpeg]'"),
        (JPEGLSLossless, "pip install pyjpegls"),
    ],
)
def test_a_missing_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: UID, package: str) -> None:
    monkeypatch.setattr(Decoder, "is_available", False)
    frame = siz(10, 12) if syntax == JPEG2000Lossless else sof(10, 12, 0xF7 if syntax == JPEGLSLossless else 0xC3)
    path = compressed(tmp_path / "a.dcm", syntax, [frame])
    error = refused(path, f"transfer syntax {syntax} .{syntax.name[:9]}.*decoder is not installed")
    assert error.remedy == package


def test_transfer_syntaxes_that_are_not_read(tmp_path: Path) -> None:
    refused(compressed(tmp_path / "a.dcm", MPEG4HP41, [bytes(40)]), r"4\.102 \(MPEG-4 AVC/H\.264 High", "gdcmconv")
    content = (
        (tmp_path / "a.dcm").read_bytes().replace(MPEG4HP41.encode(), b"1.2.826.0.1.3680043.9.100"[: len(MPEG4HP41)])
    )
    (tmp_path / "a.dcm").write_bytes(content)
    refused(tmp_path / "a.dcm", "that is private or unknown")


def test_no_meta_header(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.dcm", dataset(GREY)).read_bytes()
    start = whole.index(b"\x08\0\x16\0UI")
    (tmp_path / "b.dcm").write_bytes(whole[start:])
    refused(tmp_path / "b.dcm", "no DICOM meta header", "dcmconv")
    (tmp_path / "c.dcm").write_bytes(whole[128 + 4 :])
    np.testing.assert_array_equal(read_scan(str(tmp_path / "c.dcm")).values[0, ..., 0], GREY)
    for content in (b"", b"DICM", bytes(128) + b"DICM", b"\x89PNG\r\n\x1a\n" + bytes(200)):
        (tmp_path / "d.dcm").write_bytes(content)
        refused(tmp_path / "d.dcm", "DICOM")


def test_wrong_lengths(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.dcm", dataset(GREY)).read_bytes()
    place = whole.index(b"\xe0\x7f\x10\0OW")
    for length in (0, 238, 2**31, 2**32 - 2, 2**32 - 1):
        (tmp_path / "a.dcm").write_bytes(whole[: place + 8] + struct.pack("<I", length) + whole[place + 12 :])
        refused(tmp_path / "a.dcm", "holds no pixels|truncated|says that its pixels have|an element has a wrong length")
    place = whole.index(b"\x28\0\x10\0US")
    (tmp_path / "a.dcm").write_bytes(whole[: place + 6] + b"\xff\xff" + whole[place + 8 :])
    refused(tmp_path / "a.dcm", "holds no|no usable|impossible")


@pytest.mark.parametrize("keyword", ["RescaleSlope", "WindowCenter", "PixelSpacing"])
def test_numbers_that_are_none(tmp_path: Path, keyword: str) -> None:
    numbers = {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 40, "WindowWidth": 80, "PixelSpacing": [7, 7]}
    whole = save(tmp_path / "a.dcm", dataset(GREY, **numbers)).read_bytes()
    tag = struct.pack(
        "<HH", pydicom.datadict.tag_for_keyword(keyword) >> 16, pydicom.datadict.tag_for_keyword(keyword) & 0xFFFF
    )
    place = whole.index(tag + b"DS")
    (tmp_path / "a.dcm").write_bytes(whole[: place + 8] + b"ab" + whole[place + 10 :])
    if keyword == "PixelSpacing":
        assert read_scan(str(tmp_path / "a.dcm")).spacing is None
    else:
        error = refused(tmp_path / "a.dcm", f"has a {keyword} that is no number", file_window=True)
        assert "ab" not in error.message


def test_deep_nesting(tmp_path: Path) -> None:
    sequence = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    whole = save(tmp_path / "a.dcm", dataset(GREY)).read_bytes()
    place = whole.index(b"\x08\0\x16\0UI")
    (tmp_path / "a.dcm").write_bytes(whole[:place] + sequence * (2 * sys.getrecursionlimit()) + whole[place:])
    refused(tmp_path / "a.dcm", "is no DICOM file that can be decoded")


def test_check_ratio_leaves_real_images_alone(data_folder: Path) -> None:
    for path in sorted((data_folder / "io_samples/dicom/wg04").glob("*J2KI.dcm")):
        data = pydicom.dcmread(path)
        codestream.check_ratio(len(data.PixelData), data.Rows * data.Columns * 2 * data.SamplesPerPixel)
