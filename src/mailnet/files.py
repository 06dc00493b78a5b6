"""Files are written beside themselves and renamed, so a kill leaves the old file or the new one."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailnet.errors import RunError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder that replaces ``path`` when the block ends without an error.

    Raises:
        RunError: The system refused the write (a full disk, a folder without permission); the old file is whole.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # Only now: some libraries put a file of their own in its place, open to its owner alone.
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except OSError as error:
        barred = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        raise RunError(
            f"cannot be written ({error.strerror or error})",
            file=target,
            remedy=f"{'Choose' if barred else 'Free space or choose'} another folder; earlier files are untouched",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON at once or not at all; NaN and infinity are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_first_json(path: str | Path, value: Any) -> Any:
    """Write JSON unless the file is there, and return what is there then: of processes that begin at once, the first's.

    Raises:
        RunError: As ``replacing`` and ``read_json``.
    """
    target = Path(path)
    if not target.is_file():
        mine = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        write_json(mine, value)
        try:
            os.link(mine, target)  # which, unlike a rename, never replaces
        except FileExistsError:
            pass
        except OSError:  # a disk that knows no links
            os.replace(mine, target)
        finally:
            mine.unlink(missing_ok=True)
    return read_json(target)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        RunError: It is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror or error})", file=path, remedy="Check the folder") from error
    except ValueError as error:
        raise RunError(f"is not valid JSON ({error})", file=path, remedy="Restore it or make the run again") from error


def read_part(path: Path, highest: int) -> Any:
    """Return the contents of a file that a folder may lack, None where it does.

    Args:
        path: A JSON object with a whole number ``format``.
        highest: Format up to which it can be read.

    Raises:
        RunError: It is damaged, or of a newer format.
    """
    if not path.is_file():
        return None
    values = read_json(path)
    if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > highest:
        raise RunError(f"is of format {values['format']}, newer than {highest}", file=path, remedy="Update mailnet")
    return values


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
