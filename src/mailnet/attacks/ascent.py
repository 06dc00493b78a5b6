"""The climb of Auto-PGD: gradient steps whose length each study adapts by itself, from how its loss has risen so far.

Sources: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020; for ``l1`` Croce, Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
classifiers", ICML 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mailnet.attacks.objective import Objective
from mailnet.attacks.problem import Problem

FIRST, SHORTER, SHORTEST = 0.22, 0.03, 0.06  # of all steps: until the first check, each less than the last, at least
# In l1: larger balls first, for these shares of the steps; the share of values that the first steps change; how often
# the sparsity is looked at; by how much steps shorten and thin out, and the shortest.
BALLS = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
SPARSE, LOOK, FACTOR, LEAST, SETTLED = 0.2, 0.04, 1.5, 0.1, 0.95


@dataclass(frozen=True)
class Schedule:
    """How long a climb is and how it adapts.

    Args:
        steps: Steps of a climb.
        rho: A study's step is halved where fewer than this share of its steps since the last check raised its loss.
        momentum: Weight of the new direction against that of the last step. Not used in ``l1``.

    Raises:
        ValueError: No step, or a share outside [0, 1].
    """

    steps: int = 100
    rho: float = 0.75
    momentum: float = 0.75

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not (0 <= self.rho <= 1 and 0 < self.momentum <= 1):
            raise ValueError(f"rho must be in [0, 1] and momentum in (0, 1], got {self.rho} and {self.momentum}")

    def checks(self) -> list[int]:
        """Return the numbers of steps after which step lengths are checked.

        >>> Schedule(100).checks()[:5]
        [22, 41, 57, 70, 80]
        """
        found, last, at = [], 0.0, FIRST
        while at <= 1:
            found.append(math.ceil(at * self.steps - 1e-9))
            last, at = at, at + max(at - last - SHORTER, SHORTEST)
        return found


@dataclass(frozen=True)
class Reached:
    """Where a climb led.

    Args:
        x: (B, D), a point that breaks the study, or else the one of the largest loss.
        worth: (B,), the loss of what is wanted there.
        broken: (B,) bool.
    """

    x: Tensor
    worth: Tensor
    broken: Tensor


def climb(problem: Problem, wanted: Objective, schedule: Schedule, generator: torch.Generator | None) -> Reached:
    """Climb once from a random point; a study takes no step further once it is broken.

    In ``l1`` most of the climb is in larger balls, where the gradient of sparse changes leads further; each next one
    starts from the best point of the last, drawn into its own ball.

    Args:
        problem: The studies, with the loss to climb.
        wanted: What counts as broken: a climb towards one class is done when it ends at another wrong one, too.
        schedule: How long, and how it adapts.
        generator: Of the random start.
    """
    if problem.space.threat.norm != "l1":
        return _Climb(problem, wanted, schedule, problem.space.random(generator), schedule.steps).run()
    wider: _SparseClimb | None = None
    left = schedule.steps
    for factor, share in BALLS[:-1]:
        if steps := round(share * schedule.steps):
            larger = problem.enlarged(factor)
            start = larger.space.random(generator) if wider is None else larger.space.project(wider.best)
            wider = _SparseClimb(larger, wanted, schedule, start, steps, restarted=wider is not None, early_drop=False)
            wider.run()
            left -= steps
    start = problem.space.random(generator) if wider is None else problem.space.project(wider.best)
    return _SparseClimb(problem, wanted, schedule, start, left, restarted=wider is not None).run()


class _Climb:
    """Studies on their way, a row each; rows of broken studies leave it.

    Args:
        problem: The studies, with the loss to climb.
        wanted: What counts as broken.
        schedule: How steps adapt.
        start: (B, D).
        steps: How many.
        early_drop: Whether broken studies leave.
    """

    # What there is a row of for each study under way.
    ROWS: tuple[str, ...] = ("rows", "x", "before", "gradient", "loss", "best", "best_gradient", "best_loss", "worth",
                             "step", "rises", "mark", "halved")  # fmt: skip
    FIRST_STEP = 2.0  # in radii of each modality

    def __init__(
        self,
        problem: Problem,
        wanted: Objective,
        schedule: Schedule,
        start: Tensor,
        steps: int,
        early_drop: bool = True,
    ) -> None:
        self.problem, self.wanted, self.schedule = problem, wanted, schedule
        self.steps, self.early_drop = steps, early_drop
        self.checks = Schedule(steps, schedule.rho, schedule.momentum).checks()
        self.checked = 0
        studies = start.new_zeros(len(start))
        self.rows = torch.arange(len(start), device=start.device)
        self.x = self.before = self.best = start
        self.gradient = self.best_gradient = torch.zeros_like(start)
        self.loss = studies + torch.inf  # the first point is no rise, and the best so far
        self.best_loss = self.worth = self.mark = studies - torch.inf
        self.step, self.rises = studies + self.FIRST_STEP, studies
        self.halved = torch.zeros_like(self.rows, dtype=torch.bool)
        self.reached = Reached(start.clone(), studies.clone(), self.halved.clone())

    def run(self) -> Reached:
        self._look(last=False)
        for number in range(1, self.steps + 1):
            if not len(self.rows):
                break
            self.x, self.before = self._next(first=number == 1), self.x
            self._look(last=number == self.steps)
            self._adapt(number)
        self.reached.x[self.rows] = self.best
        self.reached.worth[self.rows] = self.worth
        return self.reached

    def _look(self, last: bool) -> None:
        """Ask at the present points and keep the best ones; broken studies are put down and leave."""
        asked = self.problem.ask(self.x, gradient=not last)
        worth = self.wanted.losses(self.problem.tasks, asked.logits, self.problem.batch.targets)
        broken = self.problem.broken(asked, self.wanted)
        self.gradient = self.gradient if asked.gradient is None else asked.gradient
        self.rises = self.rises + (asked.loss > self.loss)
        self.loss = asked.loss
        better = asked.loss > self.best_loss
        self.best = torch.where(better[:, None], self.x, self.best)
        self.best_gradient = torch.where(better[:, None], self.gradient, self.best_gradient)
        self.best_loss = torch.where(better, asked.loss, self.best_loss)
        self.worth = torch.where(better, worth, self.worth)
        if self.early_drop and bool(broken.any()):
            rows = self.rows[broken]
            self.reached.x[rows], self.reached.worth[rows] = self.x[broken], worth[broken]
            self.reached.broken[rows] = True
            self._take(~broken)

    def _take(self, stay: Tensor) -> None:
        self.problem, self.wanted = self.problem.take(stay), self.wanted.take(stay)
        for name in self.ROWS:
            setattr(self, name, getattr(self, name)[stay])

    def _next(self, first: bool) -> Tensor:
        """A step of steepest ascent from the present points, and on in the direction of the last step."""
        space = self.problem.space
        length = space.spread(space.radius * self.step[:, None])
        new = space.project(self.x + length * space.steepest(self.gradient))
        if first:
            return new
        weight = self.schedule.momentum
        return space.project(self.x + weight * (new - self.x) + (1 - weight) * (self.x - self.before))

    def _adapt(self, number: int) -> None:
        """At checks, halve the step of studies where it led up too seldom, or not at all though it was not halved."""
        if number not in self.checks:
            return
        seldom = self.rises < self.schedule.rho * (number - self.checked)
        halve = seldom | (~self.halved & (self.best_loss <= self.mark))
        self.step = torch.where(halve, self.step / 2, self.step)
        self._return(halve)
        self.checked, self.halved, self.mark, self.rises = number, halve, self.best_loss, torch.zeros_like(self.rises)

    def _return(self, rows: Tensor) -> None:
        """Put some studies, (B,) bool, back to their best point."""
        self.x = torch.where(rows[:, None], self.best, self.x)
        self.gradient = torch.where(rows[:, None], self.best_gradient, self.gradient)
        self.loss = torch.where(rows, self.best_loss, self.loss)


class _SparseClimb(_Climb):
    """The climb in ``l1``: a step changes the values of the largest gradients, fewer as the best change gets sparser.

    Args:
        restarted: Whether the start is itself a sparse change, which says how many values steps change.
    """

    ROWS = (*_Climb.ROWS, "changed", "count")
    FIRST_STEP = 1.0

    def __init__(
        self,
        problem: Problem,
        wanted: Objective,
        schedule: Schedule,
        start: Tensor,
        steps: int,
        restarted: bool,
        early_drop: bool = True,
    ) -> None:
        super().__init__(problem, wanted, schedule, start, steps, early_drop)
        space = problem.space
        self.changed = space.norms((self.best != space.clean if restarted else space.free).to(start), "l1")  # (B, M)
        self.count = self.changed / FACTOR if restarted else self.changed * SPARSE  # (B, M), that a step changes

    def _next(self, first: bool) -> Tensor:
        space = self.problem.space
        length = space.spread(space.radius * self.step[:, None])
        return space.project(self.x + length * self._steepest())

    def _steepest(self) -> Tensor:
        """Steps of length 1 that change the ``count`` values of the largest gradients of each modality alike."""
        sizes = self.problem.space.sizes
        parts = []
        gradient = self.gradient * self.problem.space.free
        for part, size, count in zip(torch.split(gradient, sizes, 1), sizes, self.count.T, strict=True):
            order = part.abs().sort(1, descending=True).values
            least = order.gather(1, count.long().clamp(1, size)[:, None] - 1)
            step = part.sign() * (part.abs() >= least)
            parts.append(step / step.abs().sum(1, keepdim=True).clamp(min=1))
        return torch.cat(parts, 1)

    def _adapt(self, number: int) -> None:
        """From time to time, let steps change fewer values, or where the best change got no sparser, shorten them."""
        if number % max(1, int(LOOK * self.steps)):
            return
        changes = self.problem.space.norms((self.best != self.problem.space.clean).to(self.best), "l1")
        sparser = changes.sum(1) < SETTLED * self.changed.sum(1)
        full = torch.full_like(self.step, self.FIRST_STEP)
        self.step = torch.where(sparser, full, (self.step / FACTOR).clamp(min=LEAST))
        self.changed, self.count = changes, changes / FACTOR
        self._return(sparser)
