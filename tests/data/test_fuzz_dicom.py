"""Damaged files end in an image or in the documented error: no other exception, no crash, no hang, no giant memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MEMORY

COUNT = 3000


@pytest.fixture(scope="module")
def outcome(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float | dict[str, int]]:
    """What became of the mutants, read in a process of their own, since a decoder may end it."""
    progress = tmp_path_factory.mktemp("fuzz") / "progress.txt"
    command = [sys.executable, str(Path(__file__).with_name("mutants.py")), str(data_folder), str(progress), "0"]
    done = subprocess.run([*command, str(COUNT)], capture_output=True, text=True, timeout=120)
    lines = progress.read_text(encoding="utf-8").splitlines() if progress.exists() else [""]
    assert done.returncode == 0, f"{lines[-1]} ended the process: {done.stderr[-2000:]}"
    assert done.stdout + done.stderr == ""
    return dict(json.loads(lines[-1]))


def test_every_mutant_is_read_or_refused(outcome: dict[str, dict[str, int]]) -> None:
    assert sum(outcome["ends"].values()) == COUNT
    # Neither all harmless nor all stopped at the first bytes.
    assert 0.1 < outcome["ends"]["read"] / COUNT < 0.6
    assert len(outcome["ends"]) > 20


def test_none_takes_long_or_much_memory(outcome: dict[str, float]) -> None:
    assert outcome["slowest"] < 5
    assert outcome["peak"] < MEMORY
