from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mailnet.errors import MailnetError, RunError
from mailnet.files import read_json, replacing, write_first_json, write_json, write_text


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", {"name": "Käse", "n": [1, 2.5, None]})
    assert read_json(tmp_path / "new" / "a.json") == {"name": "Käse", "n": [1, 2.5, None]}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


@pytest.mark.parametrize("links", [True, False])
def test_the_first_of_several_is_kept(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", raising(errno.EPERM))
    assert write_first_json(tmp_path / "a.json", 1) == 1
    assert write_first_json(tmp_path / "a.json", 2) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_one_that_comes_between_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(mine: Path, target: Path) -> None:
        write_json(target, "other")
        link(mine, target)

    monkeypatch.setattr(os, "link", late)
    assert write_first_json(tmp_path / "a.json", "mine") == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def raising(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_nan_is_refused_and_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == 1


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"a\.txt.*No space left.*Free space"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_unreadable_json(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_json(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(RunError, match="not valid JSON"):
        read_json(tmp_path / "half.json")


def test_an_error_names_place_and_remedy() -> None:
    error = MailnetError("is truncated", study="p7", modality="ct", file="a.png", remedy="Restore it.")
    assert str(error) == "study p7, modality ct, file a.png: is truncated. Restore it."
    assert error.as_dict() == {
        "message": "is truncated",
        "remedy": "Restore it.",
        "study": "p7",
        "modality": "ct",
        "file": "a.png",
    }
