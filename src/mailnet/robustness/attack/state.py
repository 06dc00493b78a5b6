"""Where a measurement is, on disk, so that a killed one goes on: whole batches, and the cells of the one at work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mailnet.bundle.store import write_tensors
from mailnet.errors import RunError
from mailnet.files import read_json, write_json
from mailnet.robustness.attack.run_suite import Progress

FOLDER = "robustness.progress"


class State:
    """A folder of what is done; numbers of batches and cells are all that its files are named after.

    Args:
        folder: Where the results of the measurement go; the state is a folder in it.
        settings: All that the results depend on. A state of other settings is thrown away.

    Raises:
        RunError: The folder cannot be read or written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder / FOLDER
        self.resumed = self.replaced = False
        known = self.folder / "settings.json"
        if known.is_file():
            self.resumed = read_json(known) == json.loads(json.dumps(settings))
            self.replaced = not self.resumed
        if not self.resumed:
            self.remove()
            write_json(known, settings)

    def batch(self, number: int) -> dict[str, Tensor] | None:
        """Return what was found of a whole batch; None where it is not done."""
        return self._read(self._path(number))

    def finish(self, number: int, found: Mapping[str, Tensor]) -> None:
        """Keep what was found of a whole batch, and the points of its cells no longer."""
        write_tensors(self._path(number), found)
        for path in self.folder.glob(f"{self._path(number).stem}-cell-*"):
            path.unlink()

    def progress(self, number: int, cell: int, device: torch.device) -> Progress | None:
        """Return how far the suite of a cell is with a batch; None where it has not begun."""
        found = self._read(self._path(number, cell))
        if found is None:
            return None
        x, chance, after = (found[name].to(device) for name in ("x", "chance", "after"))
        return Progress(x, chance, after, tuple(found["seconds"].tolist()), tuple(found["passes"].tolist()))

    def keep(self, number: int, cell: int, progress: Progress) -> None:
        """Keep how far the suite of a cell is with a batch."""
        tensors = {
            "x": progress.x,
            "chance": progress.chance,
            "after": progress.after,
            "seconds": torch.tensor(progress.seconds, dtype=torch.float64),
            "passes": torch.tensor(progress.passes, dtype=torch.int64),
        }
        write_tensors(self._path(number, cell), tensors)

    def note(self, name: str) -> Any:
        """Return a JSON value that was kept under a name, None where none was."""
        path = self.folder / f"{name}.json"
        return read_json(path) if path.is_file() else None

    def keep_note(self, name: str, value: Any) -> None:
        """Keep a JSON value under a name."""
        write_json(self.folder / f"{name}.json", value)

    def remove(self) -> None:
        """Delete the folder."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def _path(self, number: int, cell: int | None = None) -> Path:
        return self.folder / f"batch-{number:05d}{'' if cell is None else f'-cell-{cell:03d}'}.safetensors"

    def _read(self, path: Path) -> dict[str, Tensor] | None:
        if not path.is_file():
            return None
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            remedy = "Delete the folder it is in, and measure again"
            raise RunError(f"cannot be read ({error})", file=path, remedy=remedy) from error
