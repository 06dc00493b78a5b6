"""Early features of every image or volume, caught while the network predicts: they cost no pass of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec

# The first stages still see how an image was made; the last ones only what the task asks, so that brain MRI given as
# breast ultrasound is a tumour to them like others (measured by benchmarks/foreign.py).
STAGES = 2
Chosen: TypeAlias = Mapping[str, Sequence[int]]  # image or volume -> places in the network's ``feature_layers``


class Watch:
    """Keeps features of one batch: of every channel mean and deviation over space, averaged over a network's draws.

    Args:
        batch: The studies, ``present`` on the CPU.
    """

    def __init__(self, batch: Batch) -> None:
        self._present = batch.present
        self._rows = torch.arange(len(batch))
        self._sums: dict[str, dict[int, Tensor]] = {}
        self._counts: dict[tuple[str, int], Tensor] = {}
        self._cells: dict[str, dict[int, int]] = {}

    def expect(self, rows: Tensor) -> None:
        """Say which rows of the batch the next passes are of."""
        self._rows = rows

    def features(self) -> dict[str, np.ndarray]:
        """Return modality -> (B, C) float32, layer by layer, NaN where a study does not have it."""
        return {
            name: torch.cat(
                [kept[k] / self._counts[name, k][:, None].to(kept[k].device) for k in sorted(kept)], dim=1
            ).cpu().numpy()
            for name, kept in self._sums.items()
        }  # fmt: skip

    def early(self) -> dict[str, tuple[int, ...]]:
        """Return modality -> the last layer of each of its finest grids."""
        found = {}
        for name, cells in self._cells.items():
            last = {size: k for k, size in sorted(cells.items())}
            found[name] = tuple(sorted(last[size] for size in sorted(last, reverse=True)[:STAGES]))
        return found

    def add(self, name: str, k: int, output: Tensor) -> None:
        """Take the features (n, C, ...) of one pass: of the n studies that have the modality, or of all rows."""
        if name not in self._present:
            return
        has = self._present[name][self._rows]
        cells = output.detach().float()
        if len(cells) == len(self._rows) and not has.all():
            cells = cells[has.to(cells.device)]
        # Twenty times as fast as torch.std_mean, which does not use how channels lie beside each other.
        space = tuple(range(2, cells.ndim))
        means = cells.mean(space, keepdim=True)
        deviation, mean = (cells - means).square_().mean(space).sqrt_(), means.flatten(1)
        places, count = self._rows[has], len(self._present[name])
        kept = self._sums.setdefault(name, {})
        if k not in kept:
            kept[k] = mean.new_zeros(count, 2 * mean.shape[1])
            self._counts[name, k] = torch.zeros(count)
            self._cells.setdefault(name, {})[k] = math.prod(output.shape[2:])
        kept[k].index_add_(0, places.to(mean.device), torch.cat([mean, deviation], 1))
        self._counts[name, k][places] += 1


@contextmanager
def watching(
    model: nn.Module, modalities: Mapping[str, ModalitySpec], batch: Batch, layers: Chosen | None = None
) -> Iterator[Watch]:
    """Watch the passes that the network makes meanwhile, by hooks on its ``feature_layers``.

    Args:
        model: The network; one without these gives no features.
        modalities: Its modalities, in its order.
        batch: The studies that it passes.
        layers: Which of the layers; default all.
    """
    watch = Watch(batch)
    own: Any = getattr(model, "feature_layers", None)
    known: dict[str, list[nn.Module]] = {} if own is None else own()
    places = {name: place for place, name in enumerate(modalities)}
    hooks = [
        several[k].register_forward_hook(partial(_keep, watch, name, k, places[name], modalities[name].spatial_dims))
        for name, several in known.items()
        for k in (range(len(several)) if layers is None else layers.get(name, ()))
    ]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _keep(watch: Watch, name: str, k: int, place: int, dims: int, module: nn.Module, inputs: Any, output: Any) -> None:
    if isinstance(output, Mapping):
        output = output.get(name)
    elif isinstance(output, list | tuple):
        output = output[place]
    if isinstance(output, Tensor) and output.ndim == 2 + dims:
        watch.add(name, k, output)
