"""HopSkipJump: answers only, towards the closed form of linear networks, inside its budget."""

from __future__ import annotations

import pytest
import torch
from linear_network import Linear, distances, linear_problem
from torch import Tensor

from mailnet.attacks import Objective, Problem, get_attack
from mailnet.attacks.decision import hop_skip_jump
from mailnet.attacks.threat import Norm
from mailnet.specs import TaskSpec

THREE = TaskSpec("finding", ("a", "b", "c"))
TWO = TaskSpec("grade", ("low", "high"), "binary")
STAGE = TaskSpec("stage", ("one", "two", "three"), "ordinal")
SIGNS = TaskSpec("signs", ("x", "y"), "multilabel")


def lengths(problem: Problem, x: Tensor) -> Tensor:
    """(B,) greatest of the modalities' norms, each in its radius."""
    space = problem.space
    return (space.norms(x - space.clean) / space.radius.clamp(min=1e-12)).amax(1)


def seeded(seed: int = 11) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("eps", [{"ct": 1.0}, {"ct": 1.0, "photo": 0.5}], ids=["one", "two"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_questions_come_nearer_to_the_closed_form(norm: Norm, eps: dict[str, float]) -> None:
    model = Linear(tuple(eps), (THREE,))
    scale = 1.0 if norm == "linf" else 2.0
    problem = linear_problem(model, norm, {name: radius * scale for name, radius in eps.items()})
    expected = distances(problem)
    near = expected < 0.9
    assert int(near.sum()) >= 3
    excess = []
    for questions in (60, 400, 4000):
        x = hop_skip_jump(problem, questions=questions, probes=40, early_drop=False, generator=seeded())
        assert bool((lengths(problem, x) <= 1 + 1e-5).all())
        found = lengths(problem, x)[near] / expected[near]
        assert bool((found >= 1 - 1e-3).all())
        excess.append(float(found.mean()) - 1)
    assert bool(problem.ask(x, gradient=False).broken[near].all())
    assert excess[0] > excess[1] > excess[2]
    assert excess[2] < 0.05


def test_no_question_wants_a_gradient_or_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = linear_problem(Linear(("ct",), (THREE,)), "l2", {"ct": 0.3})
    ask = Problem.ask

    def answers(self: Problem, x: Tensor, *, gradient: bool = True) -> object:
        assert not gradient
        return type("Answer", (), {"broken": ask(self, x, gradient=False).broken, "logits": None})()

    before = hop_skip_jump(problem, questions=300, generator=seeded())
    monkeypatch.setattr(Problem, "ask", answers)
    assert torch.equal(hop_skip_jump(problem, questions=300, generator=seeded()), before)


@pytest.mark.parametrize("questions", [1, 2, 10, 57, 300])
def test_the_budget_holds_for_every_study(questions: int) -> None:
    problem = linear_problem(Linear(("ct",), (THREE,)), "linf", {"ct": 1e-3})
    hop_skip_jump(problem, questions=questions, generator=seeded())
    assert int(problem.questions.max()) <= questions
    assert int(problem.questions.max()) > questions - 60


def test_broken_studies_cost_no_further_questions() -> None:
    problem = linear_problem(Linear(("ct",), (THREE,)), "linf", {"ct": 1.0})
    x = hop_skip_jump(problem, questions=1000, generator=seeded())
    assert bool(problem.ask(x, gradient=False).broken.all())
    assert int(problem.questions.max()) < 300


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (TWO, torch.tensor([0, 1, 0, 1, -1, 0])),
        (STAGE, torch.tensor([0, 1, 2, 1, -1, 2])),
        (SIGNS, torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, torch.nan], [torch.nan, torch.nan], [0, 0]])),
    ],
    ids=["binary", "ordinal", "multilabel"],
)
def test_every_kind_of_task(task: TaskSpec, labels: Tensor) -> None:
    """A study without a label, and one misclassified as it is, stay clean; the others are broken in a wide ball."""
    problem = linear_problem(Linear(("ct",), (task,)), "linf", {"ct": 0.6}, targets={task.name: labels})
    before = problem.ask(problem.space.clean, gradient=False).broken
    x = hop_skip_jump(problem, questions=1000, generator=seeded())
    assert torch.equal(x[4], problem.space.clean[4])
    assert torch.equal(x[before], problem.space.clean[before])
    assert problem.ask(x, gradient=False).broken.tolist() == [True, True, True, True, False, True]


def test_two_tasks_and_a_goal() -> None:
    model = Linear(("ct", "photo"), (THREE, TWO))
    both = linear_problem(model, "l2", {"ct": 3.0, "photo": 3.0})
    x = hop_skip_jump(both, questions=500, generator=seeded())
    for name, logits in both.ask(x, gradient=False).logits.items():
        assert bool((logits.argmax(1) != both.batch.targets[name]).all())
    goal = (both.batch.targets["finding"] + 1) % 3
    aimed = both.with_objective(Objective(tasks=["finding"], goals={"finding": goal}))
    x = hop_skip_jump(aimed, questions=500, generator=seeded())
    assert torch.equal(aimed.ask(x, gradient=False).logits["finding"].argmax(1), goal)


def test_absent_modalities_stay_as_they_are() -> None:
    lacks = {
        "ct": torch.tensor([True, False, True, False, False, False]),
        "photo": torch.tensor([True, True, False, False, False, False]),
    }
    problem = linear_problem(Linear(("ct", "photo"), (THREE,)), "l2", {"ct": 1.0, "photo": 0.5}, absent=lacks)
    x = hop_skip_jump(problem, questions=500, generator=seeded())
    for name, part in problem.space.split(x - problem.space.clean).items():
        assert not bool(part[lacks[name]].any())
    # Of the box of the second study less than a thousandth is answered otherwise: a hundred starts rarely meet it.
    assert bool((x != problem.space.clean).any(1)[2:].all())
    assert bool((problem.space.norms(x - problem.space.clean) <= problem.space.radius + 1e-5).all())


def test_a_study_that_no_start_changes_stays_clean() -> None:
    model = Linear(("ct",), (TWO,))
    model.biases["grade"] = torch.tensor([100.0, 0.0])
    problem = linear_problem(model, "linf", {"ct": 0.5})
    x = hop_skip_jump(problem, starts=5, questions=200, generator=seeded())
    assert torch.equal(x, problem.space.clean)
    assert problem.questions.tolist() == [6] * 6


def test_a_generator_repeats() -> None:
    problem = linear_problem(Linear(("ct",), (THREE,)), "linf", {"ct": 0.05})
    first, again, other = (hop_skip_jump(problem, questions=200, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_it_refuses() -> None:
    problem = linear_problem(Linear(("ct",), (THREE,)), "l1", {"ct": 1.0})
    with pytest.raises(ValueError, match="norms linf and l2"):
        get_attack("hop_skip_jump")(problem)
    problem = linear_problem(Linear(("ct",), (THREE,)), "l2", {"ct": 1.0})
    for option in ("questions", "starts", "probes"):
        with pytest.raises(ValueError, match="must be at least 1"):
            get_attack("hop_skip_jump")(problem, **{option: 0})
