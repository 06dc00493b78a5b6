"""What one question to the network gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """What one question to the network gave.

    Args:
        loss: (B,), its mean over draws.
        logits: Task -> (B, outputs), of the mean probabilities over draws.
        broken: (B,) bool, whether the goal is reached by ``logits``; of a ``sure`` problem, at every draw.
        gradient: (B, D) of the loss, its mean over draws; None where it was not wanted.
        each: The logits of each draw.
    """

    loss: Tensor
    logits: dict[str, Tensor]
    broken: Tensor
    gradient: Tensor | None = None
    each: Sequence[dict[str, Tensor]] = ()

    def corrected(self, rows: Tensor, exact: Asked) -> Asked:
        """Return it with what was found exactly of some rows (n,); gradients stay, and draws give way to their mean."""
        logits = {name: value.index_copy(0, rows, exact.logits[name]) for name, value in self.logits.items()}
        loss, broken = self.loss.index_copy(0, rows, exact.loss), self.broken.index_copy(0, rows, exact.broken)
        return replace(self, loss=loss, logits=logits, broken=broken, each=[logits])
