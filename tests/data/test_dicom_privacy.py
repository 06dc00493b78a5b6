"""Nothing that a DICOM header says of a patient leaves the file."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from dicom_files import PATIENT, SECRETS, dataset, write, write_series
from factory import read_table, write_study, write_table
from mailnet.cli import main
from mailnet.data.dicom import count_planes
from mailnet.data.dicom.files import quiet
from mailnet.data.readers import read_scan
from mailnet.data.scan import Planes, Reading
from mailnet.errors import DataError

GREY = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16)

# Numbers may hold these digits by chance, within others.
_FOUND = re.compile("|".join(rf"(?<![\d.]){word}(?!\d)" if word.isdigit() else word for word in SECRETS), re.IGNORECASE)


def private(text: str) -> None:
    assert not (found := _FOUND.search(text)), text[max(0, found.start() - 100) : found.end() + 100]


@pytest.fixture(autouse=True)
def watched(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Everything that a test logs, prints or warns of is searched."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    out, err = capfd.readouterr()
    for text in (out, err, caplog.text, *(str(warning.message) for warning in seen)):
        private(text)


def message(location: Path, **reading: Any) -> str:
    """The error with its whole traceback, which --debug prints."""
    with pytest.raises(DataError) as caught:
        read_scan(str(location), Reading(**reading))
    text = "".join(traceback.format_exception(caught.value))
    private(text)
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, DataError)
    return text


def test_the_words_that_are_searched_are_in_the_files(tmp_path: Path) -> None:
    content = write(tmp_path / "a.dcm", GREY).read_bytes().decode("latin-1")
    assert set(SECRETS) <= set(_FOUND.findall(content))
    assert len(PATIENT) >= 14


def secret_values() -> list[dict[str, Any]]:
    """Headers in which what pydicom quotes is a patient's."""
    return [
        {"RescaleSlope": "1", "RescaleIntercept": "0", "Rows": 9999},
        {"NumberOfFrames": "77"},
        {"PhotometricInterpretation": "QUILLFEATHER"},
        {"SeriesInstanceUID": "1.2.19370423"},
        {"SOPClassUID": "1.2.19370423", "Rows": None},
        {"BitsAllocated": 12},
        {"VOILUTFunction": "QUILLFEATHER", "WindowCenter": 1, "WindowWidth": 2},
        {"RescaleType": "Quillfeather Zebediah", "WindowCenter": 1, "WindowWidth": 0},
        {"ImagePositionPatient": [1, 2, 3], "PixelSpacing": [1, 1]},
    ]


def test_errors_of_files(tmp_path: Path) -> None:
    for number, tags in enumerate(secret_values()):
        data = dataset(GREY, **tags)
        data.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        message(tmp_path / f"{number}.dcm", file_window=True, direction="axial")
    whole = write(tmp_path / "a.dcm", GREY, RescaleSlope=1, RescaleIntercept=0, SliceThickness=1).read_bytes()
    # Values of the patient where numbers should be, which pydicom's own errors and warnings quote.
    for tag in (b"\x28\0\x53\x10", b"\x28\0\x52\x10", b"\x18\0\x50\0"):
        place = whole.index(tag)
        broken = whole[: place + 6] + b"\x0c\0Quillfeather" + whole[place + 8 + whole[place + 6] :]
        (tmp_path / "a.dcm").write_bytes(broken)
        try:
            read_scan(str(tmp_path / "a.dcm"))
        except DataError as error:
            private("".join(traceback.format_exception(error)))
    for end in range(150, len(whole), 37):
        (tmp_path / "a.dcm").write_bytes(whole[:end])
        message(tmp_path / "a.dcm")
    for syntax in (JPEG2000Lossless, RLELossless):
        data = dataset(GREY)
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = encapsulate([b"Quillfeather Zebediah PZX7733991" * 3])
        data["PixelData"].VR = "OB"
        data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        message(tmp_path / "a.dcm")


def test_errors_of_folders(tmp_path: Path) -> None:
    volume = np.stack([GREY] * 6)
    folder = write_series(tmp_path / "a", volume)
    (folder / "i003.dcm").unlink()
    assert "slices missing" in message(folder)
    write_series(tmp_path / "b", volume)
    write(tmp_path / "b" / "z.dcm", GREY, SeriesInstanceUID="1.2.9", SeriesDescription="thick")
    assert "holds 2 series" in message(tmp_path / "b")
    assert "no series" in message(tmp_path / "b", select={"Modality": "MR"})
    assert "which may identify a patient" in message(tmp_path / "b", select={"PatientName": "*"})
    with pytest.raises(DataError) as caught:
        count_planes(str(tmp_path / "b"), Reading())
    private(str(caught.value))
    write_series(tmp_path / "c", volume, ImagePositionPatient=[0, 0, 0])
    assert "two planes at" in message(tmp_path / "c")


def test_nothing_is_logged_or_warned_of_while_real_files_are_read(data_folder: Path, recwarn: Any) -> None:
    for path in sorted((data_folder / "io_samples/dicom/pydicom").glob("*.dcm")):
        with contextlib.suppress(DataError):
            read_scan(str(path))
    assert not recwarn.list


def test_threads_leave_the_filters_of_warnings_as_they_were() -> None:
    before, level = list(warnings.filters), logging.getLogger("pydicom").level
    inside = threading.Barrier(4)

    def work() -> None:
        for _ in range(50):
            with quiet():
                pass
        inside.wait()
        with quiet():
            inside.wait()
            warnings.warn("never seen", stacklevel=1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
    assert logging.getLogger("pydicom").level == level


def written(folder: Path) -> Iterator[tuple[str, str]]:
    """Names and contents of all files; of tables also what they unpack to."""
    for path in sorted(folder.rglob("*")):
        yield path.name, path.name
        if path.is_file():
            yield path.name, path.read_bytes().decode("latin-1")
            if path.suffix == ".parquet":
                yield path.name, pd.read_parquet(path).to_string()


def test_from_a_study_to_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    modality = {"size": 16, "range": [-1024, 3071], "units": "HU", "select": {"Modality": "CT"}, "slice": "middle"}
    study = write_study(tmp_path / "study", n=30, size=16, train={"epochs": 1}, modalities={"ct": modality})
    rows = read_table(study.parent / "studies.csv")
    random = np.random.default_rng(0)
    for number, row in enumerate(rows):
        row["ct"] = f"images/ct{number}"
        noise = random.integers(0, 999, (3, 16, 16)).astype(np.uint16)
        write_series(study.parent / row["ct"], noise, BitsStored=12, HighBit=11)
    write_table(study.parent / "studies.csv", rows)
    run = tmp_path / "run"
    commands: tuple[list[object], ...] = (
        ["check", study],
        ["train", study, "--out", run, "--set", "evaluation.bootstrap=5"],
        ["report", run],
    )
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in command])
        # 1 says that the check points at something in noise and a few labels.
        assert ended.value.code in (None, 0, *([1] if command[0] == "check" else [])), command
    assert (run / "report.html").is_file()
    seen = dict(written(run)) | dict(written(tmp_path / "cache"))
    assert {"evaluation.json", "report.html", "config.json"} <= set(seen)
    for folder in (run, tmp_path / "cache"):
        for name, text in written(folder):
            private(name)
            private(text)


def test_a_private_header_is_read_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", GREY)
    scan = read_scan(str(path), Reading(planes=Planes(0)))
    np.testing.assert_array_equal(scan.values[0, ..., 0], GREY)
    private(repr(scan))
    assert isinstance(pydicom.dcmread(path), Dataset)
