"""What is done of a measurement, on disk, so that a killed one goes on; of other settings in a folder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mailnet.bundle.store import write_tensors
from mailnet.errors import RunError
from mailnet.files import read_json, write_first_json, write_json

SETTINGS = "settings.json"


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Return what tells settings, which JSON can hold, from others."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


class Removed(RunError):
    """Another process has ended the measurement, and removed what was kept of it."""


class Kept:
    """A folder of what is done, named after the fingerprint of the settings.

    A measurement that was stopped is gone on with by the same settings; what others have left stays as it is.

    Args:
        root: Where the folders of all settings are.
        settings: All that the results depend on.
        guest: Another process ends the measurement: where it has, nothing more is kept, and ``Removed`` says so.

    Raises:
        RunError: The folder cannot be read or written.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], *, guest: bool = False) -> None:
        self.root = root
        self.guest = guest
        self.folder = root / fingerprint(settings)
        self.resumed = (self.folder / SETTINGS).is_file()
        if not self.resumed:
            write_json(self.folder / SETTINGS, settings)

    def announce(self, line: str, say: Callable[[str], None]) -> None:
        """Say what is gone on with, and that others have left something.

        Args:
            line: How far the measurement is; empty where it begins.
            say: Called with a line for the user.
        """
        if line:
            say(line)
        others = sum(path.parent != self.folder for path in self.root.glob(f"*/{SETTINGS}"))
        if others:
            say(
                f"Measurements with other settings that were stopped here before, {others} of them, can be gone on with"
                f" too; if they are no longer wanted, delete {self.root}"
            )

    def tensors(self, name: str) -> dict[str, Tensor] | None:
        """Return the tensors that were kept under a name, None where none were."""
        path = self.folder / f"{name}.safetensors"
        try:
            return load_file(path)
        except FileNotFoundError:  # asked for by opening it: another process may delete it at any time
            return None
        except (OSError, SafetensorError) as error:
            remedy = "Delete the folder it is in, and measure again"
            raise RunError(f"cannot be read ({error})", file=path, remedy=remedy) from error

    def once(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> tuple[Mapping[str, Tensor], bool]:
        """Return the tensors of a name, made and kept where they were not yet, and whether they were there before."""
        found = self.tensors(name)
        if found is not None:
            return found, True
        made = make()
        self.keep_tensors(name, made)
        return made, False

    def keep_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors under a name.

        Raises:
            Removed: A guest finds the measurement ended.
        """
        try:
            write_tensors(self.folder / f"{name}.safetensors", tensors)
        except RunError:
            if not self._ended():  # else the folder was removed under the file
                raise
        # Looked at after writing: what is written while the folder is being removed would stay behind.
        if self._ended():
            self.remove()
            remedy = "Give the command again, unless another one has written the results"
            raise Removed("was removed while it was at work", file=self.folder, remedy=remedy)

    def _ended(self) -> bool:
        return self.guest and not (self.folder / SETTINGS).is_file()

    def note(self, name: str) -> Any:
        """Return a JSON value that was kept under a name, None where none was."""
        path = self.folder / f"{name}.json"
        return read_json(path) if path.is_file() else None

    def keep_note(self, name: str, value: Any) -> Any:
        """Keep a JSON value under a name; return that of whoever was first, where several processes keep one."""
        return write_first_json(self.folder / f"{name}.json", value)

    def drop(self, pattern: str) -> None:
        """Delete what was kept under names of a pattern."""
        for path in self.folder.glob(pattern):
            path.unlink(missing_ok=True)  # another process may do the same

    def remove(self) -> None:
        """Delete the folder, and that of all settings where no other has left anything in it."""
        (self.folder / SETTINGS).unlink(missing_ok=True)  # first, by which guests know
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.root.is_dir() and not any(self.root.glob(f"*/{SETTINGS}")):
            shutil.rmtree(self.root, ignore_errors=True)
