"""What a search for the nearest broken point has found so far, for each study."""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.attacks.problem import Problem
from mailnet.attacks.unit import Unit


class Found:
    """The nearest broken point of each study; puts the clean studies to the network once.

    Args:
        problem: The studies.
        early_drop: Whether a study is done when a broken point lies in the ball.
    """

    def __init__(self, problem: Problem, early_drop: bool) -> None:
        self.problem, self.early_drop = problem, early_drop
        self.x = problem.space.clean.clone()
        asked = problem.ask(self.x, gradient=False)
        self.logits = asked.logits
        self.open = problem.standing(asked)  # (B,)
        self.length = torch.full_like(problem.space.radius[:, 0], torch.inf)  # (B,), in radii

    def left(self) -> Tensor:
        """Return the studies that are not done, (n,) positions."""
        waits = self.open & (self.length > 1) if self.early_drop else self.open
        return waits.nonzero()[:, 0]

    def done(self, rows: Tensor) -> Tensor:
        """Return (n,) bool, whether studies need no further question."""
        return (self.length[rows] <= 1) & self.early_drop

    def record(self, rows: Tensor, unit: Unit, x: Tensor, broken: Tensor) -> None:
        """Keep those of the points (n, D) of ``rows`` that are broken and nearer than what is known."""
        lengths = unit.lengths(unit.changes(x))
        nearer = broken & (lengths < self.length[rows])
        self.x[rows[nearer]] = x[nearer]
        self.length[rows[nearer]] = lengths[nearer]

    def points(self) -> Tensor:
        """Return the rows (B, D) that were found, drawn into the ball where they lie outside."""
        outside = self.length.isfinite() & (self.length > 1)
        return torch.where(outside[:, None], self.problem.space.project(self.x), self.x)
