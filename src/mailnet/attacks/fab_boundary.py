"""Which boundaries between answers a study stands before, and which of them an attack that walks along them follows.

A task is answered wrongly beyond the nearest of its boundaries, so of a task's boundaries the nearest is followed. A
study is broken when every attacked task is, so of several tasks all are followed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mailnet.attacks.fab_projection import nearest, ways
from mailnet.attacks.objective import class_logits
from mailnet.attacks.problem import Problem
from mailnet.attacks.unit import Unit
from mailnet.specs import TaskSpec


@dataclass(frozen=True)
class Aim:
    """One boundary of one task for each study.

    Args:
        task: The task.
        answer: (B,), which of the task's wrong answers, as ``wrong_margins`` has them; -1 for a study without.
    """

    task: str
    answer: Tensor

    def take(self, rows: Tensor) -> Aim:
        """Return the aims of some of the studies."""
        return Aim(self.task, self.answer[rows])


def wrong_margins(task: TaskSpec, logits: Tensor, target: Tensor, goal: Tensor | None = None) -> Tensor:
    """Return (B, A), positive where a wrong answer beats the label; minus infinity for what is no wrong answer.

    The answers are a task's classes; of a multilabel task its labels, each wrong when it flips; of a task with a goal
    only the goal, which has to beat every other class.

    Args:
        task: The task.
        logits: (B, outputs).
        target: Labels as in a ``Batch``.
        goal: (B,) wanted class or None.
    """
    if task.kind == "multilabel":
        signed = torch.where(target > 0.5, -logits, logits)
        return torch.where(target.isnan(), torch.full_like(signed, -torch.inf), signed)
    scores = class_logits(task, logits)
    none = torch.full_like(scores, -torch.inf)
    if goal is not None:
        others = torch.where(_is(goal, scores), none, scores)
        margins = (scores.gather(1, goal[:, None])[:, 0] - others.amax(1))[:, None]
        return torch.where((target >= 0)[:, None], margins, torch.full_like(margins, -torch.inf))
    own = scores.gather(1, target.clamp(min=0)[:, None])
    return torch.where(_is(target, scores) | (target < 0)[:, None], none, scores - own)


def _is(label: Tensor, scores: Tensor) -> Tensor:
    return torch.arange(scores.shape[1], device=scores.device) == label[:, None]


def answers_of(problem: Problem, logits: dict[str, Tensor], name: str) -> Tensor:
    """Return (B, A), the margins of a task's wrong answers; see ``wrong_margins``."""
    goals = problem.objective.goals or {}
    return wrong_margins(problem.tasks[name], logits[name], problem.batch.targets[name], goals.get(name))


def shortfall(problem: Problem, logits: dict[str, Tensor]) -> Tensor:
    """Return (B,), how much the least wrong task lacks, in logits: at most 0 where the study is broken."""
    names = problem.objective.attacked(problem.tasks)
    lacks = torch.stack([-answers_of(problem, logits, name).amax(1) for name in names])
    return torch.where(problem.known(), lacks, torch.full_like(lacks, -torch.inf)).amax(0)


def followed(problem: Problem, unit: Unit, change: Tensor, aim: Aim | None) -> tuple[Tensor, Tensor]:
    """Return the margin of each task's boundary that a study follows, (B, T), and its gradient, (B, T, D).

    The margin of a task without a label is infinite: nothing is wanted of it.

    Args:
        problem: The studies.
        unit: Their space in radii, in which the gradient is.
        change: Where the studies are.
        aim: The boundary of one task, whose other tasks follow their likeliest wrong answer; None looks at every
            boundary of every task, at the cost of a backward pass for each.
    """
    names = problem.objective.attacked(problem.tasks)
    goals = problem.objective.goals or {}
    counts = [1 if aim is not None or name in goals else len(problem.tasks[name].classes) for name in names]

    def margins(logits: dict[str, Tensor]) -> Tensor:
        parts = [answers_of(problem, logits, name) for name in names]
        if aim is not None:
            parts = [
                part.gather(1, aim.answer[:, None]) if name == aim.task else part.amax(1, keepdim=True)
                for name, part in zip(names, parts, strict=True)
            ]
        return torch.cat(parts, 1)

    values, gradients = problem.slopes(unit.rows(change), margins)  # (B, S), (B, S, D)
    gradients = gradients * unit.radius[:, None]
    parts = zip(torch.split(values, counts, 1), torch.split(gradients, counts, 1), strict=True)
    chosen = [_nearest_answer(unit, change, *part) for part in parts]
    value, gradient = (torch.stack(side, 1) for side in zip(*chosen, strict=True))
    return torch.where(problem.known().T, value, torch.inf), gradient


def _nearest_answer(unit: Unit, change: Tensor, values: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Of a task's boundaries, (B, S) and (B, S, D), the nearest inside the box, (B,) and (B, D)."""
    if values.shape[1] == 1:
        return values[:, 0], gradients[:, 0]
    low, high, sizes, norm = unit.low - change, unit.high - change, unit.space.sizes, unit.space.threat.norm
    away = []
    for value, gradient in zip(values.unbind(1), gradients.unbind(1), strict=True):
        offset = torch.where(value.isfinite(), -value, 0.0)
        step = nearest(gradient, offset, low, high, sizes, norm)
        away.append(torch.where(value.isfinite(), ways(gradient, offset, step, sizes, norm), torch.inf))
    rows, chosen = torch.arange(len(values), device=values.device), torch.stack(away, 1).argmin(1)
    return values[rows, chosen], gradients[rows, chosen]
