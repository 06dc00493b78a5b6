"""Gradients of random networks averaged over draws, and what a problem refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from linear_network import Linear, linear_problem
from torch import Tensor

from mailnet.attacks import Objective, Problem, Threat, straight_through
from mailnet.attacks.objective import class_logits, task_losses
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.nn.noise import get_noise, set_noise
from mailnet.specs import ModalitySpec, TaskSpec

TASKS = {"t": TaskSpec("t", ("a", "b", "c"))}


def random_network(**options: Any) -> Any:
    torch.manual_seed(0)
    specs = {"ct": ModalitySpec("ct", size=(28, 28))}
    return create_model("robust_mail", specs, TASKS, widths=[16, 16], width=None, **options).eval()


def studies(count: int = 3) -> Batch:
    x = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    return Batch({"ct": x}, {"ct": torch.ones(count, dtype=torch.bool)}, {"t": torch.arange(count) % 3})


def test_the_gradient_is_the_mean_over_draws_and_the_networks_noise_is_as_it_was() -> None:
    model, batch = random_network(), studies()
    before = set_noise(model, "mean", 3, torch.Generator().manual_seed(5))
    seeded = Problem(model, batch, Threat("linf", {"ct": 0.1}), draws=4, generator=torch.Generator().manual_seed(7))
    asked = seeded.ask(seeded.space.clean)
    single = Problem(model, batch, Threat("linf", {"ct": 0.1}), generator=torch.Generator().manual_seed(7))
    draws = [single.ask(single.space.clean) for _ in range(4)]
    gradients = [draw.gradient for draw in draws if draw.gradient is not None]
    assert asked.gradient is not None
    assert not torch.equal(gradients[0], gradients[1])
    torch.testing.assert_close(asked.gradient, torch.stack(gradients).mean(0))
    torch.testing.assert_close(asked.loss, torch.stack([draw.loss for draw in draws]).mean(0))
    mean = torch.stack([draw.logits["t"].softmax(1) for draw in draws]).mean(0)
    torch.testing.assert_close(asked.logits["t"].softmax(1), mean)
    after = get_noise(model)
    assert after is not None
    assert (after.mode, after.draws, after.generator) == (before.mode, 3, before.generator)
    assert seeded.questions.tolist() == [4, 4, 4]


def test_a_frozen_network_is_one_draw_for_every_study_and_question() -> None:
    problem = Problem(random_network(), studies(), Threat("linf", {"ct": 0.1}), frozen=True)
    first, again = (problem.ask(problem.space.clean, gradient=False).logits["t"] for _ in range(2))
    assert torch.equal(first, again)
    part = problem.take(torch.tensor([2]))
    torch.testing.assert_close(part.ask(part.space.clean, gradient=False).logits["t"], first[2:], rtol=1e-4, atol=1e-5)


def test_clips_of_the_published_noise_let_gradients_through() -> None:
    x = torch.tensor([-1.0, 0.5, 2.0], requires_grad=True)

    def slope(smooth: bool) -> list[float]:
        with straight_through(smooth):
            y = x.clamp(0, 1) + torch.clamp(x, min=0.0, max=1.0) + x.clamp(min=0)
        return list(torch.autograd.grad(y.sum(), x)[0].tolist())

    assert slope(False) == [0, 3, 1]
    assert slope(True) == [2, 3, 3]  # a clip at one end is no clip of noise
    model = random_network(man="published", attention="published")
    found = [
        Problem(model, studies(), Threat("linf", {"ct": 0.1}), frozen=True, straight_through=smooth)
        for smooth in (False, True)
    ]
    plain, smooth = (problem.ask(problem.space.clean) for problem in found)
    torch.testing.assert_close(plain.logits, smooth.logits)
    assert plain.gradient is not None
    assert smooth.gradient is not None
    assert not torch.allclose(plain.gradient, smooth.gradient)


def test_questions_of_a_part_are_counted_in_the_whole() -> None:
    problem = linear_problem(Linear(("a", "b"), (TaskSpec("t", ("no", "yes"), "binary"),)), "l2", {"a": 0.1})
    part = problem.take(torch.tensor([False, True, True, False, False, True]))
    part.ask(part.space.clean)
    last = part.take(torch.tensor([2]))
    last.ask(last.space.clean)
    assert problem.questions.tolist() == [0, 1, 1, 0, 0, 2]
    assert torch.equal(last.space.clean, problem.space.clean[5:])


def test_losses_of_few_classes_by_hand() -> None:
    scores = torch.tensor([[3.0, 1.0, 0.5, -1.0], [0.0, 2.0, 1.0, 4.0]])
    label, goal = torch.tensor([0, 1]), torch.tensor([2, 0])

    def loss(name: Any, classes: int, goals: Tensor | None = None) -> list[float]:
        task = TaskSpec("t", tuple("abcd"[:classes]), "binary" if classes == 2 else "multiclass")
        return list(task_losses(name, task, scores[:, :classes], label, goals).tolist())

    assert loss("margin", 4) == pytest.approx([-2, 2])
    assert loss("dlr", 4) == pytest.approx([-2 / 2.5, 2 / 3])
    assert loss("dlr", 3) == pytest.approx([-2 / 2.5, -1 / 2])
    assert loss("dlr", 2) == loss("margin", 2) == pytest.approx([-2, -2])
    assert loss("dlr", 4, goal) == pytest.approx([-2.5 / (3 + 0.25), -2 / (4 - 0.5)])
    assert loss("dlr", 3, goal) == pytest.approx([-2.5 / 2.5, -2 / 2])
    assert loss("hinge", 4) == pytest.approx([-2, 0])
    unknown = task_losses("ce", TaskSpec("t", tuple("abcd")), scores, torch.tensor([-1, 1]))
    assert unknown[0] == 0
    assert unknown[1] > 0

    several = TaskSpec("m", ("a", "b", "c", "d"), "multilabel")
    truth = torch.tensor([[1.0, 0.0, float("nan"), 0.0], [float("nan")] * 4])
    assert task_losses("margin", several, scores, truth).tolist() == [1.0, 0.0]  # label b is answered wrongly
    ordinal = TaskSpec("o", tuple("abcde"), "ordinal")
    torch.testing.assert_close(class_logits(ordinal, scores).exp()[:1], probabilities(ordinal, scores)[:1])


def test_a_study_is_broken_when_every_attacked_task_is() -> None:
    tasks = {name: TaskSpec(name, ("no", "yes"), "binary") for name in ("s", "t")}
    wrong, right = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    logits = {"s": torch.stack([wrong, right, wrong, wrong]), "t": torch.stack([wrong, wrong, right, wrong])}
    targets = {"s": torch.ones(4).long(), "t": torch.tensor([1, 1, -1, 1])}
    targets["s"][3] = targets["t"][3] = -1
    assert Objective().broken(tasks, logits, targets).tolist() == [True, False, True, False]
    assert Objective(tasks=["t"]).broken(tasks, logits, targets).tolist() == [True, True, False, False]
    goals = {"s": torch.tensor([0, 1, 0, 0])}
    assert Objective(tasks=["s"], goals=goals).broken(tasks, logits, targets).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"draws": 2}, "draws no random numbers"),
        ({"objective": Objective(tasks=["x"])}, "unknown task 'x'"),
        ({"threat": Threat("linf", {"z": 0.1})}, "unknown modality 'z'"),
        ({"threat": Threat("linf", {"a": 1.5})}, "larger than the range"),
        ({"scale": 255.0}, r"images must be in \[0, 1\]"),
        ({"training": True}, "in training mode"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], words: str) -> None:
    given = linear_problem(Linear(("a", "b"), (TaskSpec("t", ("no", "yes"), "binary"),)), "linf", {"a": 0.1})
    inputs = {name: x * change.get("scale", 1.0) for name, x in given.batch.inputs.items()}
    batch = Batch(inputs, given.batch.present, given.batch.targets)
    given.model.train(change.get("training", False))
    with pytest.raises(ValueError, match=words):
        Problem(
            given.model, batch, change.get("threat", given.space.threat), change.get("objective"),
            draws=change.get("draws", 1),
        )  # fmt: skip
