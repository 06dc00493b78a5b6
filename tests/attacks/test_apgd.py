"""Auto-PGD: the official code's result on a fixed network, exact answers of linear ones, and what it may not touch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from attacked import Weighted, apart, inside, left_of_broken, oracle, reach, weighted_problem
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem, Threat, get_attack
from mailnet.attacks.ascent import Schedule, _Climb
from mailnet.attacks.threat import Norm
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
ATTACKS = ("apgd_ce", "apgd_dlr", "apgd_t")
CT, PHOTO = ModalitySpec("ct", size=(4, 4)), ModalitySpec("photo", channels=2, size=(3, 5))
GRADE = TaskSpec("grade", ("low", "high"), "binary")
FINDING = TaskSpec("finding", ("a", "b", "c"))
ORGAN = TaskSpec("organ", ("a", "b", "c", "d", "e"))
STAGE = TaskSpec("stage", ("one", "two", "three"), "ordinal")
SIGNS = TaskSpec("signs", ("x", "y", "z"), "multilabel")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ["apgd_ce", "apgd_t"])
def test_as_strong_as_the_official_code(golden_folder: Path, attack: str, norm: Norm) -> None:
    """Of what the official attack breaks, half a percent of the 400 images at most stays correct."""
    broken, left = left_of_broken(golden_folder, attack, norm)
    assert broken > 30
    assert left <= 2


def test_sparse_steps_break_more_than_those_of_a_fixed_share(golden_folder: Path) -> None:
    module = oracle()
    problem = module.problem(module.read(golden_folder / "attack_oracle.npz"), "l1", slice(40))
    left = {}
    for attack in ("apgd_ce", "pgd"):
        x = get_attack(attack)(problem, steps=100, generator=seeded())
        assert inside(problem, x)
        left[attack] = int((~problem.ask(x, gradient=False).broken).sum())
    assert left["apgd_ce"] < left["pgd"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_linear_network_of_two_inputs_is_solved_exactly(attack: str, norm: Norm) -> None:
    model = Weighted((CT, PHOTO), (GRADE,))
    eps = {"ct": 0.03, "photo": 0.08}
    problem = apart(model, "grade", norm, eps, (0.5, 0.9, 0.98, 1.02, 1.2))
    x = get_attack(attack)(problem, generator=seeded())
    asked = problem.ask(x, gradient=False)
    assert asked.broken.tolist() == [True, True, True, False, False]
    assert inside(problem, x)
    # Those that cannot be broken are taken as far as possible.
    best = reach(model, "grade", norm, eps) * (1 - torch.tensor([1.02, 1.2]))
    torch.testing.assert_close(asked.loss[3:], best, rtol=0, atol=0.005 * reach(model, "grade", norm, eps))


class Hill(nn.Module):
    """The second class's logit has its top, below the first's, at a point inside the ball."""

    def __init__(self, top: float) -> None:
        super().__init__()
        self.modalities, self.tasks, self.top = {"ct": CT}, {"grade": GRADE}, top
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        height = -1 - (inputs["ct"].flatten(1) - self.top).square().sum(1)
        return {"grade": torch.stack([torch.zeros_like(height), height], 1)}


def hill(norm: Norm) -> Problem:
    batch = Batch({"ct": torch.full((3, 1, 4, 4), 0.5)}, {"ct": torch.ones(3, dtype=torch.bool)})
    batch.targets["grade"] = torch.zeros(3, dtype=torch.long)
    return Problem(Hill(0.57), batch, Threat(norm, {"ct": {"linf": 0.3, "l2": 0.9, "l1": 2.0}[norm]}))


@pytest.mark.parametrize("norm", NORMS)
def test_steps_get_shorter_until_the_top_is_met(norm: Norm) -> None:
    problem = hill(norm)
    x = get_attack("apgd_ce")(problem, generator=seeded())
    away = (x - 0.57).norm(dim=1)
    assert bool((away < (0.05 if norm == "l1" else 0.01)).all())
    fixed = get_attack("pgd")(problem, steps=100, step=1.0, generator=seeded())
    assert bool((away < 0.2 * (fixed - 0.57).norm(dim=1)).all())


def test_studies_whose_step_is_halved_go_on_from_their_best_point() -> None:
    problem = hill("linf")
    climb = _Climb(problem, problem.objective, Schedule(100), problem.space.random(seeded()), 100)
    climb._look(last=False)
    for number in range(1, 23):
        climb.x, climb.before = climb._next(first=number == 1), climb.x
        climb._look(last=False)
        assert number == 22 or not bool(climb.halved.any())
        if number == 22:
            assert bool((climb.loss < climb.best_loss).any())
        climb._adapt(number)
    assert bool(climb.halved.all())
    assert climb.step.tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(climb.x, climb.best)
    torch.testing.assert_close(problem.ask(climb.x).gradient, climb.gradient)


def test_a_step_takes_three_quarters_of_the_new_direction() -> None:
    problem = hill("linf")
    clean = problem.space.clean
    climb = _Climb(problem, problem.objective, Schedule(100), clean, 100)
    climb._look(last=False)
    climb.step, climb.before = torch.full((3,), 0.1), clean - 0.2 * 0.3
    torch.testing.assert_close(climb._next(first=True), clean + 0.1 * 0.3)
    torch.testing.assert_close(climb._next(first=False), clean + (0.75 * 0.1 + 0.25 * 0.2) * 0.3)


def test_smaller_balls_start_from_the_best_point_of_larger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = weighted_problem(Weighted((CT, PHOTO), (ORGAN,)), "l1", {"ct": 0.0005, "photo": 0.0005})
    points, losses, ask = [], [], Problem.ask

    def watched(self: Problem, x: Tensor, **options: Any) -> Any:
        asked = ask(self, x, **options)
        points.append(x)
        losses.append(asked.loss)
        return asked

    monkeypatch.setattr(Problem, "ask", watched)
    get_attack("apgd_ce")(problem, steps=30, generator=seeded())
    assert len(points) == 1 + 10 + 10 + 13
    lengths = [float((problem.space.norms(x - problem.space.clean) / problem.space.radius).max()) for x in points]
    assert max(lengths[1:11]) > 2
    assert 1.1 < max(lengths[11:21]) <= 2 + 1e-3
    assert max(lengths[21:]) <= 1 + 1e-3
    for first, before in ((11, slice(1, 11)), (21, slice(11, 21))):
        seen = torch.stack(losses[before])
        best = torch.stack(points[before])[seen.argmax(0), torch.arange(6)]
        space = problem.space if first == 21 else problem.enlarged(2.0).space
        torch.testing.assert_close(points[first], space.project(best))


def test_checks_are_the_published_ones() -> None:
    assert Schedule(100).checks() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert Schedule(1).checks()[0] == 1


@pytest.mark.parametrize("task", [GRADE, FINDING, ORGAN, STAGE, SIGNS], ids=lambda task: task.kind + task.name)
@pytest.mark.parametrize("attack", ["apgd", *ATTACKS])
def test_any_kind_of_task_and_number_of_classes(attack: str, task: TaskSpec) -> None:
    model = Weighted((CT, PHOTO), (task,))
    for eps, broken in ((0.3, True), (1e-5, False)):
        problem = weighted_problem(model, "linf", {"ct": eps, "photo": eps})
        x = get_attack(attack)(problem, steps=20, generator=seeded())
        assert inside(problem, x)
        assert bool((problem.ask(x, gradient=False).broken == broken).all())


def test_several_tasks_are_broken_together() -> None:
    model = Weighted((CT, PHOTO), (GRADE, FINDING, STAGE, SIGNS))
    unknown = {"finding": torch.tensor([-1, 0, 1, -1, 2, 0] * 10)}
    problem = weighted_problem(model, "linf", {"ct": 0.1, "photo": 0.1}, studies=60, targets=unknown)
    broken = {}
    for attack in ATTACKS:
        x = get_attack(attack)(problem, steps=50, generator=seeded())
        assert inside(problem, x)
        broken[attack] = int(problem.ask(x, gradient=False).broken.sum())
    # The others' losses rise most by one task going further wrong.
    assert broken["apgd_t"] == 60
    assert 0 < broken["apgd_ce"] < 60


def test_several_tasks_without_a_class_to_aim_at() -> None:
    model = Weighted((CT, PHOTO), (SIGNS, TaskSpec("marks", ("u", "v"), "multilabel")))
    problem = weighted_problem(model, "linf", {"ct": 0.2, "photo": 0.2})
    x = get_attack("apgd_t")(problem, generator=seeded())
    assert bool(problem.ask(x, gradient=False).broken.all())


@pytest.mark.parametrize("attack", ATTACKS)
def test_one_of_several_tasks(attack: str) -> None:
    model = Weighted((CT, PHOTO), (GRADE, FINDING))
    unknown = {"grade": torch.tensor([0, 1, 0, 1, -1, -1])}
    problem = weighted_problem(
        model, "linf", {"ct": 0.3, "photo": 0.3}, targets=unknown, objective=Objective(tasks=["grade"])
    )
    reached = problem.ask(get_attack(attack)(problem, steps=50, generator=seeded()), gradient=False)
    assert reached.broken.tolist() == [True] * 4 + [False] * 2
    assert problem.questions[4:].tolist() == [2, 2]  # of studies without a label one, and one of this test


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_radii_of_their_own_and_absent_modalities(attack: str, norm: Norm) -> None:
    lacks = {"ct": torch.tensor([True, False, True, False, False, False]), "photo": torch.tensor([True] + [False] * 5)}
    eps = {"ct": 0.01, "photo": 0.003}
    problem = weighted_problem(Weighted((CT, PHOTO), (ORGAN,)), norm, eps, absent=lacks)
    x = get_attack(attack)(problem, steps=20, generator=seeded())
    assert inside(problem, x)
    lengths = problem.space.norms(x - problem.space.clean)
    for number, (name, missing) in enumerate(lacks.items()):
        assert not bool(lengths[missing, number].any())
        torch.testing.assert_close(lengths[~missing, number], torch.full_like(lengths[~missing, number], eps[name]))
    assert problem.questions[0] == 1  # of a study without anything to change


def test_columns_of_a_table_stay_in_their_box() -> None:
    clinic = ModalitySpec("clinic", "tabular", channels=4)
    low, high = torch.tensor([0.0, 0.0, 0.3, 0.3]), torch.tensor([1.0, 0.0, 0.7, 0.7])
    model = Weighted((CT, clinic), (GRADE,))
    for norm in NORMS:
        problem = weighted_problem(model, norm, {"clinic": 0.5}, boxes={"clinic": (low, high)})
        clean = problem.space.clean
        x = get_attack("apgd_ce")(problem, steps=20, generator=seeded())
        assert inside(problem, x)
        assert torch.equal(x[:, 1], clean[:, 1])
        assert not torch.equal(x, clean)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_generator_repeats_the_result(attack: str, norm: Norm) -> None:
    problem = weighted_problem(Weighted((CT, PHOTO), (FINDING,)), norm, {"ct": 0.01, "photo": 0.01})
    first, again, other = (get_attack(attack)(problem, steps=1, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_misclassified_studies_come_back_unchanged_at_one_question() -> None:
    model = Weighted((CT,), (FINDING,))
    right = weighted_problem(model, "linf", {"ct": 0.002}).batch.targets["finding"]
    wrong = torch.tensor([True, False, True, False, False, False])
    problem = weighted_problem(model, "linf", {"ct": 0.002}, targets={"finding": (right + wrong) % 3})
    x = get_attack("apgd_t")(problem, steps=5, restarts=2, generator=seeded())
    assert torch.equal(x[wrong], problem.space.clean[wrong])
    # One of the clean study; then two starts towards each of two classes, of one question more than steps.
    assert problem.questions.tolist() == [1, 25, 1, 25, 25, 25]


def test_broken_studies_cost_no_further_questions() -> None:
    model = Weighted((CT,), (ORGAN,))
    problem = weighted_problem(model, "l2", {"ct": 2.0})
    get_attack("apgd_t")(problem, restarts=5, generator=seeded())
    assert int(problem.questions.max()) < 10


@pytest.mark.parametrize("norm", NORMS)
def test_the_best_point_is_returned(monkeypatch: pytest.MonkeyPatch, norm: Norm) -> None:
    problem = hill(norm)
    losses, ask = [], Problem.ask

    def watched(self: Problem, x: Tensor, **options: Any) -> Any:
        asked = ask(self, x, **options)
        if len(losses) and inside(problem, x):  # not the clean study; in l1 it also looks further away
            losses.append(asked.loss)
        return asked

    monkeypatch.setattr(Problem, "ask", watched)
    losses.append(torch.full((3,), -torch.inf))
    x = get_attack("apgd_ce")(problem, steps=7, restarts=3, generator=seeded())
    best = torch.stack(losses[2:]).amax(0)
    assert bool((best > losses[-1]).any())
    torch.testing.assert_close(ask(problem, x).loss, best)


@pytest.mark.parametrize("attack", ["apgd", "apgd_t"])
def test_goals(attack: str) -> None:
    free = weighted_problem(Weighted((CT,), (ORGAN,)), "linf", {"ct": 0.4})
    goal = (free.batch.targets["organ"] + 2) % 5
    problem = free.with_objective(Objective("dlr", goals={"organ": goal}))
    x = get_attack(attack)(problem, generator=seeded())
    assert torch.equal(problem.ask(x, gradient=False).logits["organ"].argmax(1), goal)


def test_random_networks_are_decided_by_the_mean_of_draws() -> None:
    specs = {"ct": ModalitySpec("ct", size=(28, 28)), "clinic": ModalitySpec("clinic", "tabular", channels=3)}
    torch.manual_seed(0)
    model = create_model("robust_mail", specs, {"t": 3}, width="nano").eval()
    batch = Batch({"ct": torch.rand(3, 1, 28, 28, generator=seeded()), "clinic": torch.zeros(3, 3)},
                  {"ct": torch.ones(3, dtype=torch.bool), "clinic": torch.ones(3, dtype=torch.bool)},
                  {"t": torch.tensor([0, 1, 2])})  # fmt: skip

    def attacked(draws: int) -> tuple[Problem, Tensor]:
        threat = Threat("linf", {"ct": 0.05})
        problem = Problem(model, batch, threat, draws=draws, generator=seeded(1))
        return problem, get_attack("apgd_ce")(problem, steps=3, generator=seeded())

    problem, x = attacked(2)
    assert torch.equal(x, attacked(2)[1])
    assert inside(problem, x)
    once, _ = attacked(1)
    assert bool((problem.questions % 2 == 0).all())
    assert problem.questions.max() == 2 * once.questions.max()


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        ("apgd", {"steps": 0}, "steps must be at least 1"),
        ("apgd_ce", {"restarts": 0}, "restarts must be at least 1"),
        ("apgd_dlr", {"rho": 1.5}, r"rho must be in \[0, 1\]"),
        ("apgd", {"momentum": 0.0}, "momentum in"),
        ("apgd_t", {"targets": 0}, "targets must be at least 1"),
    ],
)
def test_what_is_refused(attack: str, options: dict[str, Any], message: str) -> None:
    problem = weighted_problem(Weighted((CT,), (FINDING,)), "linf", {"ct": 0.1})
    with pytest.raises(ValueError, match=message):
        get_attack(attack)(problem, **options)
