"""Modality dropout: what is hidden from the network in training, so that it learns to do without.

This is the one place for it, whatever the network. The paired regime hides modalities of a study. The unpaired regime
separates companions: since a study is predicted alone, a share of them is trained alone. Separating, unlike dropping,
uses every image once an epoch, and no label remains whose image is gone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mailnet.nn.batch import Batch


def hide_modalities(batch: Batch, chance: float, generator: torch.Generator) -> Batch:
    """Return the batch with modalities marked absent at random, never the last one of a study.

    Args:
        batch: The batch; its tensors are not changed.
        chance: Probability that a modality of a study is hidden.
        generator: A CPU generator.
    """
    names = list(batch.present)
    if chance == 0 or len(names) < 2:
        return batch
    present = torch.stack([batch.present[name] for name in names], 1)  # (B, M)
    kept = present & ~_hidden(present.cpu(), chance, generator).to(present.device)
    inputs = {name: _blank(x, kept[:, names.index(name)]) for name, x in batch.inputs.items()}
    return Batch(inputs, dict(zip(names, kept.unbind(1), strict=True)), batch.targets, batch.ids)


def _hidden(present: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    scores = torch.rand(present.shape, generator=generator)
    spared = (scores + present).argmax(1, keepdim=True)  # one present modality of each study, at random
    hidden = torch.rand(present.shape, generator=generator) < chance
    return hidden.scatter(1, spared, False)


def _blank(x: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept.view(-1, *(1,) * (x.ndim - 1)), x, torch.zeros((), dtype=x.dtype, device=x.device))


def separate_companions(rows: NDArray[np.int64], chance: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return companions with some taken apart, each member then standing alone in a row of its own.

    Args:
        rows: (B, M) row number of each modality's study, -1 for none.
        chance: Probability that the members of a row are taken apart.
        rng: Where the random numbers come from.

    Returns:
        (B', M) with B' >= B; every row number occurs as often as before.

    >>> separate_companions(np.array([[3, 7]]), 1.0, np.random.default_rng(0)).tolist()
    [[3, -1], [-1, 7]]
    """
    apart = rng.random(len(rows)) < chance
    together, single = rows[~apart], rows[apart]
    lone = np.where(np.eye(rows.shape[1], dtype=bool), single[:, None, :], -1).reshape(-1, rows.shape[1])
    return np.concatenate([together, lone[(lone >= 0).any(1)]])
