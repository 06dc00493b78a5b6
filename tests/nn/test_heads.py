"""Heads, probabilities and losses for every kind of task."""

import pytest
import torch
from torch.nn import functional

from mailnet.nn.heads import Heads, probabilities, task_loss
from mailnet.specs import TaskSpec

BINARY = TaskSpec("b", ("no", "yes"), "binary")
MULTICLASS = TaskSpec("m", ("x", "y", "z"))
MULTILABEL = TaskSpec("l", ("p", "q", "r"), "multilabel")
ORDINAL = TaskSpec("o", ("low", "mid", "high", "top"), "ordinal")
ALL = [BINARY, MULTICLASS, MULTILABEL, ORDINAL]


def labels(task: TaskSpec, rows: int) -> torch.Tensor:
    if task.kind == "multilabel":
        return torch.randint(0, 2, (rows, len(task.classes))).float()
    return torch.randint(0, len(task.classes), (rows,))


def unknown(task: TaskSpec, rows: int) -> torch.Tensor:
    return torch.full((rows, 3), float("nan")) if task.kind == "multilabel" else torch.full((rows,), -1)


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.kind)
def test_probabilities_lie_in_range_and_sum_to_one(task: TaskSpec) -> None:
    p = probabilities(task, 3 * torch.randn(7, task.outputs))
    assert p.shape == (7, len(task.classes))
    assert bool(((p >= 0) & (p <= 1)).all())
    if task.kind != "multilabel":
        torch.testing.assert_close(p.sum(1), torch.ones(7))


def test_ordinal_probabilities_are_differences_of_cumulatives() -> None:
    above = torch.tensor([[0.9, 0.5, 0.2]])
    torch.testing.assert_close(probabilities(ORDINAL, above.logit()), torch.tensor([[0.1, 0.4, 0.3, 0.2]]))


def test_ordinal_probabilities_stay_positive_where_cumulatives_cross() -> None:
    p = probabilities(ORDINAL, torch.tensor([[0.2, 0.9, 0.1]]).logit())
    torch.testing.assert_close(p, torch.tensor([[0.8, 0.0, 0.1, 0.1]]))


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.kind)
def test_labels_that_are_unknown_change_nothing(task: TaskSpec) -> None:
    logits, target = torch.randn(4, task.outputs), labels(task, 4)
    more = torch.cat([logits, torch.randn(3, task.outputs)])
    torch.testing.assert_close(
        task_loss(task, more, torch.cat([target, unknown(task, 3)])), task_loss(task, logits, target)
    )


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.kind)
def test_loss_without_a_label_is_zero_and_differentiable(task: TaskSpec) -> None:
    logits = torch.randn(4, task.outputs, requires_grad=True)
    loss = task_loss(task, logits, unknown(task, 4))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.kind)
def test_loss_falls_towards_the_truth(task: TaskSpec) -> None:
    target = labels(task, 6)
    if task.kind == "multilabel":
        good = 2 * target - 1
    elif task.kind == "ordinal":
        good = 2.0 * (target[:, None] > torch.arange(task.outputs)) - 1
    else:
        good = 2.0 * functional.one_hot(target, task.outputs) - 1
    assert task_loss(task, 5 * good, target) < task_loss(task, good, target) < task_loss(task, -good, target)
    assert task_loss(task, 5 * good, target) < task_loss(task, 5 * good, target, label_smoothing=0.2)


def test_softmax_loss_is_torchs_weighted_and_smoothed() -> None:
    logits, target = torch.randn(6, 3), torch.tensor([0, 1, 2, -1, 1, 0])
    weight = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(
        task_loss(MULTICLASS, logits, target, weight, 0.1),
        functional.cross_entropy(logits, target, weight, ignore_index=-1, label_smoothing=0.1),
    )


def test_class_weights_of_ordinal_and_multilabel_tasks() -> None:
    logits, target = torch.randn(2, 3), torch.tensor([0, 3])
    first, last = task_loss(ORDINAL, logits[:1], target[:1]), task_loss(ORDINAL, logits[1:], target[1:])
    torch.testing.assert_close(
        task_loss(ORDINAL, logits, target, torch.tensor([3.0, 1.0, 1.0, 1.0])), (3 * first + last) / 4
    )
    many = torch.tensor([[1.0, 0.0, 1.0]])
    torch.testing.assert_close(
        task_loss(MULTILABEL, logits[:1], many, torch.tensor([2.0, 5.0, 1.0])),
        functional.binary_cross_entropy_with_logits(logits[:1], many, pos_weight=torch.tensor([2.0, 5.0, 1.0])),
    )


def test_heads_are_a_linear_layer_on_the_concatenation() -> None:
    heads = Heads({"a": 3, "b.c": 5}, {"m": MULTICLASS, "type": ORDINAL}).eval()
    vectors = {"a": torch.randn(2, 3), "b.c": torch.randn(2, 5)}
    logits = heads(vectors)
    assert {task: tuple(value.shape) for task, value in logits.items()} == {"m": (2, 3), "type": (2, 3)}
    weight = torch.cat([heads.weights["m_"]["a_"].weight, heads.weights["m_"]["b%2Ec_"].weight], 1)
    torch.testing.assert_close(logits["m"], torch.cat(list(vectors.values()), 1) @ weight.T)
