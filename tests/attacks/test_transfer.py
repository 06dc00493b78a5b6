"""Points made on other networks: they carry over where networks are alike; the attacked one gives no gradient."""

from __future__ import annotations

import pytest
import torch
from linear_network import Linear, linear_problem
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem
from mailnet.attacks.momentum import mim
from mailnet.attacks.threat import Norm
from mailnet.attacks.transfer import transfer
from mailnet.specs import TaskSpec

THREE = TaskSpec("finding", ("a", "b", "c"))
TWO = TaskSpec("grade", ("low", "high"), "binary")
STAGE = TaskSpec("stage", ("one", "two", "three"), "ordinal")
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


def alike(model: Linear, noise: float, seed: int = 5) -> Linear:
    """A network whose weights differ a little."""
    other = Linear(tuple(model.modalities), tuple(model.tasks.values()))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.weights.items():
        other.weights[name] = weight + noise * torch.randn(weight.shape, generator=generator)
    return other


def opposite(model: Linear) -> Linear:
    """A network that climbs where the other descends."""
    other = Linear(tuple(model.modalities), tuple(model.tasks.values()))
    other.weights = {name: -weight for name, weight in model.weights.items()}
    return other


@pytest.mark.parametrize("tasks", [(THREE,), (TWO,), (STAGE,)], ids=["three", "two", "ordinal"])
@pytest.mark.parametrize("norm", NORMS)
def test_points_of_a_like_network_break_most_studies(norm: Norm, tasks: tuple[TaskSpec, ...]) -> None:
    model = Linear(("ct",), tasks)
    eps = {"linf": 0.3, "l2": 0.6, "l1": 1.0}[norm]
    labels = {"stage": torch.arange(20) % 3} if tasks == (STAGE,) else None
    problem = linear_problem(model, norm, {"ct": eps}, studies=20, targets=labels)
    white = int(problem.ask(mim(problem), gradient=False).broken.sum())
    x = transfer(problem, [alike(model, 0.1)], diversity=0.0)
    assert bool((problem.space.norms(x - problem.space.clean) <= eps * (1 + 1e-5)).all())
    assert white >= 5
    assert int(problem.ask(x, gradient=False).broken.sum()) >= 0.8 * white


def test_the_attacked_network_gives_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Linear(("ct",), (THREE,))
    problem = linear_problem(model, "linf", {"ct": 0.02})
    ask = Problem.ask

    def checked(self: Problem, x: Tensor, *, gradient: bool = True, **rest: object) -> object:
        assert not (gradient and self.model is model)
        return ask(self, x, gradient=gradient, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Problem, "ask", checked)
    transfer(problem, [alike(model, 0.5, seed) for seed in range(3)])
    # The clean study, the ensemble's point, and one of each source.
    assert int(problem.questions.max()) <= 5


def test_the_first_point_that_breaks_a_study_is_returned() -> None:
    """A useless first source does not hide what the second finds; what is broken already is not made again."""
    model = Linear(("ct",), (THREE,))
    problem = linear_problem(model, "linf", {"ct": 0.3}, studies=20)
    like, useless = alike(model, 0.0), opposite(model)
    alone = problem.ask(transfer(problem, [like], diversity=0.0), gradient=False).broken
    assert bool(alone.any())
    assert not bool(problem.ask(transfer(problem, [useless], diversity=0.0), gradient=False).broken.all())
    both = problem.ask(transfer(problem, [useless, like], diversity=0.0), gradient=False).broken
    assert bool((both | ~alone).all())


def test_sources_together_are_attacked_by_their_mean_loss() -> None:
    """Two networks whose errors cancel are together the attacked network: their gradient is its own."""
    model = Linear(("ct",), (TWO,))
    plus, minus = Linear(("ct",), (TWO,)), Linear(("ct",), (TWO,))
    error = 3 * torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    plus.weights["grade"] = model.weights["grade"] + error
    minus.weights["grade"] = model.weights["grade"] - error
    problem = linear_problem(model, "linf", {"ct": 0.1}, studies=8, objective=Objective("margin"))
    x = transfer(problem, [plus, minus], diversity=0.0, steps=5)
    expected = mim(problem, steps=5, early_drop=False)
    together = (x - expected).abs().amax(1) < 1e-6
    # Studies that the ensemble's point does not break try the sources alone, and keep the larger loss: its own.
    assert bool(together.all())


def test_absent_modalities_and_misclassified_studies_stay_as_they_are() -> None:
    lacks = {
        "ct": torch.tensor([True, False, True, False, False, False]),
        "photo": torch.tensor([True, True, False, False, False, False]),
    }
    model = Linear(("ct", "photo"), (THREE,))
    problem = linear_problem(model, "l2", {"ct": 1.0, "photo": 0.5}, absent=lacks)
    problem.batch.targets["finding"][5] = (problem.batch.targets["finding"][5] + 1) % 3
    x = transfer(problem, [alike(model, 0.1)])
    for name, part in problem.space.split(x - problem.space.clean).items():
        assert not bool(part[lacks[name]].any())
    assert torch.equal(x[5], problem.space.clean[5])
    assert bool((x != problem.space.clean).any(1)[1:5].all())


def test_a_generator_repeats() -> None:
    model = Linear(("ct",), (THREE,))
    problem = linear_problem(model, "linf", {"ct": 0.05})
    source = [alike(model, 0.3)]
    first, again = (transfer(problem, source, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)


def test_what_it_refuses() -> None:
    model = Linear(("ct",), (THREE,))
    problem = linear_problem(model, "linf", {"ct": 0.1})
    sources: list[tuple[list[nn.Module], str]] = [
        ([], "sources is empty"),
        ([Linear(("ct", "photo"), (THREE,))], "source 0 has the modalities ct, photo"),
        ([alike(model, 0.1), Linear(("ct",), (TWO,))], "source 1 has tasks grade"),
        ([alike(model, 0.1).train()], "training mode"),
    ]
    for given, message in sources:
        with pytest.raises(ValueError, match=message):
            transfer(problem, given)
    with pytest.raises(ValueError, match="by 'pgd' is not one of mim"):
        transfer(problem, [alike(model, 0.1)], by="pgd")  # type: ignore[arg-type]
