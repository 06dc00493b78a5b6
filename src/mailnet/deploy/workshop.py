"""A folder is made beside its place and gets its name once it is whole, also where two are made at once."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from mailnet.errors import RunError

TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside the one that is to be written, nobody else's, gone afterwards.

    Raises:
        RunError: The system refused to make it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise RunError(
            f"cannot be written ({error.strerror or error})", file=folder, remedy="Choose another folder with --out"
        ) from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def take_place(made: Path, folder: Path) -> None:
    """Give a folder of a workshop its name; one that has the name is moved into the workshop first.

    Of two that take a place at once the later stays, whole.

    Args:
        made: Within the workshop.
        folder: The name.
    """
    for number in count():
        if folder.exists():
            with suppress(FileNotFoundError):  # another has just moved it
                folder.rename(made.with_name(f"{made.name}.old-{number}"))
        try:
            made.rename(folder)
            return
        except OSError as error:
            if error.errno not in TAKEN:  # else another has put its own there meanwhile
                raise
