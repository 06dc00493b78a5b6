"""SIGKILL at random moments: every study gets exactly one result, complete."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from arrived import name_of, send

from mailnet.deploy.dicom.ledger import Ledger

KILLS, STUDIES, SECONDS = 5, 15, 60.0
SCRIPT = Path(__file__).with_name("killed_watcher.py")


def take(out: Path, taken: Path, seen: list[str]) -> None:
    """Take results away at once, as an archive that imports them does, so that one made anew is a second one."""
    for folder in sorted(out.glob("*")) if out.is_dir() else []:
        if folder.is_dir() and not folder.name.startswith("."):
            seen.append(folder.name)
            folder.rename(taken / f"{folder.name}-{len(seen)}")


def test_a_watcher_that_is_killed_answers_each_study_once(tmp_path: Path) -> None:
    inbox, out, taken = (tmp_path / name for name in ("in", "out", "taken"))
    for folder in (inbox, taken):
        folder.mkdir()
    dice, began = random.Random(0), time.monotonic()
    seen: list[str] = []
    waiting = list(range(STUDIES))
    for run in range(KILLS + 1):
        process = subprocess.Popen([sys.executable, str(SCRIPT), str(inbox), str(out)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        last = run == KILLS
        for _ in range(len(waiting) if last else STUDIES // (KILLS + 1)):
            send(inbox, waiting.pop())
        end = time.monotonic() + dice.uniform(0.05, 0.4)
        while time.monotonic() < end if not last else len(seen) < STUDIES and time.monotonic() - began < SECONDS:
            take(out, taken, seen)
            time.sleep(0.005)
        if last:  # none comes a second time
            time.sleep(0.3)
        process.kill()
        process.wait()
        process.stdout.close()
        take(out, taken, seen)
    assert sorted(seen) == sorted(name_of(number) for number in range(STUDIES))
    for folder in taken.iterdir():
        assert sorted(path.name for path in folder.iterdir()) == ["first.txt", "second.txt"]
        assert (folder / "second.txt").stat().st_size == 200_000
    ledger = Ledger(out / ".mailnet" / "ledger.sqlite")
    assert len(ledger.entries("done")) == STUDIES
    ledger.close()
    shutil.rmtree(taken)
