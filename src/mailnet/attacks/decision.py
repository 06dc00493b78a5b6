"""HopSkipJump: an attack that sees answers only, right or wrong, no loss and no gradient.

A wrong answer is drawn back to the boundary by bisection; there the share of small random changes that are answered
wrongly tells the boundary's normal, along which the next step goes, ever shorter.

Source: Chen, Jordan, Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack", IEEE S&P 2020. Here
with a ball for each modality, in the lengths of ``unit``. Random changes are longer than published, by the square root
of the number of values, and the bisection ends earlier by as much: single precision loses smaller ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mailnet.attacks.found import Found
from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import register_attack
from mailnet.attacks.unit import Unit

HALVINGS = 12
LEAST_PROBES = 10  # fewer tell no direction


@register_attack("hop_skip_jump")
def hop_skip_jump(
    problem: Problem,
    *,
    questions: int = 2500,
    starts: int = 100,
    probes: int = 100,
    early_drop: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Walk along the boundary by answers alone, ``linf`` or ``l2``; return rows (B, D).

    Args:
        problem: The studies.
        questions: Put to the network for each study at most, that of the clean study included; a random network makes
            ``draws`` forward passes for each.
        starts: Random points of the box that are tried as a wrong answer to start from. A study whose answer none of
            them changes is returned as it is.
        probes: Random changes by which the normal is estimated first; later rounds take more, by the square root of
            their number.
        early_drop: Whether a study that is broken is asked no more. Without, the walk goes on to the nearest point.
        generator: Of starts and changes.

    Returns:
        The nearest broken point where one was found in the ball, else the nearest of all, drawn into the ball.

    Raises:
        ValueError: Another norm, or a number below 1.
    """
    if problem.space.threat.norm == "l1":
        raise ValueError("hop_skip_jump has the norms linf and l2, not l1")
    if min(questions, starts, probes) < 1:
        raise ValueError(f"questions, starts and probes must be at least 1, got {questions}, {starts}, {probes}")
    walk = _Walk(problem, Found(problem, early_drop), questions - 1, generator)
    walk.start(starts)
    number = 1
    while len(walk.rows) and walk.hop(number, int(probes * math.sqrt(number))):
        number += 1
    return walk.found.points()


class _Walk:
    """Studies on their way, with a broken point each, and the questions that are left."""

    def __init__(self, problem: Problem, found: Found, questions: int, generator: torch.Generator | None) -> None:
        self.problem, self.found, self.left, self.generator = problem, found, questions, generator
        self.searches = math.ceil(math.log2(problem.space.clean.shape[1])) + 3
        self._go_on_with(found.left())
        self.change = torch.zeros_like(self.unit.low)

    def _go_on_with(self, rows: Tensor) -> None:
        self.rows = rows
        self.part = self.problem.take(rows)
        self.unit = Unit(self.part.space)

    def _keep(self, stay: Tensor) -> None:
        if not bool(stay.all()):
            self.change = self.change[stay]
            self._go_on_with(self.rows[stay])

    def _broken(self, change: Tensor, some: Tensor | None = None) -> Tensor:
        """Ask about all studies or some of them, which are then all that is given."""
        part, unit, rows = self.part, self.unit, self.rows
        if some is not None:
            part, rows = part.take(some), rows[some]
            unit = Unit(part.space)
        x = unit.rows(change)
        broken = part.ask(x, gradient=False).broken
        self.found.record(rows, unit, x, broken)
        return broken

    def start(self, tries: int) -> None:
        """Look for a wrong answer anywhere in the box, and go on with the studies that have one."""
        open_ = torch.ones_like(self.rows, dtype=torch.bool)
        for _ in range(tries):
            if not self.left or not bool(open_.any()):
                break
            low, high = self.unit.low[open_], self.unit.high[open_]
            drawn = low + torch.rand(low.shape, generator=self.generator).to(low) * (high - low)
            self.left -= 1
            rows = open_.nonzero()[:, 0]
            broken = self._broken(drawn, rows)
            self.change[rows[broken]] = drawn[broken]
            open_[rows[broken]] = False
        self._keep(~open_)
        self._to_boundary()

    def hop(self, number: int, probes: int) -> bool:
        """Make one round, the ``number``-th; return False when the questions do not suffice."""
        probes = min(probes, self.left - HALVINGS - self.searches)
        if probes < LEAST_PROBES:
            return False
        direction = self._normal(probes)
        step = self.unit.lengths(self.change) / math.sqrt(number)
        waiting = torch.arange(len(self.rows), device=step.device)
        for _ in range(HALVINGS):
            self.left -= 1
            ahead = (self.change[waiting] + step[waiting, None] * direction[waiting]).clamp(
                self.unit.low[waiting], self.unit.high[waiting]
            )
            broken = self._broken(ahead, waiting)
            self.change[waiting[broken]] = ahead[broken]
            waiting = waiting[~broken]
            if not len(waiting):
                break
            step[waiting] /= 2
        self._to_boundary()
        return True

    def _to_boundary(self) -> None:
        """Draw the points towards the clean studies by bisection, and drop what is done."""
        near, far = torch.zeros(len(self.rows)).to(self.change), self.unit.lengths(self.change)
        for _ in range(min(self.searches, self.left)):
            if not len(self.rows):
                return
            self.left -= 1
            middle = (near + far) / 2
            broken = self._broken(self.unit.shrink(self.change, middle))
            near, far = torch.where(broken, near, middle), torch.where(broken, middle, far)
            stay = ~self.found.done(self.rows)
            near, far = near[stay], far[stay]
            self._keep(stay)
        self.change = self.unit.shrink(self.change, far)

    def _normal(self, probes: int) -> Tensor:
        """Estimate the boundary's normal; return the step of length 1 along it."""
        free = self.part.space.free
        length = self.change.norm(dim=1, keepdim=True) / math.sqrt(self.change.shape[1])
        sums, signed, signs = torch.zeros_like(self.change), torch.zeros_like(self.change), torch.zeros_like(length)
        for _ in range(probes):
            self.left -= 1
            if self.part.space.threat.norm == "linf":
                drawn = 2 * torch.rand(self.change.shape, generator=self.generator) - 1
            else:
                drawn = torch.randn(self.change.shape, generator=self.generator)
            drawn = drawn.to(self.change) * free
            drawn = length * drawn / drawn.norm(dim=1, keepdim=True)
            probe = (self.change + drawn).clamp(self.unit.low, self.unit.high)
            sign = 2 * self._broken(probe)[:, None].to(length) - 1
            moved = probe - self.change
            sums, signed, signs = sums + moved, signed + sign * moved, signs + sign
        # Less the mean answer, which lowers the variance; where all answers are alike, they themselves.
        mean = signs / probes
        normal = torch.where(mean.abs() < 1, signed - mean * sums, signed)
        return self.part.space.steepest(normal)
