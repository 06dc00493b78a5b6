"""Chance: random points of the ball. What chance breaks, an attack must break too."""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import register_attack


@register_attack("uniform_noise")
def uniform_noise(problem: Problem, *, tries: int = 10, generator: torch.Generator | None = None) -> Tensor:
    """Draw points of the ball evenly; return rows (B, D).

    Args:
        problem: The studies.
        tries: Points of a study; one that is broken is not tried again.
        generator: Of the points.

    Returns:
        A point that breaks the study where one was found, else the one of the largest loss.

    Raises:
        ValueError: No try.
    """
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries}")
    found = problem.space.clean.clone()
    clean = problem.ask(found, gradient=False)
    left, best = torch.arange(len(problem), device=found.device)[problem.standing(clean)], clean.loss
    for _ in range(tries):
        if not len(left):
            break
        part = problem.take(left)
        x = part.space.random(generator)
        asked = part.ask(x, gradient=False)
        better = asked.broken | (asked.loss > best[left])
        found[left[better]], best[left[better]] = x[better], asked.loss[better]
        left = left[part.standing(asked)]
    return found
