"""Losses against formulas written out one study at a time; what counts as broken over several tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from small_network import SIGNS, STAGE, THREE, TWO
from torch import Tensor

from mailnet.attacks import Objective
from mailnet.attacks.objective import Loss, answers, class_logits, correct, labelled, task_losses
from mailnet.nn.heads import probabilities
from mailnet.specs import TaskSpec

LOSSES: tuple[Loss, ...] = get_args(Loss)
STUDIES = 40
NAN = math.nan


def task_of(classes: int) -> TaskSpec:
    return TaskSpec("t", tuple(str(k) for k in range(classes)))


def by_hand(loss: Loss, scores: Sequence[float], label: int, goal: int | None) -> float:
    """A loss of one study from its formula."""
    others = [score for k, score in enumerate(scores) if k != label]
    ranked = sorted(scores, reverse=True)
    few = len(scores)
    if goal is None:
        margin = max(others) - scores[label]
        if loss == "ce":
            return math.log(sum(math.exp(score) for score in scores)) - scores[label]
        if loss == "dlr" and few > 2:
            return margin / (ranked[0] - ranked[2])
        return min(margin, 0.0) if loss == "hinge" else margin
    margin = scores[goal] - scores[label]
    if loss == "ce":
        return scores[goal] - math.log(sum(math.exp(score) for score in scores))
    if loss == "hinge":
        return min(scores[goal] - max(score for k, score in enumerate(scores) if k != goal), 0.0)
    if loss == "dlr" and few > 2:
        return margin / (ranked[0] - (ranked[2] if few == 3 else (ranked[2] + ranked[3]) / 2))
    return margin


@pytest.mark.parametrize("targeted", [False, True], ids=["any", "goal"])
@pytest.mark.parametrize("classes", [2, 3, 4, 8])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_their_formulas(loss: Loss, classes: int, targeted: bool) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(STUDIES, classes, generator=generator)
    label = torch.randint(classes, (STUDIES,), generator=generator)
    goal = (label + torch.randint(1, classes, (STUDIES,), generator=generator)) % classes if targeted else None
    found = task_losses(loss, task_of(classes), logits, label, goal)
    goals = [None] * STUDIES if goal is None else goal.tolist()
    rows = zip(logits.tolist(), label.tolist(), goals, strict=True)
    torch.testing.assert_close(found, torch.tensor([by_hand(loss, *row) for row in rows]), atol=1e-4, rtol=1e-5)


def test_of_two_classes_the_ratio_is_the_margin() -> None:
    logits, label = torch.randn(STUDIES, 2), torch.randint(2, (STUDIES,))
    margin = task_losses("margin", TWO, logits, label)
    assert torch.equal(task_losses("dlr", TWO, logits, label), margin)
    assert torch.equal(margin, logits[torch.arange(STUDIES), 1 - label] - logits[torch.arange(STUDIES), label])


@pytest.mark.parametrize("classes", [3, 4, 8])
def test_the_ratio_does_not_change_with_scale(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(STUDIES, classes, generator=generator)
    label = torch.randint(classes, (STUDIES,), generator=generator)
    for goal in (None, (label + 1) % classes):
        once, scaled = (task_losses("dlr", task_of(classes), s * logits + 5, label, goal) for s in (1, 100))
        torch.testing.assert_close(once, scaled, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("targeted", [False, True], ids=["any", "goal"])
def test_ordinal_losses_are_those_of_the_classes_probabilities(loss: Loss, targeted: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(STUDIES, 2, generator=generator)
    logits = logits.sort(1, descending=True).values  # where they are not, a class has no probability, and no logarithm
    label = torch.randint(3, (STUDIES,), generator=generator)
    goal = (label + 1) % 3 if targeted else None
    scores = probabilities(STAGE, logits).log()
    torch.testing.assert_close(class_logits(STAGE, logits), scores, atol=1e-4, rtol=1e-4)
    goals = [None] * STUDIES if goal is None else goal.tolist()
    rows = zip(scores.tolist(), label.tolist(), goals, strict=True)
    expected = torch.tensor([by_hand(loss, *row) for row in rows])
    torch.testing.assert_close(task_losses(loss, STAGE, logits, label, goal), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("loss", ["margin", "dlr", "hinge"])
def test_confident_ordinal_networks_have_a_gradient(loss: Loss) -> None:
    logits = torch.tensor([[40.0, -40.0], [-40.0, -60.0], [60.0, 40.0]], requires_grad=True)
    losses = task_losses(loss, STAGE, logits, torch.tensor([1, 0, 2]))
    losses.sum().backward()
    assert logits.grad is not None
    assert bool((logits.grad.abs().sum(1) > 1e-3).all())
    assert bool(losses.isfinite().all())


def test_ordinal_logits_out_of_order_stay_finite() -> None:
    logits = torch.tensor([[-1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    for loss in LOSSES:
        (gradient,) = torch.autograd.grad(task_losses(loss, STAGE, logits, torch.tensor([0, 1])).sum(), logits)
        assert bool(gradient.isfinite().all())


MULTILABEL = torch.tensor([[2.0, -3.0, 0.5], [2.0, -3.0, 0.5], [2.0, -3.0, 0.5], [-1.0, -3.0, 0.5]])
KNOWN = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, NAN], [NAN, NAN, NAN], [1.0, 0.0, 1.0]])
THREE_SIGNS = TaskSpec("signs", ("x", "y", "z"), "multilabel")


@pytest.mark.parametrize("loss", LOSSES)
def test_multilabel_losses_leave_unknown_labels_out(loss: Loss) -> None:
    flips = [[-2.0, -3.0, -0.5], [-2.0, -3.0], [], [1.0, -3.0, -0.5]]  # logits away from the label, below 0 if right
    if loss == "ce":
        expected = [sum(math.log1p(math.exp(flip)) for flip in row) / max(len(row), 1) for row in flips]
    elif loss == "hinge":
        expected = [min(max(row, default=0.0), 0.0) for row in flips]
    else:
        expected = [max(row, default=0.0) for row in flips]
    logits = MULTILABEL.clone().requires_grad_()
    losses = task_losses(loss, THREE_SIGNS, logits, KNOWN)
    torch.testing.assert_close(losses.detach(), torch.tensor(expected))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert bool(gradient.isfinite().all())
    assert not bool(gradient[KNOWN.isnan()].any())


def test_multilabel_answers() -> None:
    assert answers(THREE_SIGNS, MULTILABEL)[0].tolist() == [True, False, True]
    assert correct(THREE_SIGNS, MULTILABEL, KNOWN).tolist() == [True, True, True, False]
    assert labelled(THREE_SIGNS, KNOWN).tolist() == [True, True, False, True]


@pytest.mark.parametrize("task", [THREE, TWO, STAGE], ids=lambda task: task.kind)
@pytest.mark.parametrize("loss", LOSSES)
def test_unknown_labels_have_no_loss(loss: Loss, task: TaskSpec) -> None:
    logits = torch.randn(4, task.outputs).requires_grad_()
    target = torch.tensor([-1, 0, -1, 1])
    for goal in (None, torch.tensor([0, 1, 1, 0])):
        losses = task_losses(loss, task, logits, target, goal)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        assert losses[[0, 2]].tolist() == [0, 0]
        assert not bool(gradient[[0, 2]].any())
    assert labelled(task, target).tolist() == [False, True, False, True]
    assert correct(task, logits, target)[[0, 2]].tolist() == [True, True]


TASKS = {task.name: task for task in (THREE, TWO, SIGNS)}


def logits_for(finding: Sequence[int], grade: Sequence[int], signs: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Logits of which these are the answers."""
    return {
        "finding": torch.eye(3)[torch.tensor(finding)],
        "grade": torch.eye(2)[torch.tensor(grade)],
        "signs": torch.tensor(signs) * 2.0 - 1,
    }


