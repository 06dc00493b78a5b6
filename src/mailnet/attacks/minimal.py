"""Attacks that look for the smallest change that breaks a study, wherever the ball ends.

The size of a change is the largest of its modalities' norms in radii: by how much the balls would have to grow to hold
it. With one modality that is the norm that the publications minimise. A result counts within the ball only, so a point
outside is drawn back onto it.

Sources: Moosavi-Dezfooli et al., "DeepFool: a simple and accurate method to fool deep neural networks", CVPR 2016;
Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mailnet.attacks.objective import class_logits, task_losses
from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import register_attack
from mailnet.attacks.threat import Space

ACROSS, FAR = 1e-4, 1e3  # in radii: how far beyond a boundary a step leads, and how far one may lead at all
SHORT = 0.1  # of half a value's range: the longest first step of Adam, times ``step``


def sizes(space: Space, x: Tensor) -> Tensor:
    """Return (B,), by how much each study's balls would have to grow to hold rows (B, D); at most 1 inside them."""
    norms = space.norms(x - space.clean)
    return (norms / space.radius.clamp(min=torch.finfo(norms.dtype).tiny)).amax(1)


@register_attack("deepfool")
def deepfool(
    problem: Problem,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    classes: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Step to the nearest boundary as if the network were linear, until it is crossed; return rows (B, D).

    For ``linf`` and ``l2``. Of several tasks the one whose nearest boundary is furthest is stepped to; a label of a
    ``multilabel`` task is a boundary each.

    Args:
        problem: The studies.
        steps: Most steps.
        overshoot: How much further than to the boundary, as a share of the whole change.
        classes: How many other classes a task's boundaries are looked for to, those of largest logits; each costs a
            gradient a step.
        generator: Not used; nothing is drawn.

    Returns:
        The point that breaks the study where one was found, else the last; drawn onto the ball.

    Raises:
        ValueError: Another norm, or an option out of its range.
    """
    if problem.space.threat.norm == "l1":
        raise ValueError("deepfool is for norms linf and l2, got l1")
    if steps < 1 or overshoot < 0 or classes < 1:
        raise ValueError(
            f"steps and classes must be at least 1 and overshoot not negative, got {steps}, {classes}, {overshoot}"
        )
    found = problem.space.clean.clone()
    going = torch.arange(len(problem), device=found.device)
    part, x, change = problem, found, torch.zeros_like(found)
    for _ in range(steps):
        asked = part.ask(x, gradient=False)
        logits, stay = asked.logits, part.standing(asked)
        right = _right(part, logits)
        part, going, x, change, right = part.take(stay), going[stay], x[stay], change[stay], right[stay]
        if not len(going):
            break
        change = change + _to_boundary(part, x, {name: value[stay] for name, value in logits.items()}, right, classes)
        x = part.space.boxed(part.space.clean + (1 + overshoot) * change)
        found[going] = x
    return problem.space.project(found)


def _right(problem: Problem, logits: dict[str, Tensor]) -> Tensor:
    """Return (B, T) bool, which attacked tasks hold; one without a label does not."""
    wanted, targets = problem.objective, problem.batch.targets
    each = [replace(wanted, tasks=[name]) for name in wanted.attacked(problem.tasks)]
    return (problem.known() & ~torch.stack([one.broken(problem.tasks, logits, targets) for one in each])).T


def _to_boundary(problem: Problem, x: Tensor, logits: dict[str, Tensor], right: Tensor, classes: int) -> Tensor:
    """Return the shortest change (B, D) that would cross the nearest boundary of the task for which it is longest."""
    space = problem.space
    parts = [_gaps(problem, name, value, classes) for name, value in _of_attacked(problem, logits).items()]
    gaps, slopes = problem.slopes(x, lambda found: torch.cat([part(found) for part in parts], 1))
    ways, lengths = torch.empty_like(slopes), torch.empty_like(gaps)
    for plane, slope in enumerate(slopes.unbind(1)):
        # Where the box ends there is no way on.
        room = torch.where(slope > 0, space.high - x, x - space.low) > 0
        ways[:, plane] = space.steepest(slope * room) * space.spread(space.radius)
        rate = (slope * ways[:, plane]).sum(1).clamp(min=torch.finfo(slope.dtype).tiny)
        lengths[:, plane] = ((-gaps[:, plane]).clamp(min=0) / rate + ACROSS).clamp(max=FAR)
    counts = [part(logits).shape[1] for part in parts]
    nearest = [columns.min(1) for columns in torch.split(lengths, counts, 1)]
    starts = torch.tensor([0, *counts[:-1]], device=x.device).cumsum(0)
    planes = torch.stack([found.indices for found in nearest], 1) + starts  # (B, T)
    furthest = torch.stack([found.values for found in nearest], 1).masked_fill(~right, -1).argmax(1, keepdim=True)
    chosen = planes.gather(1, furthest)[:, 0]
    rows = torch.arange(len(chosen), device=x.device)
    return lengths[rows, chosen, None] * ways[rows, chosen]


def _of_attacked(problem: Problem, logits: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: logits[name] for name in problem.objective.attacked(problem.tasks)}


def _gaps(problem: Problem, name: str, logits: Tensor, classes: int) -> Callable[[dict[str, Tensor]], Tensor]:
    """Return what gives (B, S), negative where a task holds, of which one must rise to 0 for the task to be broken."""
    task, target = problem.tasks[name], problem.batch.targets[name]
    goal = None if problem.objective.goals is None else problem.objective.goals.get(name)
    if task.kind == "multilabel":
        truth = torch.where(target.isnan(), 0.0, target)
        return lambda found: torch.where(target.isnan(), -torch.inf, (1 - 2 * truth) * found[name])
    if goal is not None:
        return lambda found: task_losses("hinge", task, found[name], target, goal)[:, None]
    scores = class_logits(task, logits)
    others = scores.scatter(1, target.clamp(min=0)[:, None], -torch.inf)
    rivals = others.topk(min(classes, scores.shape[1] - 1), 1).indices.unbind(1)
    return lambda found: torch.stack([task_losses("margin", task, found[name], target, one) for one in rivals], 1)


@register_attack("cw")
def cw(
    problem: Problem,
    *,
    steps: int = 100,
    searches: int = 6,
    constant: float = 1.0,
    step: float = 1.0,
    early_drop: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Minimise the squared change plus a constant times the hinge of the tasks that hold; return rows (B, D).

    For ``l2``. The constant is searched for by bisection, of its logarithm since a good one may have any size, and
    the box is kept by searching along a tanh, as published; of several modalities the one whose change is largest in
    radii is minimised.

    Args:
        problem: The studies.
        steps: Steps of Adam for each constant.
        searches: Constants tried.
        constant: The first of them; a change of one radius weighs as much as this of a logit's inverse.
        step: Length of Adam's first step, in radii of each modality; it falls evenly to 0, which finds smaller changes
            in few steps than the published one that stays.
        early_drop: Whether a study is left alone once it is broken within its ball; its change is then not the
            smallest.
        generator: Not used; nothing is drawn.

    Returns:
        The smallest change that breaks the study where one was found, else the last tried; drawn onto the ball.

    Raises:
        ValueError: Another norm, or an option out of its range.
    """
    if problem.space.threat.norm != "l2":
        raise ValueError(f"cw minimises the l2 norm, so its threat must be l2, got {problem.space.threat.norm}")
    if steps < 1 or searches < 1 or constant <= 0 or step <= 0:
        raise ValueError(
            f"steps and searches must be at least 1, constant and step positive, got {steps}, {searches}, {constant}, "
            f"{step}"
        )
    found = problem.space.clean.clone()
    going = torch.arange(len(problem), device=found.device)[problem.standing(problem.ask(found, gradient=False))]
    least = torch.full((len(problem),), torch.inf).to(found)
    under, over = torch.zeros_like(least), torch.full_like(least, torch.inf)
    constants = torch.full_like(least, constant)
    hinged = problem.with_objective(replace(problem.objective, loss="hinge"))
    for _ in range(searches):
        if early_drop:
            going = going[least[going] > 1]
        if not len(going):
            break
        x, size = _descend(hinged.take(going), constants[going], steps, step, early_drop)
        better = size < least[going]
        reached = size < torch.inf
        found[going] = torch.where((better | least[going].isinf())[:, None], x, found[going])
        least[going] = size.minimum(least[going])
        tried = constants[going]
        over[going] = torch.where(reached, tried, over[going])
        under[going] = torch.where(reached, under[going], tried)
        middle = (under[going] * over[going]).sqrt()
        constants[going] = torch.where(over[going].isinf(), 10 * tried, torch.where(middle > 0, middle, tried / 10))
    return problem.space.project(found)


def _descend(problem: Problem, constants: Tensor, steps: int, step: float, early_drop: bool) -> tuple[Tensor, Tensor]:
    """Return rows (B, D) and their sizes (B,): the smallest that break, else the last and an infinite size."""
    found = problem.space.clean.clone()
    least = torch.full_like(constants, torch.inf)
    going = torch.arange(len(found), device=found.device)
    part, tanh = problem, _Tanh(problem.space, step, steps)
    for _ in range(steps):
        x = tanh.rows()
        asked = part.ask(x)
        assert asked.gradient is not None
        size = sizes(part.space, x)
        better = asked.broken & (size < least[going])
        found[going] = torch.where((better | least[going].isinf())[:, None], x, found[going])
        least[going] = torch.where(better, size, least[going])
        tanh.step(_slope_of_square(part.space, x) - constants[going, None] * asked.gradient)
        if early_drop:
            stay = least[going] > 1
            part, going = part.take(stay), going[stay]
            tanh.take(stay)
            if not len(going):
                break
    return found, least


def _slope_of_square(space: Space, x: Tensor) -> Tensor:
    """The gradient (B, D) of the squared size: of the modality that is largest in radii."""
    change = x - space.clean
    radius = space.radius.clamp(min=torch.finfo(change.dtype).tiny)
    share = space.norms(change) / radius
    largest = torch.zeros_like(share).scatter_(1, share.argmax(1, keepdim=True), 1.0)
    return 2 * change * space.spread(largest / radius / radius)


class _Tanh:
    """Rows as the tanh of free numbers, which Adam changes."""

    def __init__(self, space: Space, step: float, steps: int) -> None:
        self.space, self.steps = space, steps
        self.half = (space.high - space.low) / 2
        self.middle = (space.high + space.low) / 2
        each = space.spread(space.radius / torch.tensor(space.sizes, device=space.radius.device).sqrt())
        half = self.half.clamp(min=torch.finfo(each.dtype).tiny)
        # At the ends of the box tanh has no slope: begin a little within, and do not jump there.
        short = (each / half).clamp(max=SHORT)
        most = 1 - (short / 100).clamp(min=1e-6)
        self.free = torch.atanh(((space.clean - self.middle) / half).clamp(-most, most))
        self.rate = step * short
        self.first, self.second, self.count = torch.zeros_like(self.free), torch.zeros_like(self.free), 0

    def rows(self) -> Tensor:
        return self.space.boxed(self.middle + self.half * self.free.tanh())

    def step(self, slope: Tensor) -> None:
        """Step down a slope (B, D) of the rows."""
        slope = slope * self.half * (1 - self.free.tanh().square())
        rate = self.rate * (1 - self.count / self.steps)
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope.square()
        mean, square = self.first / (1 - 0.9**self.count), self.second / (1 - 0.999**self.count)
        self.free = self.free - rate * mean / (square.sqrt() + 1e-8)

    def take(self, rows: Tensor) -> None:
        self.space = self.space.take(rows)
        for name in ("half", "middle", "free", "rate", "first", "second"):
            setattr(self, name, getattr(self, name)[rows])
