"""Certificates as they are made: a line a study, so that a killed command goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from mailnet.errors import RunError
from mailnet.files import write_text


class Lines:
    """A file whose first line says the settings, and each further one what was found of one study.

    Lines of other settings are thrown away; a line that a kill cut short is made again.

    Args:
        path: The file.
        settings: What every line depends on.

    Raises:
        RunError: It cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        head = json.dumps({"settings": settings}, sort_keys=True)
        self.found: dict[int, dict[str, Any]] = {}
        if path.is_file():
            try:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError as error:
                raise RunError(f"cannot be read ({error.strerror})", file=path, remedy="Check the folder") from error
            if lines and lines[0] == head:
                self.found = dict(_readable(lines[1:]))
        write_text(path, "".join(f"{line}\n" for line in (head, *map(json.dumps, self.found.values()))))
        self._file: TextIO | None = None

    def add(self, study: int, found: Mapping[str, Any]) -> None:
        """Write what was found of a study, known by its position among the tested ones."""
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8")
        self.found[study] = {"study": study, **found}
        self._file.write(json.dumps(self.found[study]) + "\n")
        self._file.flush()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def _readable(lines: list[str]) -> Any:
    for line in lines:
        try:
            found = json.loads(line)
            yield int(found["study"]), found
        except (ValueError, KeyError, TypeError):
            continue