ANSWERS = logits_for([1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 1, 1], [[1, 1]] * 6)
TARGETS = {
    "finding": torch.tensor([0, 0, 0, 0, -1, -1]),
    "grade": torch.tensor([0, 0, 0, 0, 0, -1]),
    "signs": torch.tensor([[0, 0], [1, NAN], [1, 0], [1, 0], [NAN, 0], [NAN, NAN]]),
}


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (None, [True, False, False, False, True, False]),  # every task whose label is known
        (["finding"], [True, True, False, True, False, False]),
        (["grade"], [True, True, True, False, True, False]),
        (["signs"], [True, False, True, True, True, False]),  # one wrong label suffices
        (["finding", "grade"], [True, True, False, False, True, False]),
    ],
)
def test_broken_means_every_known_task(tasks: list[str] | None, expected: list[bool]) -> None:
    assert Objective(tasks=tasks).broken(TASKS, ANSWERS, TARGETS).tolist() == expected


def test_a_goal_is_reached_only_by_that_class() -> None:
    goals = {"finding": torch.tensor([1, 2, 1, 1, 1, 1])}
    reached = Objective(tasks=["finding"], goals=goals).broken(TASKS, ANSWERS, TARGETS)
    assert reached.tolist() == [True, False, False, True, False, False]
    both = Objective(tasks=["finding", "grade"], goals=goals).broken(TASKS, ANSWERS, TARGETS)
    assert both.tolist() == [True, False, False, False, True, False]


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_add_up_over_the_attacked_tasks(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(6, task.outputs, generator=generator) for name, task in TASKS.items()}
    goals = {"finding": torch.tensor([1, 2, 1, 2, 1, 0])}
    each = {name: task_losses(loss, task, logits[name], TARGETS[name], goals.get(name)) for name, task in TASKS.items()}
    total = Objective(loss, goals=goals).losses(TASKS, logits, TARGETS)
    torch.testing.assert_close(total, torch.stack(list(each.values())).sum(0))
    some = Objective(loss, ["grade", "signs"]).losses(TASKS, logits, TARGETS)
    torch.testing.assert_close(some, each["grade"] + each["signs"])


