"""Whatever is sent, the answer is a 4xx with one clear line, and nothing of it stays."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from served import client, client_of, colour, grey, refusal, run
from starlette.testclient import TestClient

from dicom_files import dataset, write
from mailnet.deploy.service import content, unpack
from mailnet.deploy.service.content import kind_of_content
from mailnet.deploy.service.refusal import Refused
from mailnet.deploy.service.upload import OVERHEAD

__all__ = ["client", "run"]


def zipped(**members: bytes) -> bytes:
    """A zip of members, packed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name.replace("__", "/"), value)
    return packed.getvalue()


def saved(**tags: object) -> bytes:
    """A DICOM file."""
    target = io.BytesIO()
    dataset(np.zeros((32, 32), np.uint8), **tags).save_as(target, enforce_file_format=True)
    return target.getvalue()


def huge_png(width: int = 2**15, height: int = 2**15) -> bytes:
    """A PNG that says to have a billion pixels and holds none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(100)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def nifti(shape: tuple[int, int, int]) -> bytes:
    """The beginning of a NIfTI file of that shape."""
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    header.set_sform(np.eye(4), 1)
    return bytes(header.binaryblock) + bytes(64)


def tiff_pages() -> bytes:
    """A TIFF file of two pages."""
    target = io.BytesIO()
    page = Image.fromarray(np.zeros((8, 8), np.uint8))
    page.save(target, "TIFF", save_all=True, append_images=[page])
    return target.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "empty": (lambda: b"", 422, "empty"),
    "text": (lambda: b"hello", 422, "no known kind"),
    "program": (lambda: b"\x7fELF" + bytes(300), 422, "no known kind"),
    "html": (lambda: b"<html><script>alert(1)</script></html>", 422, "no known kind"),
    "truncated": (lambda: grey()[:200], 422, "cannot be decoded"),
    "cut DICOM": (lambda: saved()[:400], 422, "ct: "),
    "billion pixels": (huge_png, 422, "too many pixels"),
    "wrong channels": (colour, 422, "3 channels"),
    "pages": (tiff_pages, 422, "holds 2 images"),
    "polyglot": (lambda: grey() + zipped(a=b"x"), 422, "several kinds"),
    "two kinds": (lambda: grey()[:128] + b"DICM" + grey(), 422, "several kinds"),
    "program before a zip": (lambda: b"MZ" + zipped(a=grey()), 422, "no known kind"),
    "zip bomb": (lambda: zipped(a=bytes(2**24), b=bytes(2**24)), 413, "unpacks to 33,554,432 bytes"),
    "many members": (lambda: zipped(**{f"m{k}": b"x" for k in range(60)}), 413, "more than 50 files"),
    "zip in a zip": (lambda: zipped(a=zipped(b=grey())), 422, "holds no image"),
    "path in a zip": (lambda: zipped(**{"..__..__etc__x": b"x"}), 422, "holds no image"),
    "two in a zip": (lambda: zipped(a=grey(), b=grey()), 422, "not all DICOM"),
    "broken zip": (lambda: zipped(a=grey())[:-30], 422, "broken"),
    "10,000 frames": (lambda: saved(NumberOfFrames=10_000), 422, "ct: "),
    "giant volume": (lambda: nifti((30_000, 30_000, 30_000)), 422, "ct: "),
    "packed giant": (lambda: gzip.compress(nifti((30_000, 30_000, 30_000))), 422, "ct: "),
    "packed text": (lambda: gzip.compress(bytes(2**20)), 422, "no known kind"),
    "objects": (lambda: _npy(np.array([None, {}])), 422, "Python objects"),
    "NaN": (lambda: _npy(np.full((32, 32), np.nan, np.float32)), 422, "ct: "),
    "npy with code": (lambda: _npy_of("print()"), 422, "cannot be decoded"),
    "npy of one number": (lambda: _npy(np.float64(3)), 422, "shape"),
}  # fmt: skip


def _npy(array: object) -> bytes:
    target = io.BytesIO()
    np.save(target, array)  # type: ignore[arg-type]
    return target.getvalue()


def _npy_of(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117)
    return b"\x93NUMPY\x01\x00v\x00" + header.encode() + b"\n"


@pytest.fixture(scope="module")
def small(run: Path) -> object:
    """A client of a service with low limits."""
    with client_of(run, max_upload=2**22, max_files=50) as found:
        yield found


@pytest.mark.parametrize("name", BAD)
def test_bad_files(small: TestClient, name: str) -> None:
    made, status, words = BAD[name]
    error = refusal(small.post("/v1/predict", files={"ct": ("a.png", made())}), status)
    assert words in error["message"]
    assert error["remedy"]
    assert "0x" not in error["message"]
    assert not any(key in error["remedy"] for key in ("'channels'", "max_", "kind:"))  # those are not the client's
    desk = small.app.state.desk  # type: ignore[attr-defined]
    assert not list(desk._root.iterdir())
    assert desk.gate.taken == desk.gate.stored == 0


TABLES = {
    "no JSON": ("{", 400),
    "NaN": ('{"age": NaN}', 400),
    "infinity": ('{"age": 1e999}', 422),
    "list": ("[1]", 400),
    "deep": ("[" * 100_000, 400),
    "unknown column": ('{"agee": 1}', 422),
    "nested": ('{"age": {"a": 1}}', 422),
    "no number": ('{"age": "old"}', 422),
    "long": ('{"site": "' + "x" * 5000 + '"}', 422),
    "half a letter": ('{"site": "\\ud800"}', 422),
    "giant number": ('{"age": 1' + "0" * 5000 + "}", 400),
    "large number": ('{"age": 1' + "0" * 500 + "}", 422),
    "nothing": ("{}", 422),
    "empty cells": ('{"age": null, "site": ""}', 422),
}


@pytest.mark.parametrize("name", TABLES)
def test_bad_tables(client: TestClient, name: str) -> None:
    text, status = TABLES[name]
    refusal(client.post("/v1/predict", files={"table": (None, text)}), status)


def test_unknown_names_are_told_with_the_known_ones(client: TestClient) -> None:
    assert refusal(client.post("/v1/predict?model=nope", files={"ct": grey()}), 404)["remedy"] == "It has made-up"
    assert "ct" in refusal(client.post("/v1/predict", files={"cte": grey()}), 422)["remedy"]
    assert "table" in refusal(client.post("/v1/predict", files={"clinical": grey()}), 422)["remedy"]
    assert "age" in refusal(client.post("/v1/predict", files={"table": (None, '{"agee": 1}')}), 422)["remedy"]
    for wrong in ("task=x", "method=x", "target=x"):
        refusal(client.post(f"/v1/explain?{wrong}", files={"ct": grey()}), 422)
    refusal(client.post("/v1/predict?without=perhaps", files={"ct": grey()}), 422)
    error = refusal(client.post("/v1/predict?model=made-up&model=other", files={"ct": grey()}), 422)
    assert error["message"] == "a parameter is given twice"
    refusal(client.get("/v1/predict"), 405)
    refusal(client.get("/v1/nothing"), 404)


def test_forms_that_are_none(client: TestClient) -> None:
    multipart = {"content-type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="ct"\r\n\r\nx\r\n'
    refusal(client.post("/v1/predict", json={"ct": 1}), 415)
    refusal(client.post("/v1/predict", content=b"x", headers={"content-type": "multipart/form-data"}), 415)
    refusal(client.post("/v1/predict", content=part, headers={**multipart, "content-encoding": "gzip"}), 415)
    refusal(client.post("/v1/predict", content=b"nonsense", headers=multipart), 400)
    refusal(client.post("/v1/predict", content=part, headers=multipart), 400)
    refusal(client.post("/v1/predict", content=b"--b\r\n\r\nx\r\n--b--\r\n", headers=multipart), 400)
    text = b'--b\r\nContent-Disposition: form-data; name="id"\r\n\r\n\xff\r\n--b--\r\n'
    refusal(client.post("/v1/predict", content=text, headers=multipart), 400)
    twice = [("id", (None, "a")), ("id", (None, "b"))]
    refusal(client.post("/v1/predict", files=twice), 400)
    refusal(client.post("/v1/predict", files=[("ct", grey())], data={"id": "a\tb"}), 422)


def test_limits_hold_while_an_upload_streams(small: TestClient) -> None:
    sent = 0

    def pieces() -> object:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="ct"\r\n\r\n'
        for _ in range(8):
            sent += 2**20
            yield bytes(2**20)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    error = refusal(small.post("/v1/predict", content=pieces(), headers=headers), 413)  # type: ignore[arg-type]
    assert "4,194,304 bytes" in error["message"]
    announced = {**headers, "content-length": str(2**22 + OVERHEAD + 1)}
    refusal(small.post("/v1/predict", content=b"x", headers=announced), 413)
    refusal(small.post("/v1/predict", files=[("ct", grey())] * 60), 413)


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "a\x00.png", "CON", "x" * 3000, "!slice/9", "a.zip!b"]
)
def test_names_of_files_mean_nothing(client: TestClient, name: str) -> None:
    answer = client.post("/v1/predict", files={"ct": (name, grey())})
    assert answer.status_code == 200
    assert answer.json()["study"] == client.post("/v1/predict", files={"ct": ("a", grey())}).json()["study"]


def test_zips_with_lying_directories_are_refused(tmp_path: Path) -> None:
    packed = bytearray(zipped(a=bytes(1000)))
    end = packed.rfind(b"PK\5\6")
    entry = packed.rfind(b"PK\1\2")
    cases = []
    for place, value in ((entry + 24, 2**31 - 1), (end + 12, 2**30), (end + 16, 2**31 - 1)):
        lying = bytearray(packed)
        struct.pack_into("<I", lying, place, value)
        cases.append(bytes(lying))
    encrypted = bytearray(packed)
    encrypted[entry + 8] |= 1
    cases.append(bytes(encrypted))
    for number, case in enumerate(cases):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(case)
        with pytest.raises(Refused) as told:
            unpack.unpack(path, tmp_path / f"to {number}", 10, 2**20)
        assert 400 <= told.value.status < 500


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    series = write(tmp_path / "i.dcm", np.zeros((8, 8), np.uint8)).read_bytes()
    for value, kind in [(grey(), "picture"), (_npy(np.zeros(3)), "npy"), (nifti((8, 8, 8)), "nifti"), (series, "dicom"),
                        (gzip.compress(nifti((8, 8, 8))), "nifti.gz"), (zipped(a=b"x"), "zip"),
                        (b"II*\0" + series[4:], "dicom"), (grey() + b"PK\5\6", "picture")]:  # fmt: skip
        path.write_bytes(value)
        assert kind_of_content(path) == kind
        assert kind in content.SUFFIXES


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.sampled_from(["png", "dcm", "nii", "zip", "npy"]), st.binary(max_size=64))
def test_damaged_files_never_fail_the_service(client: TestClient, seed: int, kind: str, extra: bytes) -> None:
    makers: dict[str, Callable[[], bytes]] = {
        "png": grey,
        "dcm": saved,
        "nii": lambda: nifti((4, 4, 1)),
        "zip": lambda: zipped(a=grey()),
        "npy": lambda: _npy(np.zeros((32, 32), np.uint8)),
    }
    made = makers[kind]()
    random = np.random.default_rng(seed)
    damaged = bytearray(made)
    for place in random.integers(0, len(damaged), random.integers(1, 12)):
        damaged[place] = random.integers(256)
    value = bytes(damaged[: random.integers(len(damaged) // 2, len(damaged) + 1)]) + extra
    answer = client.post("/v1/predict", files={"ct": value})
    if answer.status_code != 200:
        assert answer.status_code in (413, 422)
        refusal(answer, answer.status_code)
