"""Which modalities studies have, and a pass in which each study travels once a draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from mailnet.bundle.draws import AVERAGED

MOST_MODALITIES = 6
Combination: TypeAlias = tuple[bool, ...]


@dataclass
class Pass:
    """What layers know of the pass at hand.

    Args:
        combinations: P combinations of modalities, the one with all last; alone where none may be absent.
        draws: D, of one prediction.
        recording: Place of the one that is recorded.
        code: (N,) place of each study's own, in a pass of the exported graph.
    """

    combinations: list[Combination]
    draws: int = AVERAGED
    recording: int = 0
    code: Tensor | None = None

    def repeat(self, x: Tensor) -> Tensor:
        """Return (D N, ...), the studies of (N, ...) once a draw."""
        return x.repeat(self.draws, *(1,) * (x.ndim - 1))

    def apart(self, x: Tensor) -> Tensor:
        """Return (D, N, ...) of (D N, ...)."""
        return x.reshape(self.draws, -1, *x.shape[1:])

    def own(self, which: Sequence[Sequence[int]]) -> Tensor:
        """Return (D, N), of (D, P), what belongs to each draw of each study."""
        assert self.code is not None
        return torch.tensor(which).index_select(1, self.code)


def combinations_of(modalities: Sequence[str], absent: bool) -> list[Combination]:
    """Return the combinations of modalities that a study may have, the one with all last.

    Args:
        modalities: Their names.
        absent: Whether any may be absent.

    Raises:
        ValueError: There are too many.
    """
    if not absent:
        return [(True,) * len(modalities)]
    if len(modalities) > MOST_MODALITIES:
        raise ValueError(f"{len(modalities)} modalities have too many combinations to record the draws of each")
    # In the order of the binary number whose first digit is the first modality, as ``code_of`` counts.
    return [one[::-1] for one in product((False, True), repeat=len(modalities)) if any(one)]


def code_of(masks: Sequence[Tensor]) -> Tensor:
    """Return (N,) the place of each study's combination among those of ``combinations_of``, from (N,) bool each."""
    total = torch.zeros_like(masks[0], dtype=torch.int64)
    for place, mask in enumerate(masks):
        total = total + mask.to(torch.int64) * 2**place
    return (total - 1).clamp(min=0)
