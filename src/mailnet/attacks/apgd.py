"""Auto-PGD: gradient ascent without a step length to choose, by cross-entropy, by the ratio of logits, towards classes.

Source: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
ICML 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mailnet.attacks.ascent import Schedule, climb
from mailnet.attacks.objective import Objective, class_logits
from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import register_attack

# Which objective to climb next, and for which studies, (B,) bool.
Round = tuple[Objective, Tensor]


@register_attack("apgd")
def apgd(
    problem: Problem,
    *,
    steps: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    momentum: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Climb the problem's loss from random points by steps that adapt to each study; return rows (B, D).

    Steps are in radii of each modality, all modalities at once. In ``l1`` they are sparse, without momentum, and most
    are in larger balls.

    Args:
        problem: The studies.
        steps: Steps of a start.
        restarts: Starts; a study that is broken is not started again.
        rho: A study's step is halved where fewer than this share of its steps since the last check raised its loss.
        momentum: Weight of the new direction against that of the last step.
        generator: Of the random starts.

    Returns:
        A point that breaks the study where one was found, else the one of the largest loss; studies that are broken as
        they are come back as they are.

    Raises:
        ValueError: No step, no start, or a share outside [0, 1].

    Sources: Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020; for ``l1`` Croce, Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image
    classifiers", ICML 2021.
    """

    def rounds(_: Mapping[str, Tensor]) -> Iterator[Round]:
        yield problem.objective, torch.ones(len(problem), dtype=torch.bool, device=problem.space.clean.device)

    return _climb_all(problem, rounds, Schedule(steps, rho, momentum), restarts, generator)


@register_attack("apgd_ce")
def apgd_ce(
    problem: Problem,
    *,
    steps: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    momentum: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run ``apgd`` on the cross-entropy; return rows (B, D). Options as there."""
    changed = problem.with_objective(replace(problem.objective, loss="ce"))
    return apgd(changed, steps=steps, restarts=restarts, rho=rho, momentum=momentum, generator=generator)


@register_attack("apgd_dlr")
def apgd_dlr(
    problem: Problem,
    *,
    steps: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    momentum: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run ``apgd`` on the difference of logits ratio; return rows (B, D). Options as there."""
    changed = problem.with_objective(replace(problem.objective, loss="dlr"))
    return apgd(changed, steps=steps, restarts=restarts, rho=rho, momentum=momentum, generator=generator)


@register_attack("apgd_t")
def apgd_t(
    problem: Problem,
    *,
    targets: int = 9,
    steps: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    momentum: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run ``apgd`` on the ratio towards the likeliest wrong classes, one after the other; return rows (B, D).

    A multilabel task, which has no single class to aim at, is drawn away from its labels instead, and a task whose
    goals the problem gives towards them. A climb that breaks the study by another class than the one it aims at counts.

    A study of several tasks is broken only where all are, and a sum of ratios rises most by one task going ever
    further wrong. There the loss is the hinge, which a broken task no longer raises: first for all tasks away from
    their labels, then for one task after the other towards its classes while the others are drawn away from theirs.

    Args:
        problem: The studies.
        targets: Wrong classes of each task, the likeliest for the unchanged study first; K - 1 if there are fewer.
        steps: Steps towards one class.
        restarts: Starts towards one class.
        rho: As of ``apgd``.
        momentum: As of ``apgd``.
        generator: Of the random starts.

    Returns:
        A point that breaks the study where one was found, else the one of the largest ratio of logits.

    Raises:
        ValueError: No target, no step, no start, or a share outside [0, 1].
    """
    if targets < 1:
        raise ValueError(f"targets must be at least 1, got {targets}")
    changed = problem.with_objective(replace(problem.objective, loss="dlr"))

    def rounds(logits: Mapping[str, Tensor]) -> Iterator[Round]:
        return _towards(changed, logits, targets)

    return _climb_all(changed, rounds, Schedule(steps, rho, momentum), restarts, generator)


def _towards(problem: Problem, logits: Mapping[str, Tensor], count: int) -> Iterator[Round]:
    """First studies of several tasks away from all their labels, then all studies towards one class after the other."""
    objective, goals = problem.objective, dict(problem.objective.goals or {})
    names = objective.attacked(problem.tasks)
    known = dict(zip(names, problem.known(), strict=True))
    several = problem.known().sum(0) > 1
    yield replace(objective, loss="hinge"), several
    for name in names:
        task, label = problem.tasks[name], problem.batch.targets[name]
        if task.kind == "multilabel" or name in goals:
            yield objective, known[name] & ~several
            continue
        scores = class_logits(task, logits[name]).scatter(1, label.clamp(min=0)[:, None], -torch.inf)
        for goal in scores.topk(min(count, len(task.classes) - 1), 1).indices.T:
            towards = replace(objective, goals={**goals, name: goal})
            yield towards, known[name] & ~several
            yield replace(towards, loss="hinge"), known[name] & several


def _climb_all(
    problem: Problem,
    rounds: Callable[[Mapping[str, Tensor]], Iterator[Round]],
    schedule: Schedule,
    restarts: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Climb one objective after the other with the studies that stand, and keep each study's best point."""
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    asked = problem.ask(problem.space.clean, gradient=False)
    found, worth = problem.space.clean.clone(), torch.full_like(asked.loss, -torch.inf)
    standing = problem.standing(asked)
    for _ in range(restarts):
        for objective, wanted in rounds(asked.logits):
            rows = (standing & wanted).nonzero()[:, 0]
            if not len(rows):
                continue
            part = problem.with_objective(objective).take(rows)
            reached = climb(part, problem.objective.take(rows), schedule, generator)
            better = reached.broken | (reached.worth > worth[rows])
            found[rows[better]], worth[rows[better]] = reached.x[better], reached.worth[better]
            standing[rows[reached.broken]] = False
    return found
