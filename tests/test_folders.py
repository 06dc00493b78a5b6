"""Folders that are made at once under one name do not come into each other's way, and kills leave nothing for ever."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import pytest

from mailnet import folders
from mailnet.errors import RunError
from mailnet.folders import LOCK, MAKING, WORK, take_place, workshop


def made_in(place: Path, text: str) -> Path:
    """A folder with one file, as a maker writes it in its workshop."""
    made = place / "fp32"
    made.mkdir()
    (made / "model.onnx").write_text(text)
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_two_at_once_have_each_a_workshop(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model"
    with workshop(target) as first:
        one = made_in(first, "first")
        with workshop(target) as second:
            assert first != second
            take_place(made_in(second, "second"), target)
        assert (target / "model.onnx").read_text() == "second"
        assert (one / "model.onnx").read_text() == "first"  # what begins and ends takes nothing of the other
        take_place(one, target)
    assert (target / "model.onnx").read_text() == "first"
    assert names(target.parent) == ["model"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with workshop(tmp_path / "model") as place:
            made_in(place, "half")
            raise RunError("the graph does not answer as the run does")

    with pytest.raises(RunError, match="does not answer"):
        fail()
    assert not names(tmp_path)


def test_a_place_where_nothing_can_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), workshop(tmp_path / "file" / "model"):
        pytest.fail("there is no such folder")


def test_what_a_kill_leaves_goes_with_the_next_making_of_the_name(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, mailnet.folders as f\n"
        "with f.workshop(pathlib.Path(sys.argv[1])) as place:\n"
        "    (place / 'half').write_text('half')\n"
        "    print(place, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        place = Path(process.stdout.readline().strip())
        with workshop(tmp_path / "model"):
            assert names(place) == ["half"]  # its maker lives
        process.kill()
    assert names(place) == ["half"]
    with workshop(tmp_path / "other"):
        assert names(place) == ["half"]
    with workshop(tmp_path / "model"):
        assert not place.parent.exists()
    assert not names(tmp_path)


def test_only_what_a_kill_left_is_taken_for_it(tmp_path: Path) -> None:
    empty, foreign = (tmp_path / f".model.{name}{MAKING}" for name in ("empty", "foreign"))
    empty.mkdir()  # killed before it had a lock
    (foreign / WORK).mkdir(parents=True)  # never had one
    (tmp_path / ".model.cache").mkdir()
    (tmp_path / f".model.file{MAKING}").touch()
    with workshop(tmp_path / "model"):
        pass
    assert names(tmp_path) == [".model.cache", f".model.file{MAKING}", foreign.name]


def test_where_the_disk_knows_no_locks_leftovers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / f".model.left{MAKING}"
    (left / WORK).mkdir(parents=True)
    (left / LOCK).touch()
    monkeypatch.setattr(folders, "lock", lambda file: refuse(errno.ENOLCK))
    with workshop(tmp_path / "model") as first, workshop(tmp_path / "model") as second:
        assert first.is_dir()
        take_place(made_in(second, "made"), tmp_path / "model")
    assert names(tmp_path) == [left.name, "model"]


@pytest.mark.parametrize("moment", ["made", "opened", "locked"])
def test_a_workshop_that_is_taken_for_a_leftover_is_made_again(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    mkdtemp = tempfile.mkdtemp

    def noted(**options: str) -> str:
        made.append(Path(mkdtemp(**options)))
        if moment == "made" and len(made) == 1:
            made[0].rmdir()
        return str(made[-1])

    def lock(file: IO[str]) -> None:
        if len(made) == 1:  # another process has it, removes the folder, and lets go
            shutil.rmtree(made[0])
            if moment == "opened":
                refuse(errno.EAGAIN)

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    monkeypatch.setattr(folders, "lock", lock)
    with workshop(tmp_path / "model") as place:
        assert place == made[1] / WORK
        assert place.is_dir()
    assert not names(tmp_path)


@pytest.mark.parametrize("moved", ["before it is moved aside", "before the new one is there"])
def test_of_two_that_take_a_place_at_once_the_later_stays(
    moved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "model", Path.rename
    others: list[Path] = []
    with workshop(target) as first, workshop(target) as second:
        mine, other = made_in(first, "mine"), made_in(second, "other")
        (target / "deep").mkdir(parents=True)

        def overtaken(path: Path, to: Path) -> Path:
            if not others and path == (target if moved == "before it is moved aside" else mine):
                others.append(to)
                take_place(other, target)
                if moved == "before it is moved aside":  # and at once somebody moves that one away
                    rename(target, second / "gone")
            return rename(path, to)

        monkeypatch.setattr(Path, "rename", overtaken)
        take_place(mine, target)
    assert len(others) == 1
    assert names(target) == ["model.onnx"]
    assert (target / "model.onnx").read_text() == "mine"


@pytest.mark.parametrize("refused", ["model", "fp32"])
def test_where_a_name_is_refused_the_earlier_folder_keeps_it(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "model", Path.rename
    with workshop(target) as place:
        take_place(made_in(place, "earlier"), target)
    monkeypatch.setattr(
        Path, "rename", lambda path, to: refuse(errno.EACCES) if path.name == refused else rename(path, to)
    )
    with pytest.raises(RunError, match=r"model: cannot be written \(Permission denied\)"), workshop(target) as place:
        take_place(made_in(place, "later"), target)
    assert names(tmp_path) == ["model"]
    assert (target / "model.onnx").read_text() == "earlier"
