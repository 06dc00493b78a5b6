"""What the fusions on ResNet-18 share: an encoder a modality, and sums over the modalities that a study has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mailnet.nn.layers import key, pool_mean
from mailnet.nn.peers.resnet import perceptron, resnet18
from mailnet.nn.presence import Presence, absence_tokens
from mailnet.specs import ModalitySpec


class Encoders(nn.Module):
    """A ResNet-18 for each image or volume, a perceptron for each table: each gives a vector of the last width.

    Args:
        modalities: The modalities by name.
        widths: Widths of the stages.
    """

    def __init__(self, modalities: Mapping[str, ModalitySpec], widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                key(name): perceptron(spec, widths[-1]) if spec.kind == "tabular" else resnet18(spec, widths)
                for name, spec in modalities.items()
            }
        )
        self.tokens = absence_tokens(modalities, widths[-1])

    def forward(self, inputs: Mapping[str, Tensor], presence: Presence) -> dict[str, Tensor]:
        """Return modality -> (B, C) for every modality, with a learned token where it is absent."""
        vectors = {
            name: pool_mean(self.branches[key(name)](presence.gather(name, inputs[name]))) for name in presence.encoded
        }
        return presence.complete(vectors, self.tokens)


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
