"""Passes of a network over batches: what it answers, several times if asked, and what it sees on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from mailnet.bundle.draws import AVERAGED, DrawSource, average_draws, draw_batch, draw_source, kinds
from mailnet.bundle.features import Chosen, Watch, watching
from mailnet.data.study import StudyData
from mailnet.errors import RunError
from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.nn.layers import channels_last
from mailnet.nn.noise import get_noise
from mailnet.specs import ModalitySpec, TaskSpec


class Passes:
    """A network on a device, in evaluation mode; a random one answers with the mean of the same draws every time.

    Args:
        model: The network.
        name: Its name in the registry.
        modalities: Its modalities, in its order.
        tasks: Its tasks.
        device: Where it runs, as ``find_device`` takes it.

    Raises:
        RunError: The device does not exist here.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        modalities: Mapping[str, ModalitySpec],
        tasks: Mapping[str, TaskSpec],
        device: str,
    ) -> None:
        self.device = find_device(device)
        self.model = channels_last(model.to(self.device).eval())
        self.name, self.modalities, self.tasks = name, modalities, tasks
        random = get_noise(self.model) is not None
        self.noise: dict[str, Any] | None = {"mode": "mean", "draws": AVERAGED, "seed": 0} if random else None

    @torch.inference_mode()
    def answers(self, batch: Batch, watch: Watch | None = None) -> dict[str, np.ndarray]:
        """Return task -> (B, K) probabilities.

        Args:
            batch: The studies, ``present`` on the CPU.
            watch: Of this batch, told which studies each pass is of.
        """
        if self.noise is None:
            return self._together(batch)
        found = {name: np.zeros((len(batch), len(spec.classes)), np.float32) for name, spec in self.tasks.items()}
        for rows, alike in kinds(batch):
            if watch is not None:
                watch.expect(rows)
            average_draws(self.model)
            for name, values in self._together(alike).items():
                found[name][rows.numpy()] = values
        return found

    def watched(self, batch: Batch, layers: Chosen | None = None) -> tuple[dict[str, np.ndarray], Watch]:
        """Return the answers, and what was seen of the layers in the same pass; default all of them."""
        with watching(self.model, self.modalities, batch, layers) as watch:
            return self.answers(batch, watch), watch

    @property
    def source(self) -> DrawSource:
        """Where several answers come from; ConfigError where there is nothing to draw from."""
        return draw_source(self.model, self.name)

    def draw(self, batch: Batch, draws: int, seed: int) -> dict[str, np.ndarray]:
        """Return task -> (S, B, K), several answers to each study, see ``mailnet.bundle.draws``."""
        return draw_batch(self.model, self.tasks, batch, draws, seed, self.device)

    def _together(self, batch: Batch) -> dict[str, np.ndarray]:
        moved = batch.to(self.device)
        logits = self.model(moved.inputs, moved.present)
        return {name: probabilities(spec, logits[name].float()).cpu().numpy() for name, spec in self.tasks.items()}


def batches_of(data: StudyData, rows: np.ndarray, size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the rows of each batch, and the place of each row in the order of the batches.

    Rows with the same modalities travel together, since a modality that a whole batch lacks costs nothing.
    """
    order = np.lexsort(np.stack([data.present[name][rows] for name in data.modalities]))
    return [rows[order[i : i + size]] for i in range(0, len(order), size)], np.argsort(order)


def hidden(batch: Batch, without: Sequence[str]) -> Batch:
    """Return a batch in which no study has the named modalities."""
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name not in without}
    present = {name: here & (name not in without) for name, here in batch.present.items()}
    return Batch(inputs, present, batch.targets, batch.ids)


def find_device(name: str) -> torch.device:
    """Return a device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; RunError where it does not exist here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"the device '{name}' cannot be used ({reason})", remedy="Use --device cpu") from error
    return device
