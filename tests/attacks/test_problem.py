"""The gradient of an attack's problem with several tasks, what is refused, and how often the network was asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_network import BOX, CLINIC, CT, PET, PHOTO, SIGNS, STAGE, THREE, TWO, Small, small_problem, studies
from torch import Tensor

from mailnet.attacks import Objective, Problem, Threat
from mailnet.attacks.objective import task_losses
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.specs import TaskSpec

EPS = {"ct": 0.1, "photo": 0.2, "clinic": 0.3}
TASKS = (THREE, TWO, STAGE, SIGNS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_studies_that_an_attack_can_still_gain() -> None:
    absent = {"ct": torch.tensor([False, True, False, False, False, False])}
    model = Small((CT, PHOTO), (THREE, TWO))
    batch = studies(model, absent=absent)
    batch.targets["finding"][2:4] = -1
    batch.targets["grade"][3] = -1  # no label at all
    batch.targets["finding"][4] = (batch.targets["finding"][4] + 1) % 3  # one of two tasks is wrong
    batch.targets["finding"][5] = (batch.targets["finding"][5] + 1) % 3
    batch.targets["grade"][5] = 1 - batch.targets["grade"][5]
    problem = small_problem(model, "linf", {"ct": 0.1}, batch=batch)
    assert problem.standing(problem.ask(problem.space.clean)).tolist() == [True, False, True, False, True, False]


def test_gradient_is_that_of_the_tasks_losses() -> None:
    model = Small((CT, PHOTO, PET, CLINIC), TASKS, hidden=8)
    batch = studies(model, absent={"photo": torch.tensor([False, True, False, False, True, False])})
    batch.targets["finding"][2] = -1
    problem = small_problem(model, "linf", EPS, Objective("margin"), batch)
    x = problem.space.random(seeded())
    asked = problem.ask(x)
    inputs = {name: part.clone().requires_grad_() for name, part in problem.space.split(x).items()}
    logits = model({**batch.inputs, **inputs})  # the volume is not attacked, and stays as it is
    losses = torch.stack([task_losses("margin", task, logits[task.name], batch.targets[task.name]) for task in TASKS])
    gradients = torch.autograd.grad(losses.sum(), list(inputs.values()))
    assert asked.gradient is not None
    torch.testing.assert_close(asked.gradient, torch.cat([part.flatten(1) for part in gradients], 1))
    torch.testing.assert_close(asked.loss, losses.sum(0).detach())
    for name, value in asked.logits.items():
        torch.testing.assert_close(value, logits[name].detach())
    assert torch.equal(asked.broken, problem.objective.broken(problem.tasks, logits, batch.targets))
    assert problem.ask(x, gradient=False).gradient is None


def test_slopes_are_the_gradients_of_each_function() -> None:
    model = Small((CT, PHOTO), (THREE, TWO))
    problem = small_problem(model, "l2", {"photo": 0.1, "ct": 0.2})
    values, slopes = problem.slopes(problem.space.clean, lambda logits: logits["finding"])
    torch.testing.assert_close(values, model(problem.batch.inputs)["finding"])
    weight = model.weights["finding"]
    expected = torch.cat([weight[:, 9:], weight[:, :9]], 1)  # in the order of the threat
    torch.testing.assert_close(slopes, expected.expand(6, -1, -1))


def test_transforms_reach_the_network_and_the_gradient() -> None:
    model = Small((CT, PHOTO), (TWO,), hidden=5)
    problem = small_problem(model, "l2", {"ct": 0.1})
    x = problem.space.random(seeded())
    seen: list[set[str]] = []

    def double(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(set(inputs))
        return {name: 2 * part for name, part in inputs.items()}

    changed, at = problem.ask(x, transform=double), problem.ask(2 * x)
    assert changed.gradient is not None
    assert at.gradient is not None
    assert seen == [{"ct"}]
    torch.testing.assert_close(changed.gradient, 2 * at.gradient)
    torch.testing.assert_close(changed.loss, at.loss)


def test_some_studies_are_a_problem_of_their_own() -> None:
    model = Small((CT, CLINIC), (THREE, SIGNS), hidden=6)
    goals = {"finding": torch.tensor([0, 1, 2, 0, 1, 2])}
    absent = {"ct": torch.tensor([False, False, True, False, False, False])}
    problem = small_problem(
        model, "l2", {"ct": 0.1, "clinic": 0.5}, Objective(goals=goals), studies(model, absent=absent)
    )
    x = problem.space.random(seeded())
    whole = problem.ask(x)
    assert whole.gradient is not None
    rows = torch.tensor([5, 2, 0])
    part = problem.take(rows)
    assert len(part) == 3
    asked = part.ask(x[rows])
    assert asked.gradient is not None
    torch.testing.assert_close(asked.loss, whole.loss[rows])
    torch.testing.assert_close(asked.gradient, whole.gradient[rows])
    assert problem.questions.tolist() == [2, 1, 2, 1, 1, 2]
    again = part.take(torch.tensor([False, False, True]))
    again.ask(x[:1], gradient=False)
    assert problem.questions.tolist() == [3, 1, 2, 1, 1, 2]
    problem.take(torch.tensor([1, 1])).ask(x[[1, 1]])
    assert problem.questions.tolist() == [3, 3, 2, 1, 1, 2]
    problem.slopes(x, lambda logits: logits["finding"])
    assert problem.questions.tolist() == [4, 4, 3, 2, 2, 3]


def test_other_objectives_and_radii() -> None:
    problem = small_problem(Small((CT,), (THREE, TWO)), "linf", {"ct": 0.1})
    wanted = problem.with_objective(Objective("margin", ["grade"]))
    x = problem.space.clean
    margins = task_losses("margin", TWO, wanted.ask(x).logits["grade"], problem.batch.targets["grade"])
    torch.testing.assert_close(wanted.ask(x).loss, margins)
    assert problem.objective.loss == "ce"
    with pytest.raises(ValueError, match="unknown task"):
        problem.with_objective(Objective(tasks=["stage"]))
    assert torch.equal(problem.enlarged(3).space.radius, 3 * problem.space.radius)


def test_problems_that_do_not_fit() -> None:
    model = Small((CT, CLINIC), (THREE,))
    batch = studies(model)
    ct, both = Threat("linf", {"ct": 0.1}), Threat("linf", {"ct": 0.1, "clinic": 0.1}, {"clinic": BOX})

    def changed(**inputs: Tensor) -> Batch:
        return replace(batch, inputs={**batch.inputs, **inputs})

    with pytest.raises(ValueError, match=r"training mode; put it into evaluation mode"):
        Problem(Small((CT, CLINIC), (THREE,)).train(), batch, ct)
    with pytest.raises(ValueError, match="unknown modality 'mri'"):
        Problem(model, batch, Threat("linf", {"mri": 0.1}))
    with pytest.raises(ValueError, match="unknown task 'stage'"):
        Problem(model, batch, ct, Objective(tasks=["stage"]))
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        Problem(model, batch, ct, draws=0)
    for options in ({"draws": 2}, {"noise": "frozen"}):
        with pytest.raises(ValueError, match="Small draws no random numbers"):
            Problem(model, batch, ct, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"from -1 to 254; images must be in \[0, 1\]"):
        Problem(model, changed(ct=torch.linspace(-1, 254, 54).view(6, 1, 3, 3)), ct)
    with pytest.raises(ValueError, match="'ct' has values"):
        Problem(model, changed(ct=torch.full((6, 1, 3, 3), torch.nan)), ct)
    outside = batch.inputs["clinic"].clone()
    outside[:, 3] = 99.0  # of a column that stays
    Problem(model, changed(clinic=outside), both)
    outside[2, 1] = 1.5
    with pytest.raises(ValueError, match="'clinic' has values outside its box in column 1"):
        Problem(model, changed(clinic=outside), both)
    Problem(model, changed(clinic=outside), ct)  # not attacked
    without = Batch({"clinic": batch.inputs["clinic"]}, batch.present, batch.targets)
    with pytest.raises(ValueError, match="no study of the batch has what is attacked: ct"):
        Problem(model, without, ct)


def test_absent_studies_are_not_looked_at() -> None:
    model = Small((CT, CLINIC), (THREE,))
    batch = studies(model, absent={"ct": torch.tensor([True] + [False] * 5)})
    batch.inputs["ct"][0] = 7.0
    problem = small_problem(model, "linf", {"ct": 0.1}, batch=batch)
    assert problem.space.radius[:, 0].tolist() == pytest.approx([0.0] + [0.1] * 5)


def test_mail_of_our_own_is_a_problem() -> None:
    """The networks that users train: two modalities, one lacking, two tasks."""
    model = create_model(
        "mail", {"ct": CT, "photo": PHOTO}, {"a": 2, "b": TaskSpec("b", ("u", "v", "w"), "ordinal")}
    ).eval()
    here = torch.tensor([True, True, False])
    batch = Batch(
        {"ct": torch.rand(3, 1, 32, 32), "photo": torch.rand(3, 2, 32, 32) * here.view(-1, 1, 1, 1)},
        {"ct": torch.ones(3, dtype=torch.bool), "photo": here},
        {"a": torch.tensor([0, 1, 0]), "b": torch.tensor([0, 1, 2])},
    )
    problem = Problem(model, batch, Threat("linf", {"photo": 0.1, "ct": 0.05}))
    gradient = problem.ask(problem.space.clean).gradient
    assert gradient is not None
    parts = problem.space.split(gradient)
    assert bool(parts["ct"].flatten(1).any(1).all())
    assert parts["photo"].flatten(1).any(1).tolist() == [True, True, False]
