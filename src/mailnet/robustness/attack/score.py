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
from mailnet.metrics.bootstrap import LEVEL, draw_weights, interval
from mailnet.specs import TaskSpec

DIGITS = 4  # of redraws: a hundredth of a percent is far below any interval
Array = np.ndarray[Any, Any]
# ``single`` the chance that one draw is right, ``mean`` the mean probability of all draws, ``majority`` the class that
# most draws answer, ``worst`` every draw.
Way: TypeAlias = Literal["single", "mean", "majority", "worst"]
WAYS: tuple[Way, ...] = get_args(Way)


def score(
    problem: Problem, x: Tensor, *, repeats: int = 20, generator: torch.Generator | None = None
) -> dict[str, dict[Way, Array]]:
    """Ask a network about rows (B, D); return how right it is: task -> way of counting -> (B,) share in [0, 1].

    A share is NaN where the label is not known. A multilabel answer is right where every known label is.

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
        "single": right.mean(0),
        "mean": correct(task, mean, target).double(),
        "majority": majority.double(),
        "worst": right.amin(0),
    }
    known = labelled(task, target)
    return {way: torch.where(known, share, torch.nan).numpy() for way, share in ways.items()}


def figures(
    shares: Array,
    labels: Array,
    *,
    groups: Array | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    redraws: bool = False,
) -> dict[str, Any]:
    """Return accuracy and balanced accuracy of shares of right answers, with 95% intervals by redrawing.

    Where all answers are right, or none is, the interval is the exact one of so many patients.

    Args:
        shares: (N,) how right each study is, NaN where its label is not known.
        labels: (N,) classes, or (N, K) of a multilabel task, which has no balanced accuracy.
        groups: (N,) what is drawn together, as patients.
        bootstrap: Draws of the intervals; 0 for none.
        seed: Of the draws.
        redraws: Also give ``redraws``, balanced accuracy, or where there is none accuracy, in each draw (None where it
            is not defined), by which networks are compared in pairs.

    Returns:
        ``n``, and per metric ``value`` and, where they are defined, ``low`` and ``high``; None where no label is known.
    """
    known = ~np.isnan(shares)
    if not known.any():
        nothing: dict[str, Any] = {"n": 0, "accuracy": None, "balanced_accuracy": None}
        return nothing | ({"redraws": []} if redraws else {})
    right, classes = shares[known], labels[known]
    weights = [np.ones((1, len(right)))]
    if bootstrap:
        weights += draw_weights(len(right), None if groups is None else groups[known], bootstrap, seed)
    found: dict[str, Any] = {"n": int(known.sum())}
    drawn = np.concatenate([w @ right / w.sum(1) for w in weights])
    units = np.arange(len(right)) if groups is None else groups[known]
    found["accuracy"] = _estimate(drawn, [len(np.unique(units))])
    balanced = None if classes.ndim > 1 else _balanced(weights, right, classes)
    if balanced is None:
        found["balanced_accuracy"] = None
    else:
        found["balanced_accuracy"] = _estimate(
            balanced, [len(np.unique(units[classes == k])) for k in np.unique(classes)]
        )
    if redraws:
        several = (drawn if balanced is None else balanced)[1:].tolist()
        found["redraws"] = [round(value, DIGITS) if np.isfinite(value) else None for value in several]
    return found


def _balanced(weights: Sequence[Array], right: Array, classes: Array) -> Array:
    """(draws,) mean over the classes; NaN where a draw lacks one."""
    member = (classes[:, None] == np.unique(classes)[None]).astype(np.float64)  # (N, K)
    with np.errstate(invalid="ignore"):
        return np.concatenate([((w @ (right[:, None] * member)) / (w @ member)).mean(1) for w in weights])


def _estimate(draws: Array, units: Sequence[int]) -> dict[str, float]:
    """The first is the value itself, the others are redrawn.

    Where all studies stand, or none, all redraws are alike and say nothing of other patients: there the end is Clopper
    and Pearson's for so many patients, of several classes the mean of theirs.

    Args:
        draws: (1 + draws,).
        units: Patients, of each class where the value is a mean over classes.
    """
    value, ends = float(draws[0]), interval(draws[1:])
    if ends is None:
        return {"value": value}
    low, high = ends
    beyond = float(np.mean([1 - ((1 - LEVEL) / 2) ** (1 / count) for count in units]))
    if value == low == high == 0:
        high = beyond
    elif value == low == high == 1:
        low = 1 - beyond
    return {"value": value, "low": low, "high": high}
