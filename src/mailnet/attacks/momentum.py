"""Attacks that step along an average of gradients, which carries over to other networks better than the last one does.

Each is published for one image in ``linf``. Here gradients are averaged in units of their own length, modality by
modality: the mean absolute value in ``linf``, as the authors' code has it, and the ``l2`` or ``l1`` norm there.

Sources: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018 (``mim``); Lin et al., "Nesterov
accelerated gradient and scale invariance for adversarial attacks", ICLR 2020 (``ni_fgsm``, without its scaled copies);
Wang, He, "Enhancing the transferability of adversarial attacks through variance tuning", CVPR 2021 (``vmi_fgsm``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mailnet.attacks.diversity import Diversity
from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import register_attack
from mailnet.attacks.threat import Space


@register_attack("mim")
def mim(
    problem: Problem,
    *,
    steps: int = 10,
    step: float | None = None,
    decay: float = 1.0,
    diversity: float = 0.0,
    early_drop: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Step along a decaying sum of all gradients so far; return rows (B, D).

    Args:
        problem: The studies.
        steps: Steps, from the clean study.
        step: Length of a step in radii of each modality; None for 1 / ``steps``, as published.
        decay: What is left of the sum at each step; 0 gives steps of the last gradient only.
        diversity: Chance that a step sees a study in another size and place, see ``Diversity``.
        early_drop: Whether a study that is broken takes no further step. Without, the last point counts: it is further
            from the boundary, as an attack on another network wants it.
        generator: Of the diversity.

    Returns:
        A point that breaks the study where one was found, else the last.

    Raises:
        ValueError: An option out of its range.
    """
    return _climb(problem, _Plan(steps, step, decay, diversity, early_drop), generator)


@register_attack("ni_fgsm")
def ni_fgsm(
    problem: Problem,
    *,
    steps: int = 10,
    step: float | None = None,
    decay: float = 1.0,
    diversity: float = 0.0,
    early_drop: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """As ``mim``, with gradients found where the sum alone would lead (Nesterov); return rows (B, D).

    Arguments, result and errors as of ``mim``.
    """
    return _climb(problem, _Plan(steps, step, decay, diversity, early_drop, ahead=True), generator)


@register_attack("vmi_fgsm")
def vmi_fgsm(
    problem: Problem,
    *,
    steps: int = 10,
    step: float | None = None,
    decay: float = 1.0,
    neighbours: int = 20,
    reach: float = 1.5,
    diversity: float = 0.0,
    early_drop: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """As ``mim``, each gradient corrected by how those around the step before differed from it; return rows (B, D).

    Args:
        problem: The studies.
        steps: As of ``mim``.
        step: As of ``mim``.
        decay: As of ``mim``.
        neighbours: Points around each step; each is one more question.
        reach: How far away they lie at most, in radii of each modality.
        diversity: As of ``mim``.
        early_drop: As of ``mim``.
        generator: Of the neighbours and the diversity.

    Returns:
        As of ``mim``.

    Raises:
        ValueError: An option out of its range.
    """
    if neighbours < 1 or reach <= 0:
        raise ValueError(f"neighbours must be at least 1 and reach positive, got {neighbours} and {reach}")
    plan = _Plan(steps, step, decay, diversity, early_drop, neighbours=neighbours, reach=reach)
    return _climb(problem, plan, generator)


@dataclass(frozen=True)
class _Plan:
    steps: int
    step: float | None
    decay: float
    diversity: float
    early_drop: bool
    ahead: bool = False
    neighbours: int = 0
    reach: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.decay < 0:
            raise ValueError(f"steps must be at least 1 and decay not negative, got {self.steps} and {self.decay}")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be positive, got {self.step}")


def _climb(problem: Problem, plan: _Plan, generator: torch.Generator | None) -> Tensor:
    transform = Diversity(plan.diversity, generator=generator) if plan.diversity else None
    step = plan.step or 1 / plan.steps
    found = problem.space.clean.clone()
    going = torch.arange(len(problem), device=found.device)
    part, x = problem, problem.space.clean
    total, difference = torch.zeros_like(x), torch.zeros_like(x)
    for number in range(plan.steps):
        # A question asked elsewhere, or about a changed study, does not say whether this point breaks it.
        as_it_is = transform is None and not (plan.ahead and number)
        asked = None
        if plan.early_drop:
            asked = part.ask(x, gradient=as_it_is)
            stay = part.standing(asked)
            part, going, x = part.take(stay), going[stay], x[stay]
            total, difference = total[stay], difference[stay]
            if not len(going):
                break
        length = step * part.space.spread(part.space.radius)
        if asked is not None and asked.gradient is not None:
            gradient = asked.gradient[stay]
        else:
            at = part.space.boxed(x + length * plan.decay * total) if plan.ahead else x
            gradient = _gradient(part, at, transform)
        total = plan.decay * total + _unit(part.space, gradient + difference)
        if plan.neighbours and number < plan.steps - 1:
            difference = -gradient
            for _ in range(plan.neighbours):
                near = part.space.boxed(x + plan.reach * part.space.uniform(generator))
                difference += _gradient(part, near, transform) / plan.neighbours
        x = part.space.project(x + length * part.space.steepest(total))
        found[going] = x
    return found


def _gradient(problem: Problem, x: Tensor, transform: Diversity | None) -> Tensor:
    gradient = problem.ask(x, transform=transform).gradient
    assert gradient is not None
    return gradient


def _unit(space: Space, gradient: Tensor) -> Tensor:
    """A gradient (B, D) with each modality's part of length 1; in ``linf``, of mean absolute value 1."""
    if space.threat.norm == "l2":
        return space.steepest(gradient)
    length = space.norms(gradient, "l1")
    if space.threat.norm == "linf":
        length = length / torch.tensor(space.sizes, device=length.device)
    return gradient / space.spread(length.clamp(min=torch.finfo(length.dtype).tiny))
