"""FAB against closed forms on linear networks, general solvers, and the official code's result on a fixed network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from attacked import left_of_broken
from linear_network import Linear, distances, linear_problem, shortest
from torch import Tensor

from mailnet.attacks import Objective, Problem, Threat, get_attack
from mailnet.attacks.fab import fab, fab_t
from mailnet.attacks.fab_projection import beyond_all, dual_norms, nearest
from mailnet.attacks.threat import Norm, part_norms
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource
from mailnet.specs import TaskSpec

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
THREE = TaskSpec("finding", ("a", "b", "c"))
TWO = TaskSpec("grade", ("low", "high"), "binary")
STAGE = TaskSpec("stage", ("one", "two", "three"), "ordinal")
SIGNS = TaskSpec("signs", ("x", "y", "z"), "multilabel")


def lengths(problem: Problem, x: Tensor) -> Tensor:
    """(B,) greatest of the modalities' norms, each in its radius."""
    space = problem.space
    return (space.norms(x - space.clean) / space.radius.clamp(min=1e-12)).amax(1)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_without_a_box_is_the_closed_form(norm: Norm) -> None:
    normal, offset = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, -2, 3, -4, 0])
    wide = torch.full_like(normal, 100.0)
    step = nearest(normal, offset, -wide, wide, [7], norm)
    assert torch.allclose((normal * step).sum(1), offset, atol=1e-4)
    order, dual = {"linf": (torch.inf, 1), "l2": (2, 2), "l1": (1, torch.inf)}[norm]
    assert torch.allclose(step.norm(order, 1), offset.abs() / normal.norm(dual, 1), rtol=1e-5)
    assert torch.allclose(dual_norms(normal, [7], norm), normal.norm(dual, 1))


