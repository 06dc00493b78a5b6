"""Damaged pictures, arrays, NIfTI files and zips end in an image or the documented error, in little time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from file_mutants import MEMORY

COUNT = 3000


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of the mutants, read in a process of their own, since a decoder may end it."""
    folder = tmp_path_factory.mktemp("fuzz")
    # Where there is no real data, all mutants are of made-up files.
    data = Path(os.environ.get("MAILNET_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    command = [sys.executable, str(Path(__file__).with_name("file_mutants.py")), str(folder)]
    real = str(data) if data.is_dir() else "-"
    done = subprocess.run([*command, real, str(COUNT)], capture_output=True, text=True, timeout=120)
    log = folder / "progress.txt"
    last = log.read_text(encoding="utf-8").splitlines()[-1] if log.exists() else "the start"
    assert done.returncode == 0, f"{last} ended the process: {done.stderr[-2000:]}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_every_mutant_is_read_or_refused(outcome: dict[str, Any]) -> None:
    uncounted = outcome["ends"].pop("not counted")
    assert uncounted > 0
    assert sum(outcome["ends"].values()) == COUNT
    # Neither all harmless nor all stopped at the first bytes.
    assert 0.1 < outcome["ends"]["read"] / COUNT < 0.6
    assert len(outcome["ends"]) > 20


def test_none_takes_long_or_much_memory(outcome: dict[str, Any]) -> None:
    assert outcome["slowest"] < 5
    assert outcome["peak"] < MEMORY
