"""FAB: the nearest point that is answered wrongly, by walking along the boundary and towards the clean study.

Each step goes to the boundary as it looks from here, linearised and inside the box (``fab_projection``), a little
beyond it, and is biased towards where that boundary comes nearest to the clean study. With several modalities lengths
are those of ``unit``: a study counts as broken when it lies in every modality's ball.

Source: Croce, Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mailnet.attacks.fab_boundary import Aim, answers_of, followed, shortfall
from mailnet.attacks.fab_projection import beyond_all
from mailnet.attacks.found import Found
from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import register_attack
from mailnet.attacks.unit import Unit

SEARCHES = 3
BEYOND = 0.01  # of the rest of the way: a point on the boundary itself is broken by rounding only


@dataclass(frozen=True)
class Walk:
    """How FAB steps.

    Args:
        steps: Steps of a start.
        alpha_max: Largest weight of the clean study's own way to the boundary, 0 to 1.
        eta: How far a step goes, in ways to the boundary, at least 1.
        beta: Share of its change that a broken study keeps before the next step, between 0 and 1.

    Raises:
        ValueError: A value out of range.
    """

    steps: int
    alpha_max: float
    eta: float
    beta: float

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not (0 <= self.alpha_max <= 1 and self.eta >= 1 and 0 < self.beta < 1):
            raise ValueError(
                "alpha_max must be 0 to 1, eta at least 1 and beta between 0 and 1, "
                f"got {self.alpha_max}, {self.eta}, {self.beta}"
            )


@register_attack("fab")
def fab(
    problem: Problem,
    *,
    steps: int = 100,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    early_drop: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Look for the nearest wrong answer of all, at a backward pass a step for each; return rows (B, D).

    Args:
        problem: The studies.
        steps: Steps of a start.
        restarts: Starts: the clean study first, then random points of half the ball, or of half the distance found.
        alpha_max: Largest weight of the clean study's own way to the boundary.
        eta: How far a step goes, in ways to the boundary.
        beta: Share of its change that a broken study keeps before the next step.
        early_drop: Whether a study that is broken takes no further step. Without, the walk goes on to the nearest
            point, as published.
        generator: Of the random starts.

    Returns:
        The nearest broken point where one was found in the ball, else the nearest of all, drawn into the ball.

    Raises:
        ValueError: An option out of range.
    """
    return _search(problem, None, Walk(steps, alpha_max, eta, beta), restarts, early_drop, generator)