@pytest.mark.parametrize("sizes", [[6], [2, 4]])
@pytest.mark.parametrize("norm", NORMS)
def test_projection_in_a_box_is_what_a_general_solver_finds(norm: Norm, sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(10, 6, generator=generator)
    low, high = -torch.rand(10, 6, generator=generator), torch.rand(10, 6, generator=generator)
    reach = torch.where(normal > 0, normal * high, normal * low).sum(1)
    offset = reach * torch.linspace(0.1, 0.98, 10)
    step = nearest(normal, offset, low, high, sizes, norm)
    assert bool(((step >= low) & (step <= high)).all())
    assert torch.allclose((normal * step).sum(1), offset, rtol=1e-4)
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    found = torch.stack([part.norm(order, 1) for part in torch.split(step, sizes, 1)]).amax(0)
    cases = zip(normal, offset, low, high, strict=True)
    expected = [shortest(n[None], o[None], a, b, sizes, norm) for n, o, a, b in cases]
    assert torch.allclose(found, torch.tensor(expected), rtol=3e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_a_plane_out_of_reach_gives_the_nearest_corner(norm: Norm) -> None:
    normal = torch.tensor([[1.0, -2.0, 0.0], [1e-30, 1e-30, 0.0], [0.0, 0.0, 0.0]])
    high = torch.tensor([[0.5, 0.25, 1.0]]).expand(3, 3)
    step = nearest(normal, torch.full((3,), 10.0), -high, high, [2, 1], norm)
    assert torch.allclose(step, torch.tensor([[0.5, -0.25, 0.0], [0.5, 0.25, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("near_edge", [False, True])
@pytest.mark.parametrize("eps", [{"ct": 2.0}, {"ct": 1.0, "photo": 0.3}], ids=["one", "two"])
@pytest.mark.parametrize("norm", NORMS)
def test_distance_to_a_linear_networks_boundary(norm: Norm, eps: dict[str, float], near_edge: bool) -> None:
    """With radii that differ, the length is the greatest of the modalities' norms in radii.

    A point overshoots by ``eta``; where the box holds some of its values, drawing it back takes not all of that away.
    """
    model = Linear(tuple(eps), (THREE,))
    scale = 1.0 if norm == "linf" else 4.0
    radii = {name: min(radius, 1.0) * scale for name, radius in eps.items()}
    problem = linear_problem(model, norm, radii, near_edge=near_edge)
    expected = distances(problem)
    assert bool((expected < 0.95).any())
    for attack in (fab, fab_t):
        for eta in (1.05, 1.001):
            x = attack(problem, steps=30, eta=eta, early_drop=False)
            broken = problem.ask(x, gradient=False).broken
            assert bool(broken[expected < 0.95].all())
            assert not bool(broken[expected > 1.001].any())
            ratio = (lengths(problem, x) / expected)[broken]
            assert bool((ratio >= 1 - 1e-3).all())
            assert bool((ratio <= eta + 1e-3).all())
            assert bool((lengths(problem, x) <= 1 + 1e-5).all())


def test_several_inputs_use_each_ball_to_its_edge() -> None:
    """The ball of both inputs' norm together is a part of the product of their balls; a study outside it is found."""
    model = Linear(("ct", "photo"), (TWO,))
    model.weights["grade"] = torch.tensor([[0.0] * 8, [1.0] * 8])
    model.biases["grade"] = torch.tensor([0.0, -4.0 - 1.9])  # at 0.5 everywhere a way of 1.9 is left
    inputs = {name: torch.full((1, 1, 2, 2), 0.5) for name in model.modalities}
    present = {name: torch.ones(1, dtype=torch.bool) for name in model.modalities}
    batch = Batch(inputs, present, {"grade": torch.zeros(1, dtype=torch.long)})
    problem = Problem(model, batch, Threat("l2", {"ct": 0.49, "photo": 0.49}))
    x = fab(problem, steps=20)
    assert bool(problem.ask(x, gradient=False).broken)
    assert float((x - problem.space.clean).norm()) > 0.6
    assert bool((problem.space.norms(x - problem.space.clean) <= 0.49 + 1e-6).all())


@pytest.mark.parametrize("attack", ["fab", "fab_t"])
@pytest.mark.parametrize("norm", NORMS)
def test_two_tasks_are_broken_together_wherever_they_can_be(norm: Norm, attack: str) -> None:
    model = Linear(("ct", "photo"), (THREE, TWO))
    eps = {"linf": (0.2, 0.05), "l2": (0.4, 0.03), "l1": (0.6, 0.1)}[norm]
    problem = linear_problem(model, norm, dict(zip(model.modalities, eps, strict=True)), studies=12)
    expected = distances(problem)
    assert bool((expected > 1).any())
    assert bool((expected < 0.95).any())
    for early_drop in (True, False):
        x = get_attack(attack)(problem, steps=15, early_drop=early_drop)
        asked = problem.ask(x, gradient=False)
        assert bool(asked.broken[expected < 0.95].all())
        assert not bool(asked.broken[expected > 1.001].any())
        for name, logits in asked.logits.items():
            assert bool((logits.argmax(1) != problem.batch.targets[name])[asked.broken].all())
        assert bool((lengths(problem, x) <= 1 + 1e-5).all())
    ratio = (lengths(problem, x) / expected)[asked.broken]
    assert bool(((ratio >= 1 - 1e-3) & (ratio <= 1.05 + 1e-3)).all())


@pytest.mark.parametrize("norm", NORMS)
def test_beyond_two_planes_in_a_box_is_what_a_general_solver_finds(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    normals = torch.randn(8, 2, 6, generator=generator)
    low, high = -torch.rand(8, 6, generator=generator), torch.rand(8, 6, generator=generator)
    inside = low + (high - low) * torch.rand(8, 6, generator=generator)
    offsets = (normals * inside[:, None]).sum(2) + 0.1  # beyond one plane, both or none
    offsets[0] = -offsets[0].abs()
    step = beyond_all(normals, offsets, low, high, [2, 4], norm)
    cases = zip(normals[1:], offsets[1:], low[1:], high[1:], strict=True)
    expected = torch.tensor([shortest(n, o, a, b, [2, 4], norm) for n, o, a, b in cases])
    reached = expected.isfinite() & (expected > 0)  # where both planes lie behind, the step leads back, as below
    assert int(reached.sum()) >= 5
    found = part_norms(step[1:], [2, 4], norm).amax(1)
    assert torch.allclose(found[reached], expected[reached], rtol=1e-2)
    left = (offsets - (normals * step[:, None]).sum(2))[1:][reached]
    assert bool((left <= 1e-2 * offsets[1:][reached].abs() + 1e-4).all())
    # Where both lie behind, the step leads back to the nearer one.
    back = (offsets[0] - (normals[0] * step[0]).sum(1)).abs()
    assert float(back.min()) < 1e-4


@pytest.mark.parametrize("attack", ["fab", "fab_t"])
@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (TWO, torch.tensor([0, 1, 0, 1, -1, 0])),
        (STAGE, torch.tensor([0, 1, 2, 1, -1, 2])),
        (SIGNS, torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, torch.nan], [torch.nan] * 3, [0, 1, 1]])),
    ],
    ids=["binary", "ordinal", "multilabel"],
)
def test_every_kind_of_task(attack: str, task: TaskSpec, labels: Tensor) -> None:
    """A study without a label, and one misclassified as it is, stay clean; the others are broken in a wide ball."""
    problem = linear_problem(Linear(("ct",), (task,)), "linf", {"ct": 1.0}, targets={task.name: labels})
    before = problem.ask(problem.space.clean, gradient=False).broken
    x = get_attack(attack)(problem, steps=30)
    asked = problem.ask(x, gradient=False)
    assert torch.equal(x[4], problem.space.clean[4])
    assert torch.equal(x[before], problem.space.clean[before])
    assert int((~before).sum()) >= 2
    assert asked.broken.tolist() == [True, True, True, True, False, True]


def test_a_goal_is_reached_in_the_least_distance() -> None:
    model = Linear(("ct",), (THREE,))
    free = linear_problem(model, "l2", {"ct": 4.0})
    label = free.batch.targets["finding"]
    goal = (label + 1) % 3
    problem = free.with_objective(Objective(goals={"finding": goal}))
    for attack in (fab, fab_t):
        x = attack(problem, steps=50, early_drop=False)
        reached = problem.ask(x, gradient=False)
        assert torch.equal(reached.logits["finding"].argmax(1)[reached.broken], goal[reached.broken])
        assert bool(reached.broken.any())
        # The goal has to beat the label: no nearer than the plane between the two.
        weight = model.weights["finding"]
        way = free.ask(free.space.clean, gradient=False).logits["finding"]
        margin = (way.gather(1, label[:, None]) - way.gather(1, goal[:, None]))[:, 0]
        plane = margin / (weight[label] - weight[goal]).norm(dim=1)
        assert bool((lengths(problem, x) * 4.0 >= plane - 1e-4)[reached.broken].all())


@pytest.mark.parametrize("attack", ["fab", "fab_t"])
def test_absent_modalities_stay_as_they_are(attack: str) -> None:
    lacks = {
        "ct": torch.tensor([True, False, True, False, False, False]),
        "photo": torch.tensor([True, True, False, False, False, False]),
    }
    model = Linear(("ct", "photo"), (THREE,))
    problem = linear_problem(model, "l2", {"ct": 3.0, "photo": 3.0}, absent=lacks)
    x = get_attack(attack)(problem, steps=20)
    changed = {name: part.flatten(1).any(1) for name, part in problem.space.split(x - problem.space.clean).items()}
    for name, part in changed.items():
        assert not bool(part[lacks[name]].any())
    assert problem.ask(x, gradient=False).broken[1:].all()


def test_a_generator_repeats_and_restarts_differ() -> None:
    model = Linear(("ct",), (THREE,))
    # Balls that are too small, so that every restart is made.
    problem = linear_problem(model, "linf", {"ct": 0.01})

    def run(seed: int, restarts: int) -> Tensor:
        return fab(problem, steps=3, restarts=restarts, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(run(0, 3), run(0, 3))
    before = problem.questions.clone()
    run(0, 1)
    once = problem.questions - before
    run(0, 3)
    assert bool((problem.questions - before - once > 2 * once - 5).all())


class Shaken(Linear):
    """Adds fresh noise to the images at every pass."""

    def __init__(self) -> None:
        super().__init__(("ct",), (THREE,))
        self.noise = NoiseSource("sample")

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        x = inputs["ct"]
        return super().forward({"ct": x + self.noise.draw("spatial_noise", x.shape, 0.05, x)}, present)


@pytest.mark.parametrize("attack", ["fab", "fab_t"])
def test_a_random_network_is_walked_along_by_the_mean_of_its_draws(attack: str) -> None:
    still = linear_problem(Linear(("ct",), (THREE,)), "l2", {"ct": 2.0})

    def run() -> tuple[Problem, Tensor]:
        draws = torch.Generator().manual_seed(0)
        problem = Problem(Shaken(), still.batch, still.space.threat, draws=8, generator=draws)
        return problem, get_attack(attack)(problem, steps=20, early_drop=False)

    problem, x = run()
    assert torch.equal(x, run()[1])
    assert bool((problem.questions % 8 == 0).all())
    exact = lengths(still, get_attack(attack)(still, steps=20, early_drop=False))
    inside = ~problem.ask(problem.space.clean, gradient=False).broken
    assert int(inside.sum()) >= 4
    assert torch.allclose(lengths(problem, x)[inside], exact[inside], rtol=0.5, atol=0.02)


def test_broken_studies_cost_no_further_questions() -> None:
    problem = linear_problem(Linear(("ct",), (THREE,)), "linf", {"ct": 1.0})
    fab_t(problem, steps=50)
    early = problem.questions.clone()
    fab_t(problem, steps=50, early_drop=False)
    assert bool((problem.questions - early > 10 * early).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"targets": 0}, "targets must be at least 1"),
        ({"alpha_max": 1.5}, "alpha_max must be 0 to 1"),
        ({"eta": 0.9}, "eta at least 1"),
        ({"beta": 1.0}, "beta between 0 and 1"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    problem = linear_problem(Linear(("ct",), (THREE,)), "linf", {"ct": 1.0})
    with pytest.raises(ValueError, match=message):
        get_attack("fab_t", **options)(problem, **options)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_as_strong_as_the_official_code(golden_folder: Path, norm: Norm) -> None:
    """Of 400 images no more stay correct than under the official FAB-T of 100 steps and 7 targets, by 1% at most.

    Those that the official code leaves correct count as left here too, so the others are all that need attacking.
    """
    count, left = left_of_broken(golden_folder, "fab_t", norm)
    assert count >= 39
    assert left <= 4
