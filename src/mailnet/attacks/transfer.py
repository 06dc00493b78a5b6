"""Adversarial points made on other networks: an attacker who cannot see into the attacked one, and hardly asks it.

``transfer`` needs networks beside the attacked one, so it is called by itself and has no name in the registry.

Source: Liu et al., "Delving into transferable adversarial examples and black-box attacks", ICLR 2017 (several networks
together); the steps are those of ``momentum``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from mailnet.attacks.asked import Asked
from mailnet.attacks.problem import Problem, Transform
from mailnet.attacks.registry import get_attack
from mailnet.nn.noise import get_noise
from mailnet.nn.registry import Network

Steps: TypeAlias = Literal["mim", "ni_fgsm", "vmi_fgsm"]


def transfer(
    problem: Problem,
    sources: Sequence[nn.Module],
    *,
    by: Steps = "mim",
    steps: int = 10,
    step: float | None = None,
    decay: float = 1.0,
    diversity: float = 0.5,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack source networks, all together and then each alone, until a point breaks the attacked network.

    The attacked network is asked about the clean study and once about each point; it gives no gradient.

    Args:
        problem: The studies and the attacked network.
        sources: Other networks with the same modalities and tasks, in evaluation mode, on the same device. Together
            their mean loss is attacked.
        by: How a point is made, see ``momentum``.
        steps: See ``mim``.
        step: See ``mim``.
        decay: See ``mim``.
        diversity: See ``mim``.
        draws: Forward passes of a random source whose gradients are averaged.
        generator: Of the diversity, and of random sources.

    Returns:
        Rows (B, D): the first point that breaks the study, else the one of the largest loss; a study that is
        misclassified as it is stays so.

    Raises:
        ValueError: No source, one that does not fit, an unknown ``by``, or an option out of its range.
    """
    if by not in get_args(Steps):
        raise ValueError(f"by '{by}' is not one of {', '.join(get_args(Steps))}")
    _check(problem, sources)
    attack = get_attack(by)
    groups = [list(sources), *([source] for source in sources)] if len(sources) > 1 else [list(sources)]
    found = problem.space.clean.clone()
    asked = problem.ask(found, gradient=False)
    loss = torch.full_like(asked.loss, -torch.inf)
    rows = problem.standing(asked).nonzero()[:, 0]
    for group in groups:
        if not len(rows):
            break
        part = problem.take(rows)
        together = _Together([_on(source, part, draws, generator) for source in group])
        x = attack(
            together,
            steps=steps,
            step=step,
            decay=decay,
            diversity=diversity,
            early_drop=False,
            generator=generator,
        )
        asked = part.ask(x, gradient=False)
        better = asked.broken | (asked.loss > loss[rows])
        found[rows[better]] = x[better]
        loss[rows] = loss[rows].maximum(asked.loss)
        rows = rows[~asked.broken]
    return found


def _check(problem: Problem, sources: Sequence[nn.Module]) -> None:
    if not sources:
        raise ValueError("sources is empty; give one network at least")
    attacked = cast("Network", problem.model)
    for number, source in enumerate(sources):
        network = cast("Network", source)
        if set(network.modalities) != set(attacked.modalities):
            has, needs = ", ".join(network.modalities), ", ".join(attacked.modalities)
            raise ValueError(f"source {number} has the modalities {has}; the attacked network has {needs}")
        if network.tasks != attacked.tasks:
            has, needs = ", ".join(network.tasks), ", ".join(attacked.tasks)
            raise ValueError(f"source {number} has tasks {has} that are not the attacked network's {needs}")


def _on(source: nn.Module, problem: Problem, draws: int, generator: torch.Generator | None) -> Problem:
    """The same studies in the same balls, put to a source."""
    there = Problem(
        source,
        problem.batch,
        problem.space.threat,
        problem.objective,
        draws=1 if get_noise(source) is None else draws,
        generator=generator,
        straight_through=problem.smooth,
    )
    there.space = problem.space
    return there


class _Together(Problem):
    """The same studies put to several networks: loss and gradient are their means."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.__dict__.update(problems[0].__dict__)
        self.problems = problems

    def take(self, rows: Tensor) -> Problem:
        return _Together([problem.take(rows) for problem in self.problems])

    def ask(self, x: Tensor, *, gradient: bool = True, transform: Transform | None = None) -> Asked:
        each = [problem.ask(x, gradient=gradient, transform=transform) for problem in self.problems]
        loss = torch.stack([asked.loss for asked in each]).mean(0)
        broken = torch.stack([asked.broken for asked in each]).all(0)
        slopes = [asked.gradient for asked in each if asked.gradient is not None]
        return Asked(loss, each[0].logits, broken, torch.stack(slopes).mean(0) if slopes else None)
