"""What fusions share: sums and means over the modalities that a study has, and a linear layer on all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mailnet.nn.layers import key
from mailnet.nn.presence import Presence


class Joint(nn.Module):
    """A linear layer on the concatenation of the modalities' vectors.

    The weights are kept as one block for each modality, so that none has a place in the concatenation.

    Args:
        features: Modality -> length of its vector.
        outputs: Length of what it gives.
        bias: Whether a constant is added.
    """

    def __init__(self, features: Mapping[str, int], outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(
            {key(name): nn.Linear(size, outputs, bias=False) for name, size in features.items()}
        )
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, vectors: Mapping[str, Tensor], presence: Presence | None = None) -> Tensor:
        """Return (B, outputs).

        Args:
            vectors: Modality -> (B, C), or (n, C), the rows that have it, where a presence is given.
            presence: Who has what; a modality that is absent in a study, or not given, adds nothing.
        """
        parts = {name: self.blocks[key(name)](vector) for name, vector in vectors.items()}
        total = sum_present(parts, presence) if presence else total_of(parts.values())
        return total if self.bias is None else total + self.bias


def total_of(tensors: Iterable[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape."""
    return torch.stack(list(tensors)).sum(0)


def sum_present(features: Mapping[str, Tensor], presence: Presence) -> Tensor:
    """Return the sum (B, ...) over modalities of (n, ...), the rows that have them; absent ones add nothing."""
    return total_of(presence.scatter(name, x) for name, x in features.items())


def mean_present(features: Mapping[str, Tensor], presence: Presence) -> Tensor:
    """Return the mean (B, ...) over the modalities that each study has of (n, ...)."""
    total = sum_present(features, presence)
    count = total_of(presence.masks.values())  # (B,)
    return total / count.reshape(-1, *(1,) * (total.ndim - 1)).to(total.dtype)
