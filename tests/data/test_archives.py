"""Archives that announce too much or lead elsewhere, and paths that leave the data root."""

from __future__ import annotations

import io
import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mailnet.data.archives import npz_arrays, read_bytes
from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.data.images import count_planes, load_image
from mailnet.data.locations import Locator
from mailnet.data.readers import read_scan
from mailnet.data.scan import Reading
from mailnet.errors import DataError

MEBIBYTE = 2**20


def refused(location: str, text: str, reading: Reading | None = None) -> DataError:
    """The error, reached without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=text) as caught:
            read_scan(location, reading)
        assert tracemalloc.get_traced_memory()[1] < 8 * MEBIBYTE
    finally:
        tracemalloc.stop()
    assert caught.value.remedy
    return caught.value


def announcing(path: Path, name: str, size: int) -> str:
    """A zip whose directory says that a member of 1,000 zeros unpacks to ``size``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(1000))
    content = bytearray(path.read_bytes())
    # Size of the unpacked member: local header (APPNOTE 4.3.7) and central directory (4.3.12).
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + offset, size)
    path.write_bytes(content)
    return f"{path}!{name}"


@pytest.mark.parametrize("name", ["a.png", "a.nii", "a.nii.gz", "a.dcm", "a.npy"])
def test_a_member_that_announces_too_much(tmp_path: Path, name: str) -> None:
    refused(announcing(tmp_path / "a.zip", name, 2**32 - 2), "4,294,967,294 bytes large, at most")
    refused(announcing(tmp_path / "b.zip", name, 2**25), "cannot unpack to 33,554,432")
    # One that announces too little is cut there, and its checksum does not fit.
    refused(announcing(tmp_path / "c.zip", name, 500), "broken|cannot be decoded|no ")


def test_limits_are_those_of_the_modality(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", np.random.default_rng(0).bytes(2 * MEBIBYTE))
        archive.writestr("bomb.npy", bytes(2 * MEBIBYTE))
    assert "max_pixels" in str(refused(f"{tmp_path}/a.zip!a.png", "bytes large", Reading(max_pixels=100)).remedy)
    assert "max_voxels" in str(refused(f"{tmp_path}/a.zip!bomb.npy", "bytes large", Reading(max_voxels=99)).remedy)
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="too many pixels: 30 x 20, at most 599"):
        load_image(str(tmp_path / "a.png"), ImageConfig(max_pixels=599))
    np.save(tmp_path / "a.npy", np.zeros((9, 9, 9), np.uint8))
    with pytest.raises(DataError, match="too many voxels: 9 x 9 x 9, at most 700"):
        load_image(str(tmp_path / "a.npy"), VolumeConfig(kind="volume", max_voxels=700))


def npy(shape: Any, content: bytes = b"", kind: str = "|u1") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


@pytest.mark.parametrize("shape", [(2**20, 2**20), (2**40,) * 2, (2**63, 2**63), (1, 2**33), (-1, -1), (-1, 4), (3, 2)])
def test_arrays_that_announce_too_much(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(npy(shape, b"1234"))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(shape, b"1234"))
    for location in (f"{tmp_path}/a.npy", f"{tmp_path}/a.npz!x", f"{tmp_path}/a.npz!x/0"):
        refused(location, "ends too early")
        with pytest.raises(DataError):
            count_planes(location, ImageConfig(slice="all"))
    with pytest.raises(DataError, match="ends too early"):
        npz_arrays(f"{tmp_path}/a.npz")


def test_planes_of_arrays_are_counted_by_their_header(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 9, 8, 8), np.uint8), y=np.zeros((7, 8, 8)))
    np.save(tmp_path / "a.npy", np.zeros((6, 8, 8)))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    section = ImageConfig(slice="all")
    counts = {"a.npz!x/4": 9, "a.npz!x": 5, "a.npz!y": 7, "a.npz!y/0": 1, "a.npy": 6, "a.png": 1}
    for name, count in counts.items():
        assert count_planes(f"{tmp_path}/{name}", section) == count, name
    with pytest.raises(DataError, match="does not exist"):
        count_planes(f"{tmp_path}/b.npy", section)


def test_a_side_of_endless_length(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2**19, 2, 2), np.uint8))
    np.save(tmp_path / "b.npy", np.zeros((2, 2, 2**19), np.uint8))
    for name in ("a.npy", "b.npy"):
        refused(f"{tmp_path}/{name}", "has 524,288 planes, rows or columns", Reading(volume=True))
    with pytest.raises(DataError, match="has 524,288 planes"):
        count_planes(f"{tmp_path}/a.npy", ImageConfig(slice="all"))
    assert load_image(f"{tmp_path}/b.npy", ImageConfig(slice=0)).shape == (1, 128, 128)


def test_a_member_that_is_a_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(f"{tmp_path}/a.zip!a.png", "the member is a link")


def test_a_pipe_does_not_wait_for_its_other_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    refused(f"{tmp_path}/a.png", "device or a pipe")


def test_paths_out_of_the_root_are_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "in").mkdir(parents=True)
    outside.mkdir()
    (outside / "a.nii").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    (root / "in" / "a.nii").symlink_to(outside / "a.nii")
    (root / "up").symlink_to("..")
    locator = Locator(root)
    for path in (
        "../outside/a.nii",
        "in/../../outside/a.nii",
        str(outside / "a.nii"),
        "link/a.nii",
        "link/a.nii!slice/3",
        "in/a.nii",
        "in\\..\\..\\outside\\a.nii",
        "up/outside/a.nii",
        "link",
        "set.zip!largest/../outside/a.nii",
        "x.nii!largest/link/a.nii",
        "../outside/set.zip!a.nii",
    ):
        with pytest.raises(DataError, match="leaves"):
            locator.locate(path)
    for member in ("../a.nii", "/etc/passwd", "x/../../a.nii", ".."):
        with pytest.raises(DataError, match="leaves its archive"):
            locator.locate(f"set.zip!{member}")
    with pytest.raises(DataError, match="leaves its archive"):
        locator.locate("../../a.png", f"{root}/set.zip!images")


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "a/../../a.png", "..\\a.png"])
def test_members_with_names_that_lead_elsewhere_are_never_written(tmp_path: Path, name: str) -> None:
    content = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(content, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content.getvalue())
    before = sorted(tmp_path.parent.rglob("*.png"))
    # Members are read as bytes, whatever they are called; no file is made of them.
    assert read_bytes(f"{tmp_path}/a.zip!{name}") == content.getvalue()
    assert sorted(tmp_path.parent.rglob("*.png")) == before


def test_more_archives_than_a_process_may_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for n in range(40):
        np.savez(tmp_path / f"{n}.npz", a=np.full((8, 8), n, np.uint8))
    for n in (*range(40), 0):
        assert load_image(f"{tmp_path}/{n}.npz!a", ImageConfig(size=(8, 8))).max() == n
    if before:
        assert len(os.listdir("/proc/self/fd")) < before + 20
