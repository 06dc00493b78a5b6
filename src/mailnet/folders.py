"""A folder is made beside its place and gets its name once it is whole, also where two are made at once."""

from __future__ import annotations

import errno
import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO

from mailnet.errors import RunError
from mailnet.locks import lock

MAKING, LOCK, WORK = ".making", "lock", "work"
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to make another one in, nobody else's, on the same disk; gone afterwards.

    It lies in a hidden one beside ``folder`` that its process holds a lock on. Those for the same folder that nobody
    holds were left by a kill and are removed; where the disk knows no locks, they stay.

    Raises:
        RunError: The system refused to make it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        made, held = _begin(folder)
    except OSError as error:
        raise _refused(folder, error) from error
    try:
        yield made / WORK
    finally:
        held.close()  # first: not every system deletes a file that is open
        _remove(made)


def take_place(made: Path, folder: Path) -> None:
    """Give a folder of a workshop its name; one that has the name is moved into the workshop first.

    Of two that take a place at once the later stays, whole.

    Args:
        made: Within the workshop.
        folder: The name.

    Raises:
        RunError: The system refused; the earlier one has its name again.
    """
    for number in count():
        earlier = made.with_name(f"{made.name}.old-{number}")
        try:
            with suppress(FileNotFoundError):  # there is none, or another has just moved it
                folder.rename(earlier)
            made.rename(folder)
            return
        except OSError as error:
            if error.errno in TAKEN:  # another has put its own there meanwhile
                continue
            with suppress(OSError):
                earlier.rename(folder)
            raise _refused(folder, error) from error


def _begin(folder: Path) -> tuple[Path, IO[str]]:
    """Return the hidden folder and its lock; until it is locked, another process may take it for what a kill left."""
    while True:
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=MAKING))
        with suppress(FileNotFoundError, BlockingIOError), ExitStack() as opened:  # it is removed, or being removed
            held = opened.enter_context((made / LOCK).open("x", encoding="utf-8"))
            try:
                lock(held)
            except BlockingIOError:
                raise
            except OSError:  # there are no locks on this disk, so that nobody removes anything
                pass
            (made / WORK).mkdir()
            opened.pop_all()
            return made, held


def _clear(folder: Path) -> None:
    """Remove what kills left of workshops for a folder."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{MAKING}"):
        # What is refused is at work, another user's, or on a disk that knows no locks.
        with suppress(OSError), (left / LOCK).open("r+", encoding="utf-8") as held:
            lock(held)
            _remove(left)
        with suppress(OSError):  # is not empty, unless the kill came before the lock
            left.rmdir()


def _remove(made: Path) -> None:
    shutil.rmtree(made / WORK, ignore_errors=True)
    shutil.rmtree(made, ignore_errors=True)  # with the lock, by which what a kill leaves of this is removed, last


def _refused(folder: Path, error: OSError) -> RunError:
    remedy = "Choose another folder with --out; what was there before is untouched"
    return RunError(f"cannot be written ({error.strerror or error})", file=folder, remedy=remedy)
