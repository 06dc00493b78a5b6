"""Where an attack on a run is: whole batches, and the cells of the one at work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mailnet.robustness.attack.run_suite import Progress
from mailnet.robustness.kept import Kept

FOLDER = "robustness.progress"
FORMAT = 2  # of the files


class State(Kept):
    """What is done of an attack; numbers of batches and cells are all that its files are named after.

    Args:
        folder: Where the results of the measurement go; the state is a folder in it.
        settings: All that the results depend on.
        guest: Of a share; see ``Kept``.

    Raises:
        RunError: The folder cannot be read or written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, guest: bool = False) -> None:
        super().__init__(folder / FOLDER, {**settings, "format": FORMAT}, guest=guest)

    def batch(self, number: int) -> dict[str, Tensor] | None:
        """Return what was found of a whole batch; None where it is not done."""
        return self.tensors(_name(number))

    def is_done(self, number: int) -> bool:
        """Return whether a whole batch is done."""
        return (self.folder / f"{_name(number)}.safetensors").is_file()

    def finish(self, number: int, found: Mapping[str, Tensor]) -> None:
        """Keep what was found of a whole batch, and the points of its cells no longer."""
        self.keep_tensors(_name(number), found)
        self.drop(f"{_name(number)}-cell-*")

    def progress(self, number: int, cell: int, device: torch.device) -> Progress | None:
        """Return how far the suite of a cell is with a batch; None where it has not begun."""
        found = self.tensors(_name(number, cell))
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
        self.keep_tensors(_name(number, cell), tensors)


def _name(number: int, cell: int | None = None) -> str:
    return f"batch-{number:05d}{'' if cell is None else f'-cell-{cell:03d}'}"
