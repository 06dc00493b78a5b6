"""Attacks of signed or normalised steps: one step, several, with random starts.

Sources: Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015 (FGSM); Kurakin et al.,
"Adversarial examples in the physical world", 2017 (BIM); Madry et al., "Towards deep learning models resistant to
adversarial attacks", ICLR 2018 (PGD).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import register_attack


@register_attack("fgsm")
def fgsm(problem: Problem, *, generator: torch.Generator | None = None) -> Tensor:
    """Take one step to the edge of the ball; return rows (B, D)."""
    return pgd(problem, steps=1, step=1.0, random_start=False, generator=generator)


@register_attack("bim")
def bim(
    problem: Problem,
    *,
    steps: int = 10,
    step: float = 0.25,
    early_drop: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Take several steps from the clean study; return rows (B, D). Options as of ``pgd``."""
    return pgd(problem, steps=steps, step=step, random_start=False, early_drop=early_drop, generator=generator)


@register_attack("pgd")
def pgd(
    problem: Problem,
    *,
    steps: int = 20,
    step: float = 0.25,
    restarts: int = 1,
    random_start: bool = True,
    early_drop: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Climb the loss by steps of the steepest ascent, each drawn back into the ball; return rows (B, D).

    Args:
        problem: The studies.
        steps: Steps of a start.
        step: Length of a step, in radii of each modality.
        restarts: Starts; a study that is broken is not started again.
        random_start: Whether a start is a random point of the ball or the clean study.
        early_drop: Whether a study that is broken takes no further step, and none at all where it is misclassified as
            it is. Without, the last point counts, as published.
        generator: Of the random starts.

    Returns:
        A point that breaks the study where one was found, else the last of the last start.
    """
    if steps < 1 or restarts < 1 or step <= 0:
        raise ValueError(f"steps and restarts must be at least 1 and step positive, got {steps}, {restarts}, {step}")
    found = problem.space.clean.clone()
    left = torch.arange(len(problem), device=found.device)
    if random_start and early_drop:
        left = left[problem.standing(problem.ask(found, gradient=False))]
    for _ in range(restarts):
        if not len(left):
            break
        left = left[~_climb(problem, found, left, steps, step, random_start, early_drop, generator)]
    return found


def _climb(
    problem: Problem,
    found: Tensor,
    rows: Tensor,
    steps: int,
    step: float,
    random_start: bool,
    early_drop: bool,
    generator: torch.Generator | None,
) -> Tensor:
    """One start of ``rows``, written to ``found``; return which of them are broken, (n,) bool."""
    broken = torch.zeros(len(rows), dtype=torch.bool, device=found.device)
    part = problem.take(rows)
    x = part.space.random(generator) if random_start else part.space.clean
    going = torch.arange(len(rows), device=found.device)
    for number in range(steps + 1):
        asked = part.ask(x, gradient=number < steps)
        found[rows[going]] = x
        broken[going] = asked.broken
        if number == steps:
            break
        assert asked.gradient is not None
        x = part.space.project(x + step * part.space.steepest(asked.gradient) * part.space.spread(part.space.radius))
        stay = part.standing(asked)
        if early_drop and not bool(stay.all()):
            part, going, x = part.take(stay), going[stay], x[stay]
            if not len(going):
                break
    return broken
