"""What systems answer who is refused a lock: another has it, or there are none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO

import pytest

from mailnet import locks
from mailnet.errors import RunError
from mailnet.locks import claim, knows_locks


@pytest.mark.parametrize(
    ("number", "held"),
    [
        (errno.EAGAIN, True),
        (errno.EACCES, True),  # on Windows, and on disks that it shares
        (errno.ENOLCK, False),
        (errno.ENOSYS, False),
        (errno.EOPNOTSUPP, False),
    ],
)
def test_a_lock_is_another_processs_or_there_are_none(
    number: int, held: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: IO[str]) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks, "_lock", refuse)
    assert knows_locks(tmp_path / "new" / "lock") == held
    with claim(tmp_path / "new" / "lock") as mine:
        assert mine != held


def test_a_lock_that_is_held_is_known_and_let_alone(tmp_path: Path) -> None:
    with claim(tmp_path / "lock") as mine:
        assert mine
        assert knows_locks(tmp_path / "lock")
        with claim(tmp_path / "lock") as twice:
            assert not twice
    assert knows_locks(tmp_path / "lock")
    with claim(tmp_path / "lock") as again:
        assert again


def test_a_lock_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        knows_locks(tmp_path / "file" / "lock")
