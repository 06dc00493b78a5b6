"""The last features of every image or volume, caught while the network predicts: they cost no pass of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec


class Watch:
    """Keeps features of one batch, averaged over space and, of a random network, over its draws.

    Args:
        batch: The studies, ``present`` on the CPU.
    """

    def __init__(self, batch: Batch) -> None:
        self._present = batch.present
        self._rows = torch.arange(len(batch))
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def expect(self, rows: Tensor) -> None:
        """Say which rows of the batch the next passes are of."""
        self._rows = rows

    def features(self) -> dict[str, np.ndarray]:
        """Return modality -> (B, C) float32, NaN where a study does not have it."""
        return {
            name: (total / self._counts[name][:, None].to(total.device)).cpu().numpy()
            for name, total in self._sums.items()
        }

    def add(self, name: str, output: Tensor) -> None:
        """Take the features (n, C, ...) of one pass: of the n studies that have the modality, or of all rows."""
        if name not in self._present:
            return
        has = self._present[name][self._rows]
        pooled = output.detach().float().flatten(2).mean(2) if output.ndim > 2 else output.detach().float()
        if len(pooled) == len(self._rows):
            pooled = pooled[has.to(pooled.device)]
        places = self._rows[has]
        if name not in self._sums:
            self._sums[name] = pooled.new_zeros(len(self._present[name]), pooled.shape[1])
            self._counts[name] = torch.zeros(len(self._present[name]))
        self._sums[name].index_add_(0, places.to(pooled.device), pooled)
        self._counts[name][places] += 1


@contextmanager
def watching(model: nn.Module, modalities: Mapping[str, ModalitySpec], batch: Batch) -> Iterator[Watch]:
    """Watch the passes that the network makes meanwhile, by hooks on the last of its ``feature_layers``.

    A network without these, and a modality that is no image, gives no features.
    """
    watch = Watch(batch)
    own: Any = getattr(model, "feature_layers", None)
    layers: dict[str, list[nn.Module]] = {} if own is None else own()
    places = {name: place for place, name in enumerate(modalities)}
    hooks = [
        several[-1].register_forward_hook(partial(_keep, watch, name, places[name], modalities[name].spatial_dims))
        for name, several in layers.items()
        if several
    ]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _keep(watch: Watch, name: str, place: int, dims: int, module: nn.Module, inputs: Any, output: Any) -> None:
    if isinstance(output, Mapping):
        output = output.get(name)
    elif isinstance(output, list | tuple):
        output = output[place]
    if isinstance(output, Tensor) and output.ndim in (2, 2 + dims):
        watch.add(name, output)
