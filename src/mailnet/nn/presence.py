"""Which study of a batch has which modality, and what that means for a network.

The policy: an absent modality is not encoded, adds nothing to the fusion, and a learned token stands for its features.
Only the rows that are there are encoded, so absent rows cost nothing and leave batch statistics alone. In an exported
or compiled network no value may steer the program: there every row is encoded and the mask decides; but not in
training, where batch statistics matter more than a graph in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mailnet.nn.forms import exporting
from mailnet.nn.layers import expand_as, key
from mailnet.specs import ModalitySpec

TOKEN_STD = 0.02


class Presence:
    """The presence mask of a batch, with the moves between all its rows and the rows of one modality.

    Args:
        masks: Modality -> (B,) bool, for every modality of the network.
        given: Names of the modalities whose tensors were given.
        dense: Encode every row.
    """

    def __init__(self, masks: Mapping[str, Tensor], given: Mapping[str, Tensor], dense: bool) -> None:
        self.names = list(masks)
        self.masks = dict(masks)
        self.batch_size = next(iter(masks.values())).shape[0]
        self.dense = dense
        self.encoded = [name for name in self.names if name in given]
        self._rows: dict[str, Tensor] = {}
        if not self.dense:
            counts = torch.stack([self.masks[name].sum() for name in self.encoded]).tolist()
            for name, count in zip(self.encoded, counts, strict=True):
                if count < self.batch_size:
                    self._rows[name] = self.masks[name].nonzero()[:, 0]
            # Of a batch of no study everything is encoded, so that it comes out as empty as it went in.
            self.encoded = [
                name for name, count in zip(self.encoded, counts, strict=True) if count or not self.batch_size
            ]

    def gather(self, name: str, x: Tensor) -> Tensor:
        """Return the rows of (B, ...) that have the modality; in dense mode every row, the absent ones zeroed."""
        if self.dense:
            return torch.where(expand_as(self.masks[name][:, None], x), x, torch.zeros_like(x))
        return x[self._rows[name]] if name in self._rows else x

    def scatter(self, name: str, x: Tensor) -> Tensor:
        """Return (B, ...) with the gathered rows in their places and zeros where the modality is absent."""
        if self.dense:
            return x * expand_as(self.masks[name][:, None], x).to(x.dtype)
        if name not in self._rows:
            return x
        return x.new_zeros(self.batch_size, *x.shape[1:]).index_copy(0, self._rows[name], x)

    def complete(self, vectors: Mapping[str, Tensor], tokens: nn.ParameterDict) -> dict[str, Tensor]:
        """Return modality -> (B, C) for every modality, with a token where it is absent.

        Args:
            vectors: Modality -> (n, C), the gathered rows of those that are encoded.
            tokens: From ``absence_tokens``.
        """
        if not tokens:
            return dict(vectors)
        complete = {}
        for name in self.names:
            token: Tensor = tokens[key(name)]
            if name in vectors:
                rows = self.scatter(name, vectors[name])
                complete[name] = torch.where(self.masks[name][:, None], rows, token.to(rows.dtype))
            else:
                complete[name] = token.expand(self.batch_size, -1)
        return complete


def absence_tokens(features: Mapping[str, int]) -> nn.ParameterDict:
    """Return a learned vector for each modality; none where there is one modality only, which is never absent.

    Args:
        features: Modality -> length of its vector.
    """
    if len(features) == 1:
        return nn.ParameterDict()
    return nn.ParameterDict({key(name): torch.randn(size) * TOKEN_STD for name, size in features.items()})


def resolve_presence(
    modalities: Mapping[str, ModalitySpec],
    inputs: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None,
    training: bool,
    dropout: float = 0.0,
) -> Presence:
    """Return who has what.

    Args:
        modalities: The modalities of the network.
        inputs: Modality -> (B, ...); a modality left out is absent in every study.
        present: Modality -> (B,) bool; None, or a name left out, means that every study has what is given.
        training: Whether the network is in training.
        dropout: Chance that a modality of a study is hidden in training; the last one never is.

    Raises:
        ValueError: No input, an unknown name, unequal batch sizes, a study without any modality, or one that is said to
            have a modality whose input is not given.
    """
    given = present or {}
    unknown = sorted((set(inputs) | set(given)) - set(modalities))
    if unknown:
        raise ValueError(f"unknown modality {', '.join(unknown)}; the network has {', '.join(modalities)}")
    if not inputs:
        raise ValueError(f"no input; give at least one of {', '.join(modalities)}")
    # shape[0] and not len(): an exported network may leave its batch size open
    sizes = {name: tensor.shape[0] for name, tensor in [*inputs.items(), *given.items()]}
    if not exporting() and len(set(sizes.values())) > 1:
        raise ValueError(f"inputs and present masks must have one batch size, got {sizes}")
    first = next(iter(inputs.values()))
    masks = {
        name: given[name].to(first.device, torch.bool)
        if name in given
        else torch.full((first.shape[0],), name in inputs, device=first.device)
        for name in modalities
    }
    for name in set(modalities) - set(inputs):
        if name in given and not exporting() and bool(masks[name].any()):
            raise ValueError(f"modality '{name}' is marked as present but is not among the inputs")
        masks[name] = torch.zeros_like(masks[name])
    if given and not exporting() and not bool(torch.stack(list(masks.values())).any(0).all()):
        rows = (~torch.stack(list(masks.values())).any(0)).nonzero()[:, 0].tolist()
        raise ValueError(f"every modality is absent in row {', '.join(map(str, rows))} of the batch; leave it out")
    if training and dropout > 0:
        masks = _drop(masks, dropout)
    return Presence(masks, inputs, dense=exporting() and not training)


def _drop(masks: dict[str, Tensor], chance: float) -> dict[str, Tensor]:
    mask = torch.stack(list(masks.values()), 1)  # (B, M)
    scores = torch.rand(mask.shape, device=mask.device)
    kept = (scores + mask).argmax(1, keepdim=True)  # one modality a study that is present, at random
    hidden = torch.rand(mask.shape, device=mask.device) < chance
    hidden = hidden.scatter(1, kept, False)
    return dict(zip(masks, (mask & ~hidden).unbind(1), strict=True))
