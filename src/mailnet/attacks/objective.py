"""What an attacker wants: losses of each study that rise as it is misclassified, and whether it is.

Every loss takes what a network with few classes has: two classes have no third logit to divide by, so the difference of
logits ratio of two classes is their margin.

Source of the ratio: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020. Of the hinge: Carlini, Wagner, "Towards evaluating the robustness of neural
networks", IEEE S&P 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional

from mailnet.nn.heads import probabilities
from mailnet.specs import TaskSpec

Loss: TypeAlias = Literal["ce", "margin", "dlr", "hinge"]
LEAST = 1e-12


@dataclass(frozen=True)
class Objective:
    """Which tasks are attacked, towards what, and by which loss.

    Args:
        loss: ``ce`` cross-entropy, ``margin`` the largest other logit minus the label's (towards a goal: the goal's
            minus the label's), ``dlr`` that margin over the distance of the largest logit to the third, which no
            scaling of the logits changes, ``hinge`` the margin while it is below 0, else 0 (towards a goal: of the
            goal's logit minus the largest other), so that a task that is broken weighs no more: the sum over tasks
            is 0 where all are broken.
        tasks: The attacked tasks; None for all.
        goals: Task -> (B,) class that the study shall be taken for; a task without a goal is attacked towards any
            other class. Not for ``multilabel``.

    Raises:
        ValueError: An unknown loss.
    """

    loss: Loss = "ce"
    tasks: Sequence[str] | None = None
    goals: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss '{self.loss}' is not one of {', '.join(get_args(Loss))}")

    def check(self, tasks: Mapping[str, TaskSpec], targets: Mapping[str, Tensor]) -> None:
        """Refuse an objective that does not fit a network's tasks and the labels given.

        Raises:
            ValueError: No task, an unknown one, an attacked task without labels, or a goal that no class is.
        """
        if not self.attacked(tasks):
            raise ValueError(f"no task is attacked; the network has {', '.join(tasks)}")
        for name in [*self.attacked(tasks), *(self.goals or {})]:
            if name not in tasks:
                raise ValueError(f"unknown task '{name}'; the network has {', '.join(tasks)}")
            if name not in targets:
                raise ValueError(f"task '{name}' is attacked but has no labels")
        for name, goal in (self.goals or {}).items():
            if tasks[name].kind == "multilabel":
                raise ValueError(f"task '{name}' is multilabel, which has no single goal")
            if bool((goal < 0).any()) or bool((goal >= len(tasks[name].classes)).any()):
                raise ValueError(f"goals of task '{name}' must be classes 0 to {len(tasks[name].classes) - 1}")

    def attacked(self, tasks: Mapping[str, TaskSpec]) -> list[str]:
        """Return the attacked tasks."""
        return list(tasks if self.tasks is None else self.tasks)

    def take(self, rows: Tensor) -> Objective:
        """Return the objective of some of the studies."""
        goals = None if self.goals is None else {name: goal[rows] for name, goal in self.goals.items()}
        return Objective(self.loss, self.tasks, goals)

    def losses(
        self, tasks: Mapping[str, TaskSpec], logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> Tensor:
        """Return (B,), the sum over the attacked tasks whose label is known; larger is nearer to the goal.

        Args:
            tasks: The network's tasks.
            logits: Task -> (B, outputs).
            targets: Task -> labels, as in a ``Batch``.
        """
        parts = []
        for name in self.attacked(tasks):
            goal = None if self.goals is None else self.goals.get(name)
            parts.append(task_losses(self.loss, tasks[name], logits[name], targets[name], goal))
        return torch.stack(parts).sum(0)

    def broken(
        self, tasks: Mapping[str, TaskSpec], logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> Tensor:
        """Return (B,) bool: every attacked task whose label is known is answered wrongly, or as its goal says.

        Studies of which no label is known are not broken.
        """
        reached, known = [], []
        for name in self.attacked(tasks):
            goal = None if self.goals is None else self.goals.get(name)
            known.append(labelled(tasks[name], targets[name]))
            if goal is None:
                reached.append(~correct(tasks[name], logits[name], targets[name]))
            else:
                reached.append(answers(tasks[name], logits[name]) == goal)
        has = torch.stack(known)
        return (torch.stack(reached) | ~has).all(0) & has.any(0)


def labelled(task: TaskSpec, target: Tensor) -> Tensor:
    """Return (B,) bool, whether a study has a label, of a multilabel task one at least."""
    return ~target.isnan().all(1) if task.kind == "multilabel" else target >= 0


def answers(task: TaskSpec, logits: Tensor) -> Tensor:
    """Return the predicted class (B,), of a multilabel task (B, K) whether each label is given."""
    found = probabilities(task, logits)
    return found > 0.5 if task.kind == "multilabel" else found.argmax(1)


def correct(task: TaskSpec, logits: Tensor, target: Tensor) -> Tensor:
    """Return (B,) bool; of a multilabel task, that every known label is right. Unknown labels count as right."""
    given = answers(task, logits)
    if task.kind == "multilabel":
        return ((given == (target > 0.5)) | target.isnan()).all(1)
    return (given == target) | (target < 0)


def class_logits(task: TaskSpec, logits: Tensor) -> Tensor:
    """Return (B, K), a logit a class; of an ordinal task the logarithms of its classes' probabilities.

    Those are found from the logits, since probabilities of 0 or 1 have no gradient to follow.
    """
    if task.kind != "ordinal":
        return logits
    above = logits.cummin(1).values  # of P(y > k), k = 0 .. K-2
    upper, lower = above[:, :-1], above[:, 1:]
    between = (-torch.expm1(lower - upper)).clamp(min=LEAST).log()
    middle = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + between
    return torch.cat([functional.logsigmoid(-above[:, :1]), middle, functional.logsigmoid(above[:, -1:])], 1)


def task_losses(loss: Loss, task: TaskSpec, logits: Tensor, target: Tensor, goal: Tensor | None = None) -> Tensor:
    """Return (B,) losses of a task, 0 where the label is unknown.

    Of a multilabel task the cross-entropy is the mean over known labels, and the margin that of the label that flips
    first; its ratio is the margin.
    """
    if task.kind == "multilabel":
        return _multilabel(loss, logits, target)
    scores = class_logits(task, logits)
    label = target.clamp(min=0)
    found = _UNTARGETED[loss](scores, label) if goal is None else _TARGETED[loss](scores, label, goal)
    return torch.where(target >= 0, found, torch.zeros_like(found))


def _multilabel(loss: Loss, logits: Tensor, target: Tensor) -> Tensor:
    known = ~target.isnan()
    truth = torch.where(known, target, 0.0).to(logits.dtype)
    if loss == "ce":
        each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return (each * known).sum(1) / known.sum(1).clamp(min=1)
    flips = torch.where(known, (1 - 2 * truth) * logits, -torch.inf).amax(1)
    flips = torch.where(known.any(1), flips, torch.zeros_like(flips))
    return flips.clamp(max=0) if loss == "hinge" else flips


def _cross_entropy(scores: Tensor, label: Tensor) -> Tensor:
    return functional.cross_entropy(scores, label, reduction="none")


def _margin(scores: Tensor, label: Tensor) -> Tensor:
    own = scores.gather(1, label[:, None])[:, 0]
    return scores.scatter(1, label[:, None], -torch.inf).amax(1) - own


def _ratio(scores: Tensor, label: Tensor) -> Tensor:
    if scores.shape[1] < 3:
        return _margin(scores, label)
    top = scores.topk(3, 1).values
    return _margin(scores, label) / (top[:, 0] - top[:, 2] + LEAST)


def _hinge(scores: Tensor, label: Tensor) -> Tensor:
    return _margin(scores, label).clamp(max=0)


def _cross_entropy_to(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    return -functional.cross_entropy(scores, goal, reduction="none")


def _margin_to(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    return (scores.gather(1, goal[:, None]) - scores.gather(1, label[:, None]))[:, 0]


def _ratio_to(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    if scores.shape[1] < 3:
        return _margin_to(scores, label, goal)
    top = scores.topk(min(scores.shape[1], 4), 1).values
    # As published with four classes or more; of three, the distance of the first to the last.
    least = top[:, 2] if scores.shape[1] == 3 else (top[:, 2] + top[:, 3]) / 2
    return _margin_to(scores, label, goal) / (top[:, 0] - least + LEAST)


def _hinge_to(scores: Tensor, label: Tensor, goal: Tensor) -> Tensor:
    return -_margin(scores, goal).clamp(min=0)


_UNTARGETED: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": _cross_entropy,
    "margin": _margin,
    "dlr": _ratio,
    "hinge": _hinge,
}
_TARGETED: dict[Loss, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ce": _cross_entropy_to,
    "margin": _margin_to,
    "dlr": _ratio_to,
    "hinge": _hinge_to,
}
