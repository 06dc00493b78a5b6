"""Checkpoints: everything that training goes on from, exchanged at once or not at all.

Each checkpoint is a folder of its own, ``checkpoint/<name>/``, complete before ``checkpoint/latest.json`` is replaced
to name it; only then older folders go. A kill at any moment therefore leaves a whole checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mailnet.bundle import write_tensors
from mailnet.errors import RunError
from mailnet.files import read_json, write_json

POINTER = "latest.json"
REMEDY = "Delete the run folder and train again"


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self, name: str, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], best: int | None
    ) -> None:
        """Write a checkpoint and make it the latest.

        Args:
            name: Name of this one, not that of the latest.
            tensors: Name of a file -> tensors by name.
            state: Values that JSON can hold.
            best: Epoch whose weights of ``save_best`` are kept.

        Raises:
            RunError: The system refused the write; the latest checkpoint is the one before.
        """
        target, unfinished = self.folder / name, self.folder / f".{name}"
        for old in (target, unfinished):
            shutil.rmtree(old, ignore_errors=True)
        for file, values in tensors.items():
            write_tensors(unfinished / f"{file}.safetensors", values)
        write_json(unfinished / "state.json", state)
        unfinished.rename(target)
        write_json(self.folder / POINTER, {"checkpoint": name})
        for old in self.folder.iterdir():
            if old.is_dir() and old != target:
                shutil.rmtree(old, ignore_errors=True)
            elif old.name.startswith("best-") and old != self._best(best):
                old.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """Return tensors and state of the latest checkpoint as ``save`` got them, or None where there is none.

        Raises:
            RunError: The checkpoint is damaged.
        """
        if not (self.folder / POINTER).is_file():
            return None
        latest = self.folder / Path(str(read_json(self.folder / POINTER).get("checkpoint"))).name
        tensors = {path.stem: _read(path) for path in sorted(latest.glob("*.safetensors"))}
        return tensors, read_json(latest / "state.json")

    def save_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the weights that training starts from, where they are not the random ones of the seed.

        Raises:
            RunError: The system refused the write.
        """
        write_tensors(self._start, tensors)

    def load_start(self) -> dict[str, Tensor] | None:
        """Return the weights of ``save_start``, or None where there are none.

        Raises:
            RunError: They are damaged.
        """
        return _read(self._start) if self._start.is_file() else None

    def save_best(self, epoch: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the weights of an epoch beside those of the best epoch before, which ``save`` then removes.

        Raises:
            RunError: The system refused the write.
        """
        write_tensors(self._best(epoch), tensors)

    def load_best(self, epoch: int) -> dict[str, Tensor]:
        """Return the weights of an epoch.

        Raises:
            RunError: They are missing or damaged.
        """
        return _read(self._best(epoch))

    @property
    def _start(self) -> Path:
        return self.folder / "start.safetensors"

    def _best(self, epoch: int | None) -> Path:
        return self.folder / f"best-{epoch}.safetensors"


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot be read ({error})", file=path, remedy=REMEDY) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return an optimizer's moments and counts as ``<kind>|<name of the parameter>`` -> tensor."""
    return {
        f"{kind}|{name}": value
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what ``optimizer_tensors`` returned.

    Raises:
        RunError: They are of another network.
    """
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        kind, _, name = key.partition("|")
        if name not in parameters:
            raise RunError(f"the checkpoint has a parameter '{name}' that the network lacks", remedy=REMEDY)
        parameter = parameters[name]
        # Moments take the memory format of their parameter: fused steps walk through both side by side.
        like = parameter if value.shape == parameter.shape and value.ndim else value.to(parameter.device)
        optimizer.state[parameter][kind] = torch.empty_like(like, requires_grad=False).copy_(value)


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put weights and buffers into a network.

    Raises:
        RunError: They are of another network.
    """
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise RunError(f"the checkpoint does not fit the network ({error})", remedy=REMEDY) from error