def test_the_hinge_is_0_just_where_all_tasks_are_broken() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 300
    tasks = {**TASKS, "stage": STAGE}
    logits = {name: torch.randn(count, task.outputs, generator=generator) for name, task in tasks.items()}
    targets = {
        name: torch.randint(-1 if name == "grade" else 0, len(task.classes), (count,), generator=generator)
        for name, task in tasks.items()
    }
    targets["signs"] = torch.randint(2, (count, 2), generator=generator).float()
    for goals in (None, {"finding": torch.randint(3, (count,), generator=generator)}):
        wanted = Objective("hinge", goals=goals)
        losses, broken = wanted.losses(tasks, logits, targets), wanted.broken(tasks, logits, targets)
        assert 10 < int(broken.sum()) < count
        assert torch.equal(losses == 0, broken)


def test_some_studies_of_an_objective() -> None:
    wanted = Objective("dlr", ["finding"], {"finding": torch.tensor([0, 1, 2])}).take(torch.tensor([2, 0]))
    assert wanted.goals is not None
    assert wanted.goals["finding"].tolist() == [2, 0]
    assert (wanted.loss, wanted.tasks) == ("dlr", ["finding"])
    assert Objective().take(torch.tensor([0])).goals is None


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Objective(tasks=["stage"]), "unknown task 'stage'"),
        (Objective(tasks=[]), "no task"),
        (Objective(goals={"stage": torch.zeros(6)}), "unknown task 'stage'"),
        (Objective(goals={"signs": torch.zeros(6)}), "multilabel"),
        (Objective(goals={"finding": torch.full((6,), 3)}), "classes 0 to 2"),
        (Objective(goals={"finding": torch.full((6,), -1)}), "classes 0 to 2"),
    ],
)
def test_objectives_that_do_not_fit(objective: Objective, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        objective.check(TASKS, TARGETS)


def test_a_task_without_labels_cannot_be_attacked() -> None:
    with pytest.raises(ValueError, match="'signs' is attacked but has no labels"):
        Objective().check(TASKS, {name: target for name, target in TARGETS.items() if name != "signs"})
    with pytest.raises(ValueError, match="'l7' is not one of ce"):
        Objective("l7")  # type: ignore[arg-type]
