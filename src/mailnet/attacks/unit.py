"""The attacker's space measured in radii, so that what is allowed is the unit ball of one norm.

Each modality's change is divided by its radius. The length of a change is the greatest of its modalities' norms, so a
change of length at most 1 is one that lies in every modality's ball. With one modality this is its norm in radii, and
in ``linf`` it is the largest of all changes. In ``l2`` and ``l1`` it is not the norm of all modalities together: that
norm's unit ball is only a part of the product of balls that a threat allows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.attacks.threat import Space


class Unit:
    """Rows (B, D) of a space as changes in radii.

    Args:
        space: The space. What the attacker does not hold has no room.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.radius = space.spread(space.radius)  # (B, D)
        self.low, self.high = self.changes(space.low), self.changes(space.high)

    def changes(self, x: Tensor) -> Tensor:
        """Return the changes, in radii, that rows (B, D) are."""
        held = self.radius > 0
        return torch.where(held, (x - self.space.clean) / torch.where(held, self.radius, 1.0), 0.0)

    def rows(self, change: Tensor) -> Tensor:
        """Return the rows that changes lead to, drawn into the box."""
        return self.space.boxed(self.space.clean + change * self.radius)

    def lengths(self, change: Tensor) -> Tensor:
        """Return (B,), the greatest of the modalities' norms; at most 1 where a change is allowed."""
        return self.space.norms(change).amax(1)

    def shrink(self, change: Tensor, length: Tensor) -> Tensor:
        """Return the changes with each modality's part drawn towards the clean study, to ``length`` (B,) at most.

        In ``linf`` each value is clipped; in ``l2`` and ``l1`` a modality's values are scaled together.
        """
        if self.space.threat.norm == "linf":
            return change.clamp(-length[:, None], length[:, None])
        return change * self.space.spread((length[:, None] / self.space.norms(change).clamp(min=1e-12)).clamp(max=1))
