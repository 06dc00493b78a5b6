"""Fixtures of the command line and of runs, and where tests find real data and golden files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from factory import Command
from mailnet.cli import main
from runs import cache, make_run

__all__ = ["cache", "make_run"]

DEFAULT_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, ``MAILNET_TEST_DATA``."""
    return _folder(Path(os.environ.get("MAILNET_TEST_DATA", DEFAULT_DATA)), "real data")


@pytest.fixture(scope="session")
def golden_folder(data_folder: Path) -> Path:
    """The folder of golden files of the published networks, beside the real data."""
    return _folder(data_folder.parent / "golden", "golden files")


@pytest.fixture
def mailnet(capsys: pytest.CaptureFixture[str]) -> Command:
    """``mailnet("train", path)`` -> exit status, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def _folder(path: Path, what: str) -> Path:
    if not path.is_dir():
        reason = f"no {what} at {path}: set MAILNET_TEST_DATA to the data folder"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
