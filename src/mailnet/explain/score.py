"""What is explained: the log-odds of a class, for every kind of task.

A prediction does not change when the same number is added to all logits of a softmax, so neither may its explanation:
the log-odds of a class are its logit less the logarithm of the sum of the others' exponentials, of two classes the
difference of the logits. Unlike a probability they have a slope where the network is sure.

An ordinal task is asked whether the grade is at least the class, P(y >= k), of the lowest class whether it is no
higher: what makes a grade higher then speaks for it throughout, where P(y = k) of a middle one rises with it and falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from mailnet.nn.heads import probabilities
from mailnet.specs import TaskSpec

Unit: TypeAlias = Literal["log_odds", "probability"]
Target: TypeAlias = int | str | Sequence[int] | Tensor
LEAST = 1e-7  # of a probability whose log-odds are asked


def class_score(task: TaskSpec, logits: Tensor, target: Tensor) -> Tensor:
    """Return the log-odds (B,) of a class, of an ordinal task of a grade of at least the class.

    Args:
        task: The task.
        logits: (B, outputs).
        target: (B,) classes.

    >>> task = TaskSpec("t", ("no", "yes"), "binary")
    >>> class_score(task, torch.tensor([[1.0, 3.0]]), torch.tensor([1])).item()
    2.0
    """
    if task.kind == "ordinal":
        above = logits.cummin(1).values  # of P(y > k), k = 0 .. K-2
        at_least = above.gather(1, (target - 1).clamp(min=0)[:, None])[:, 0]
        return torch.where(target == 0, -at_least, at_least)
    own = logits.gather(1, target[:, None])[:, 0]
    if task.kind == "multilabel":
        return own
    others = logits.scatter(1, target[:, None], -torch.inf)
    return own - others.logsumexp(1)


def class_probability(task: TaskSpec, found: Tensor, target: Tensor) -> Tensor:
    """Return the probability (B,) whose log-odds ``class_score`` gives, from those of the classes (B, K)."""
    if task.kind == "ordinal":
        reached = torch.arange(found.shape[1], device=found.device) >= target[:, None]
        own = torch.where(target == 0, found[:, 0], (found * reached).sum(1))
        return own.clamp(0, 1)
    return found.gather(1, target[:, None])[:, 0]


def in_unit(probability: Tensor, unit: Unit) -> Tensor:
    """Return probabilities as they are, or as log-odds; those of 0 and 1 are drawn in by 1e-7.

    Raises:
        ValueError: An unknown unit.
    """
    if unit not in get_args(Unit):
        raise ValueError(f"unit '{unit}' is not one of {', '.join(get_args(Unit))}")
    return probability if unit == "probability" else probability.clamp(LEAST, 1 - LEAST).logit()


def predicted(task: TaskSpec, logits: Tensor) -> Tensor:
    """Return the class (B,) that is explained unless another is asked for: the most probable one, or label."""
    return probabilities(task, logits.detach()).argmax(1)


def checked_target(task: TaskSpec, target: Target, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Return (B,) int64 from a class of all studies, by number or name, or one of each.

    Raises:
        ValueError: No class is that, or there are not as many as studies.
    """
    if isinstance(target, str):
        if target not in task.classes:
            raise ValueError(f"task '{task.name}' has no class '{target}'; it has {', '.join(task.classes)}")
        target = task.classes.index(target)
    found = torch.as_tensor(target, device=device)
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"target must be whole numbers, the classes, got {found.dtype}")
    found = found.long()
    found = found.expand(count) if found.ndim == 0 else found
    if found.shape != (count,):
        raise ValueError(f"target must be one class or one for each of the {count} studies, got {tuple(found.shape)}")
    if bool(((found < 0) | (found >= len(task.classes))).any()):
        raise ValueError(f"target of task '{task.name}' must be a class, 0 to {len(task.classes) - 1}")
    return found


def uniform(task: TaskSpec) -> list[float]:
    """Return the probabilities (K,) of who knows nothing but the classes."""
    share = 0.5 if task.kind == "multilabel" else 1 / len(task.classes)
    return [share] * len(task.classes)


def checked_prior(task: TaskSpec, prior: Sequence[float] | Tensor | None) -> Tensor:
    """Return (K,) probabilities, equal ones where none are given.

    Raises:
        ValueError: Not one for each class, or they are no probabilities.
    """
    found = torch.as_tensor(uniform(task) if prior is None else prior, dtype=torch.float32)
    if found.shape != (len(task.classes),) or not bool(((found >= 0) & (found <= 1)).all()):
        raise ValueError(f"prior must be {len(task.classes)} probabilities, one of each class, got {found.tolist()}")
    if task.kind != "multilabel" and not math.isclose(float(found.sum()), 1, abs_tol=1e-3):
        raise ValueError(f"prior must add up to 1, got {float(found.sum()):.4g}")
    return found
