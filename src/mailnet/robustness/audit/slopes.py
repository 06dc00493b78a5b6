"""Which gradients vanish although the answer depends on the input: of each task, to each modality, by two losses.

The cross-entropy of a confident answer is flat in single precision: its gradient underflows, that of the margin does
not. Only where both vanish does the network hide its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mailnet.attacks import Problem
from mailnet.robustness.audit.check import exceeds

Tried: TypeAlias = Literal["ce", "margin"]
TRIED: tuple[Tried, ...] = ("ce", "margin")
ROUNDING = 1e-5  # of a logit, relative; below, an answer has not changed


@dataclass(frozen=True)
class Slopes:
    """What became of the gradients at the clean studies; each (loss, task, modality) -> (n,) of the studies that have
    both.

    Args:
        zero: 1 where the gradient is zero although the task's answer depends on the modality.
        broken: 1 where it is not finite.
        ignored: (task, modality) -> share of the studies whose answer does not depend on the modality at all.
    """

    zero: dict[tuple[Tried, str, str], Tensor]
    broken: dict[tuple[Tried, str, str], Tensor]
    ignored: dict[tuple[str, str], float]

    def share(self, loss: Tried) -> float:
        """Return the largest share of zero gradients of any task and modality."""
        return max((float(found.mean()) for key, found in self.zero.items() if key[0] == loss), default=0.0)

    @property
    def not_finite(self) -> float:
        """Largest share of gradients that are not finite."""
        return max((float(found.mean()) for found in self.broken.values()), default=0.0)

    def hidden(self, loss: Tried) -> list[tuple[str, str]]:
        """Return the tasks and modalities whose gradient by a loss vanishes in more than a chance few studies."""
        return [key[1:] for key, found in self.zero.items() if key[0] == loss and exceeds(found)]

    @cached_property
    def saturated(self) -> bool:
        """Whether the cross-entropy alone is flat."""
        return bool(set(self.hidden("ce")) - set(self.hidden("margin")))


def measure_slopes(parts: Sequence[Problem], generator: torch.Generator) -> Slopes:
    """Measure the gradients at the clean studies.

    Args:
        parts: The studies, in parts that fit into memory.
        generator: Of random inputs, by which it is seen whether an answer depends on a modality.
    """
    space = parts[0].space
    names = parts[0].objective.attacked(parts[0].tasks)
    depends = [_depends(part, generator) for part in parts]
    known = torch.cat([part.known() for part in parts], 1)  # (T, B)
    free = torch.cat([part.space.radius > 0 for part in parts])  # (B, M)
    zero, broken, ignored = {}, {}, {}
    for t, task in enumerate(names):
        moved = torch.cat([one[task] for one in depends])  # (B, M)
        for loss in TRIED:
            norms = torch.cat([_norms(part, loss, task) for part in parts])  # (B, M)
            for m, modality in enumerate(space.names):
                rows = known[t] & free[:, m]
                if int(rows.sum()) < 2:
                    continue
                zero[loss, task, modality] = ((norms == 0) & moved)[rows, m].double()
                broken[loss, task, modality] = (~norms.isfinite())[rows, m].double()
                ignored[task, modality] = float((~moved)[rows, m].double().mean())
    return Slopes(zero, broken, ignored)


def _norms(problem: Problem, loss: Tried, task: str) -> Tensor:
    """(B, M) largest absolute value of the gradient of one task to each modality; NaN stays."""
    asked = problem.with_objective(replace(problem.objective, loss=loss, tasks=[task])).ask(problem.space.clean)
    assert asked.gradient is not None
    gradient = torch.where(problem.space.free, asked.gradient, 0.0).abs()
    return torch.stack([part.amax(1) for part in torch.split(gradient, problem.space.sizes, 1)], 1)


def _depends(problem: Problem, generator: torch.Generator) -> dict[str, Tensor]:
    """Task -> (B, M) bool, whether its answer changes when a modality is something else altogether."""
    space = problem.space
    drawn = torch.rand(space.clean.shape, generator=generator).to(space.clean)
    other = torch.split(space.low + drawn * (space.high - space.low), space.sizes, 1)
    before = _answers(problem, space.clean)
    columns = []
    for m in range(len(space.names)):
        parts = list(torch.split(space.clean, space.sizes, 1))
        parts[m] = other[m]
        after = _answers(problem, torch.cat(parts, 1))
        columns.append({task: ((after[task] - value).abs() > ROUNDING * (1 + value.abs())).any(1)
                        for task, value in before.items()})  # fmt: skip
    return {task: torch.stack([column[task] for column in columns], 1) for task in before}


def _answers(problem: Problem, x: Tensor) -> dict[str, Tensor]:
    """Task -> logits, of a random network by the same numbers each time."""
    if problem.random and problem.noise == "sample":
        problem = problem.with_draws(1, generator=torch.Generator().manual_seed(0))
    return problem.ask(x, gradient=False).logits