@register_attack("fab_t")
def fab_t(
    problem: Problem,
    *,
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    early_drop: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Look for the nearest point beyond one wrong answer after another, task by task; return rows (B, D).

    Options and result as of ``fab``; a step costs one backward pass for each attacked task.

    Args:
        problem: The studies.
        steps: Steps of a start.
        restarts: Starts for each wrong answer.
        targets: Wrong answers of each task that are tried, the likeliest of the clean study first: other classes, or
            labels that flip.
        alpha_max: See ``fab``.
        eta: See ``fab``.
        beta: See ``fab``.
        early_drop: See ``fab``.
        generator: Of the random starts.

    Raises:
        ValueError: An option out of range.
    """
    if targets < 1:
        raise ValueError(f"targets must be at least 1, got {targets}")
    return _search(problem, targets, Walk(steps, alpha_max, eta, beta), restarts, early_drop, generator)


def _search(
    problem: Problem,
    targets: int | None,
    walk: Walk,
    restarts: int,
    early_drop: bool,
    generator: torch.Generator | None,
) -> Tensor:
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    problem = problem.with_precision("fp32")  # a boundary that is rounded lies elsewhere, and is missed for ever
    found = Found(problem, early_drop)
    if not bool(found.open.any()):
        return found.x
    aims = [None] if targets is None else _aims(problem, found.logits, targets)
    for aim in aims:
        for number in range(restarts):
            rows = found.left()
            rows = rows if aim is None else rows[aim.answer[rows] >= 0]
            if len(rows):
                _descend(problem, found, rows, aim, walk, number > 0, generator)
    rows = found.left()
    _refine(problem, found, rows[found.length[rows].isfinite()])
    return found.points()


def _aims(problem: Problem, logits: dict[str, Tensor], targets: int) -> list[Aim]:
    """The likeliest wrong answers of each task; -1 where a study has no such answer."""
    aims = []
    for name in problem.objective.attacked(problem.tasks):
        margins = answers_of(problem, logits, name)
        values, order = margins.sort(dim=1, descending=True, stable=True)
        order = torch.where(values.isneginf(), torch.full_like(order, -1), order)
        aims += [Aim(name, column) for column in order[:, :targets].unbind(1) if bool((column >= 0).any())]
    return aims


def _descend(
    problem: Problem,
    found: Found,
    rows: Tensor,
    aim: Aim | None,
    walk: Walk,
    random: bool,
    generator: torch.Generator | None,
) -> None:
    """One start of ``rows``."""
    part = problem.take(rows)
    unit = Unit(part.space)
    aim = None if aim is None else aim.take(rows)
    change = torch.zeros_like(unit.low)
    if random:
        change = unit.changes(part.space.random(generator)) * found.length[rows].clamp(max=1)[:, None] / 2
    for _ in range(walk.steps):
        change = _step(part, unit, change, aim, walk)
        x = unit.rows(change)
        broken = part.ask(x, gradient=False).broken
        found.record(rows, unit, x, broken)
        change = torch.where(broken[:, None], change * walk.beta, change)
        stay = ~found.done(rows)
        if bool(stay.all()):
            continue
        rows, change, part = rows[stay], change[stay], part.take(stay)
        aim = None if aim is None else aim.take(stay)
        if not len(rows):
            break
        unit = Unit(part.space)


def _step(part: Problem, unit: Unit, change: Tensor, aim: Aim | None, walk: Walk) -> Tensor:
    """Go beyond the boundary, between the way from here and the way from the clean study."""
    margins, gradients = followed(part, unit, change, aim)
    sizes, norm = part.space.sizes, part.space.threat.norm
    here = beyond_all(gradients, -margins, unit.low - change, unit.high - change, sizes, norm)
    ahead = (gradients * change[:, None]).sum(2) - margins
    clean = beyond_all(gradients, ahead, unit.low, unit.high, sizes, norm)
    near, far = unit.lengths(here), unit.lengths(clean)
    alpha = (near / (near + far).clamp(min=1e-12)).clamp(max=walk.alpha_max)[:, None]
    moved = (1 - alpha) * (change + walk.eta * here) + alpha * walk.eta * clean
    return moved.clamp(unit.low, unit.high)


def _refine(problem: Problem, found: Found, rows: Tensor) -> None:
    """Draw broken points towards the clean study, to where the margin, taken as linear between the two, is zero."""
    if not len(rows):
        return
    part = problem.take(rows)
    unit = Unit(part.space)
    whole = unit.changes(found.x[rows])
    near, far = torch.zeros_like(found.length[rows]), torch.ones_like(found.length[rows])
    lacks = shortfall(part, {name: value[rows] for name, value in found.logits.items()}).clamp(min=0)
    beats = -shortfall(part, part.ask(found.x[rows], gradient=False).logits).clamp(max=0)
    for _ in range(SEARCHES):
        share = (lacks / (lacks + beats).clamp(min=1e-12)).clamp(0, 1)
        middle = near + (share + BEYOND * (1 - share)) * (far - near)
        x = unit.rows(whole * middle[:, None])
        asked = part.ask(x, gradient=False)
        found.record(rows, unit, x, asked.broken)
        gap = shortfall(part, asked.logits)
        far, beats = torch.where(asked.broken, middle, far), torch.where(asked.broken, -gap, beats).clamp(min=0)
        near, lacks = torch.where(asked.broken, near, middle), torch.where(asked.broken, lacks, gap).clamp(min=0)
