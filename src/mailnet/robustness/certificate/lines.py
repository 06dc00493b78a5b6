"""Certificates as they are made: a line a study, so that a killed command goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mailnet.errors import RunError
from mailnet.files import write_text


class Lines:
    """A file whose first line says the settings, and each further one what was found of one study.

    A line that a kill cut short is made again.

    Args:
        path: The file; one that is there has these settings.
        settings: What every line depends on.
        finished: That of an earlier measurement, whose lines are taken over where its settings are the same.

    Raises:
        RunError: A file cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], finished: Path) -> None:
        self.path = path
        self._head = json.dumps({"settings": settings}, sort_keys=True)
        self.found: dict[int, dict[str, Any]] = {}
        for known in (finished, path):
            self.found.update(_read(known, self._head))
        self.save(path)

    def add(self, study: int, found: Mapping[str, Any]) -> None:
        """Write what was found of a study, known by its position among the tested ones.

        Raises:
            RunError: The system refused the write.
        """
        self.found[study] = {"study": study, **found}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.found[study]) + "\n")
        except OSError as error:
            remedy = "Free space if there is none, and give the command again: it goes on where it was"
            raise RunError(f"cannot be written ({error.strerror})", file=self.path, remedy=remedy) from error

    def save(self, path: Path) -> None:
        """Write all lines to a file, at once or not at all."""
        write_text(path, "".join(f"{line}\n" for line in (self._head, *map(json.dumps, self.found.values()))))


def _read(path: Path, head: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield study and line of a file that begins with the settings; nothing where it does not, or is not there."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror})", file=path, remedy="Check the folder") from error
    for line in lines[1:] if lines[:1] == [head] else ():
        try:
            found = json.loads(line)
            yield int(found["study"]), found
        except (ValueError, KeyError, TypeError):
            continue
