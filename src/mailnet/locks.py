"""Locks on files, which the system frees when their process ends, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mailnet.errors import RunError

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        file.seek(0)  # the lock is on one byte, the same for all
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock(file: IO[str]) -> None:
    """Lock an open file until it is closed.

    Raises:
        BlockingIOError: Another has locked it.
        OSError: The disk knows no locks.
    """
    try:
        _lock(file)
    except PermissionError as error:  # what Windows says, and disks that it shares
        raise BlockingIOError(*error.args) from error


def knows_locks(path: Path) -> bool:
    """Return whether the disk of a lock file knows locks.

    Args:
        path: The lock file; it and its folder are made.

    Raises:
        RunError: The file cannot be written.
    """
    with _opened(path) as file:
        try:
            lock(file)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Yield whether the claim is this process's, and hold it until the block ends.

    The file stays, with the number of its last process: deleting it would let two processes lock two files of one name.
    Where the disk knows no locks, every claim is granted: who makes any asks ``knows_locks`` first.

    Args:
        path: The lock file; its folder is made.

    Raises:
        RunError: The file cannot be written.
    """
    with _opened(path) as file:
        try:
            lock(file)
        except BlockingIOError:
            yield False
            return
        except OSError:  # no locks on this disk: nobody can hold it
            pass
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield True


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"cannot be written ({error.strerror})", file=path, remedy="Choose another folder with --out"
        ) from error
