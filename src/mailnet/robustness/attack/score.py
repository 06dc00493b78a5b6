"""What a network answers at the points that an attack left: a random one again and again, by fresh draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mailnet.attacks import Problem
from mailnet.attacks.objective import answers, correct, labelled
from mailnet.specs import TaskSpec

Array = np.ndarray[Any, Any]
# ``single`` the chance that one draw is right, ``mean`` the mean probability of all draws, ``majority`` the class that
# most draws answer, ``worst`` every draw.
Way: TypeAlias = Literal["single", "mean", "majority", "worst"]
WAYS: tuple[Way, ...] = get_args(Way)


def score(
    problem: Problem, x: Tensor, *, repeats: int = 20, generator: torch.Generator | None = None
) -> dict[str, dict[Way, Array]]:
    """Ask a network about rows (B, D); return how right it is: task -> way of counting -> (R, B) shares in [0, 1].

    Of ``single`` there is a row a draw, 0 or 1, by which ``figures`` sees how much draws differ; the other ways count
    all draws together, in one row. A share is NaN where the label is not known. A multilabel answer is right where
    every known label is.

    Args:
        problem: The studies.
        x: The rows.
        repeats: Fresh draws of a random network; of one that is frozen, has its noise off, or draws nothing, all ways
            of counting are the same, and one question is asked.
        generator: Of the draws.

    Raises:
        ValueError: No repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    fresh = problem.random and problem.noise == "sample"
    met = problem.with_draws(repeats, generator=generator) if fresh else problem
    asked = met.ask(x, gradient=False)
    each = asked.each if fresh else [asked.logits]
    # Counted on the CPU, since not every device has double precision.
    return {
        name: _ways(problem.tasks[name], [one[name].cpu() for one in each], asked.logits[name].cpu(),
                    problem.batch.targets[name].cpu())
        for name in problem.objective.attacked(problem.tasks)
    }  # fmt: skip


def _ways(task: TaskSpec, each: Sequence[Tensor], mean: Tensor, target: Tensor) -> dict[Way, Array]:
    right = torch.stack([correct(task, logits, target) for logits in each]).double()  # (R, B)
    given = torch.stack([answers(task, logits) for logits in each])  # (R, B), of a multilabel task (R, B, K)
    if task.kind == "multilabel":
        majority = correct(task, given.double().mean(0) - 0.5, target)  # as logits: above 0 is yes
    else:
        majority = functional.one_hot(given, len(task.classes)).sum(0).argmax(1) == target
    ways: dict[Way, Tensor] = {
        "single": right,
        "mean": correct(task, mean, target).double()[None],
        "majority": majority.double()[None],
        "worst": right.amin(0, keepdim=True),
    }
    known = labelled(task, target)
    return {way: torch.where(known, share, torch.nan).numpy() for way, share in ways.items()}
