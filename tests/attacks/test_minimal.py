"""Smallest changes: the distance to the boundary of linear networks, and what other attacks find on the oracle's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import (
    CLINIC,
    CT,
    PET,
    PHOTO,
    SIGNS,
    STAGE,
    THREE,
    TWO,
    Small,
    assert_allowed,
    oracle_problem,
    small_problem,
    standing,
    studies,
)
from torch import Tensor

from mailnet.attacks import Objective, Problem, get_attack
from mailnet.attacks.minimal import cw, deepfool, sizes
from mailnet.attacks.threat import Norm

ATTACKS: dict[str, Callable[..., Tensor]] = {"deepfool": deepfool, "cw": cw}
NORMS = [("deepfool", "linf"), ("deepfool", "l2"), ("cw", "l2")]
DUAL: dict[Norm, float] = {"linf": 1.0, "l2": 2.0}
NARROW = {"ct": 0.05, "photo": 0.1}  # radii in the ratio in which the modalities may change


def wide(eps: dict[str, float], norm: Norm) -> dict[str, float]:
    """Radii so large that nothing is drawn back, in the same ratio."""
    return {name: (8 if norm == "linf" else 80) * radius for name, radius in eps.items()}


def distances(problem: Problem, task: str) -> Tensor:
    """(B,) by how much a linear network's balls must grow to reach the nearest other class, boxes aside."""
    model, space = problem.model, problem.space
    assert isinstance(model, Small)
    blocks = dict(zip(model.columns, torch.split(model.weights[task], list(model.columns.values()), 1), strict=True))
    weight, label = torch.cat([blocks[name] for name in space.names], 1), problem.batch.targets[task]
    logits = model(problem.batch.inputs)[task]
    found = []
    for other in range(len(weight)):
        way = (weight[other] - weight[label]) * space.free
        parts = torch.split(way, space.sizes, 1)
        dual = torch.stack([part.norm(DUAL[space.threat.norm], dim=1) for part in parts], 1)
        gap = logits.gather(1, label[:, None])[:, 0] - logits[:, other]
        found.append(torch.where(label == other, torch.inf, gap / (dual * space.radius).sum(1)))
    return torch.stack(found).amin(0)


@pytest.mark.parametrize("task", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("eps", [{"ct": 0.05}, NARROW], ids=["one", "several"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_finds_the_distance_to_the_boundary(norm: Norm, eps: dict[str, float], task: Any) -> None:
    model = Small((CT, PHOTO), (task,), seed=0)
    absent = {"photo": torch.arange(30) % 3 == 0}
    problem = small_problem(model, norm, wide(eps, norm), batch=studies(model, 30, absent))
    x = deepfool(problem, overshoot=0.02)
    expected = distances(problem, task.name)
    inside = ((x > 0) & (x < 1) | ~problem.space.free).all(1)  # a linear network's box is not in the closed form
    assert int(inside.sum()) > 10
    assert bool(problem.ask(x).broken[inside].all())
    torch.testing.assert_close(sizes(problem.space, x)[inside], 1.02 * expected[inside], atol=3e-4, rtol=1e-3)
    assert int(problem.questions[inside].max()) <= 2 + 1 + 1  # one step: before, its slopes, after, and just now


@pytest.mark.parametrize("task", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("eps", [{"ct": 0.05}, NARROW], ids=["one", "several"])
def test_cw_comes_near_the_distance_to_the_boundary(eps: dict[str, float], task: Any) -> None:
    model = Small((CT, PHOTO), (task,), seed=0)
    problem = small_problem(model, "l2", wide(eps, "l2"), batch=studies(model, 30))
    x = cw(problem, steps=100, searches=8)
    expected = distances(problem, task.name)
    near = (expected < 0.1) & ((x > 0.02) & (x < 0.98)).all(1)  # where the box is far
    assert int(near.sum()) >= 3
    assert bool(problem.ask(x).broken[near].all())
    shares = sizes(problem.space, x)[near] / expected[near]
    assert float(shares.min()) >= 1 - 1e-4
    assert float(shares.max()) < 1.04
    assert float(shares.mean()) < 1.02


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_a_point_outside_is_drawn_back_onto_the_ball(name: str, norm: Norm) -> None:
    model = Small((CT, PHOTO), (THREE,), seed=0)
    batch = studies(model, 40)
    eps = {key: radius * (1.25 if norm == "linf" else 2.8) for key, radius in NARROW.items()}
    problem = small_problem(model, norm, eps, batch=batch)
    far = small_problem(model, norm, {key: 4 * radius for key, radius in eps.items()}, batch=batch)
    expected = distances(problem, "finding")
    x, free = ATTACKS[name](problem), ATTACKS[name](far)
    assert_allowed(problem, x)
    broken = problem.ask(x).broken
    assert not bool(broken[expected > 1].any())
    assert bool(broken[expected < 0.95].all())
    assert 2 < int(broken.sum()) < 38
    torch.testing.assert_close(sizes(problem.space, x)[expected > 1], torch.ones(int((expected > 1).sum())))
    assert bool(far.ask(free).broken.all())


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_what_is_absent_fixed_or_wrong_stays(name: str, norm: Norm) -> None:
    model = Small((CT, PHOTO, CLINIC), (THREE, TWO), hidden=16)
    absent = {"photo": torch.tensor([True, False] * 5)}
    batch = studies(model, 10, absent)
    for label, count in (("finding", 3), ("grade", 2)):
        batch.targets[label][3] = (batch.targets[label][3] + 1) % count
        batch.targets[label][4] = -1  # nothing to gain
    problem = small_problem(model, norm, {"photo": 0.3, "ct": 0.2, "clinic": 0.5}, batch=batch)
    options = {"steps": 20, "searches": 3} if name == "cw" else {}
    x = ATTACKS[name](problem, **options)
    assert_allowed(problem, x)
    assert torch.equal(x[3:5], problem.space.clean[3:5])
    assert problem.questions[3:5].tolist() == [1, 1]
    assert torch.equal(x, ATTACKS[name](problem, **options))
    everything = problem.take(torch.tensor([3, 4]))
    assert torch.equal(ATTACKS[name](everything), everything.space.clean)


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_every_task_must_break(name: str, norm: Norm) -> None:
    """Of several boundaries those are crossed that hold; a step to the furthest does not undo the nearer ones."""
    model = Small((CT, PHOTO, PET), (THREE, TWO, SIGNS, STAGE), hidden=16)
    batch = studies(model, 12)
    batch.targets["signs"][0, 1] = torch.nan
    batch.targets["finding"][1] = -1
    eps = {"linf": 0.5, "l2": 4.0}[norm]
    problem = small_problem(model, norm, {"ct": eps, "photo": eps, "pet": eps}, batch=batch)
    x = ATTACKS[name](problem)
    assert_allowed(problem, x)
    some = small_problem(model, norm, dict(problem.space.threat.eps), Objective(tasks=["stage"]), batch)
    fewer = ATTACKS[name](some)
    assert standing(some, fewer) <= standing(problem, x) <= 4
    stage = sizes(some.space, fewer)[some.ask(fewer).broken & problem.ask(x).broken]
    assert float(stage.mean()) < float(sizes(problem.space, x)[problem.ask(x).broken].mean())


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_goals_are_reached(name: str, norm: Norm) -> None:
    model = Small((CT, PHOTO), (THREE,), seed=0)
    batch = studies(model, 24)
    goals = {"finding": (batch.targets["finding"] + 1) % 3}
    problem = small_problem(model, norm, wide(NARROW, norm), Objective(goals=goals), batch)
    x = ATTACKS[name](problem)
    reached = model(problem.inputs(x))["finding"].argmax(1) == goals["finding"]
    assert torch.equal(reached, problem.ask(x).broken)
    assert float(reached.float().mean()) > 0.8


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_random_networks_may_be_attacked(name: str, norm: Norm) -> None:
    model = Small((CT,), (THREE,), hidden=8, noise=0.3)
    generator = torch.Generator().manual_seed(0)
    problem = small_problem(model, norm, {"ct": 0.5}, draws=3, generator=generator)
    options = {"steps": 15, "searches": 2} if name == "cw" else {"steps": 8}
    assert_allowed(problem, ATTACKS[name](problem, **options))


def test_deepfool_crosses_where_the_box_is_in_the_way() -> None:
    model = Small((CT,), (TWO,), seed=2)
    batch = studies(model, 30)
    batch.inputs["ct"] = batch.inputs["ct"].sub(0.5).mul(20).add(0.5).clamp(0, 1)  # black and white
    batch.targets["grade"] = model(batch.inputs)["grade"].argmax(1)
    for norm in ("linf", "l2"):
        problem = small_problem(model, norm, {"ct": 1.0 if norm == "linf" else 3.0}, Objective("margin"), batch)
        x = deepfool(problem)
        weight = model.weights["grade"][1 - batch.targets["grade"]] - model.weights["grade"][batch.targets["grade"]]
        room = torch.where(
            weight > 0, problem.space.high - problem.space.clean, problem.space.low - problem.space.clean
        )
        possible = problem.ask(problem.space.clean).loss + (weight * room).sum(1) > 1e-3
        assert int(possible.sum()) > 10
        assert torch.equal(problem.ask(x).broken, possible)


def test_fewer_classes_cost_less_and_find_no_less_of_few() -> None:
    model = Small((CT,), (THREE,), seed=0)
    batch = studies(model, 20)
    one, all_of_them = (deepfool(small_problem(model, "l2", {"ct": 9.0}, batch=batch), classes=n) for n in (1, 10))
    space = small_problem(model, "l2", {"ct": 9.0}, batch=batch).space
    assert bool((sizes(space, all_of_them) <= sizes(space, one) + 1e-4).all())


def test_cw_stops_within_the_ball_when_asked_to() -> None:
    model = Small((CT, PHOTO), (THREE,), seed=0)
    batch = studies(model, 20)
    problem = small_problem(model, "l2", {key: 2.8 * radius for key, radius in NARROW.items()}, batch=batch)
    whole = cw(problem)
    asked = problem.questions.clone()
    problem.questions.zero_()
    early = cw(problem, early_drop=True)
    gained = asked - problem.questions
    assert standing(problem, early) == standing(problem, whole)
    broken = problem.ask(whole).broken
    assert bool((gained[broken] > 0).all())
    assert not bool(gained[~broken].any())
    assert bool((sizes(problem.space, early) >= sizes(problem.space, whole) - 1e-4).all())
    assert_allowed(problem, early)


def test_changes_of_black_and_white_images_are_the_smallest() -> None:
    """A tanh is flat at the ends of the box, so that a search that began there would hardly move."""
    model = Small((CT,), (TWO,), seed=2)
    batch = studies(model, 16)
    batch.inputs["ct"] = (torch.rand(16, 1, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    batch.targets["grade"] = model(batch.inputs)["grade"].argmax(1)
    problem = small_problem(model, "l2", {"ct": 0.9}, Objective("margin"), batch)
    space, label = problem.space, batch.targets["grade"]
    weight = model.weights["grade"][1 - label] - model.weights["grade"][label]
    under, over = torch.zeros(16, 1), torch.full((16, 1), 100.0)
    for _ in range(100):  # the smallest change is the part within the box of some multiple of the weights
        middle = (under + over) / 2
        crosses = problem.ask(space.boxed(space.clean + middle * weight)).loss >= 0
        under, over = torch.where(crosses[:, None], under, middle), torch.where(crosses[:, None], middle, over)
    expected = sizes(space, space.boxed(space.clean + over * weight))
    assert 3 < int((expected < 1).sum()) < 16
    for x in (cw(problem), deepfool(problem, overshoot=0.0)):
        broken, found = problem.ask(x).broken, sizes(space, x)
        sure = ((expected < 0.95) | (expected > 1)) & (expected > 0.01)
        assert torch.equal(broken[sure], (expected < 1)[sure])
        near = broken & sure
        assert bool((found[near] <= 1.05 * expected[near] + 1e-3).all())
        assert bool((found[near] >= expected[near] - 1e-3).all())

    problem.questions.zero_()
    deepfool(problem)
    assert int(problem.questions[(expected > 0.01) & (expected < 0.7)].max()) == 3  # it knows where there is no way on


def test_on_images_they_find_what_pgd_finds(golden_folder: Path) -> None:
    for norm in ("linf", "l2"):
        problem, official = oracle_problem(golden_folder, norm, 60)
        x = deepfool(problem)
        assert_allowed(problem, x)
        left = standing(problem, x)
        assert official[f"{norm.capitalize()}.suite.correct"] <= left < official["clean.correct"]
        assert left <= standing(problem, get_attack("fgsm")(problem))


def test_cw_on_images_finds_what_pgd_finds_by_smaller_changes(golden_folder: Path) -> None:
    problem, _ = oracle_problem(golden_folder, "l2", 40)
    climbed = get_attack("pgd")(problem, steps=20, generator=torch.Generator().manual_seed(0))
    stepped = deepfool(problem)
    within = problem.ask(stepped).broken & problem.ask(climbed).broken
    kept = problem.take(problem.standing(problem.ask(problem.space.clean)).nonzero()[:, 0])
    x = cw(kept, steps=60, searches=4, constant=3.0)
    assert_allowed(kept, x)
    pgd_left = standing(problem, climbed)
    assert standing(kept, x) <= pgd_left + 1  # 2% of 40
    rows = problem.standing(problem.ask(problem.space.clean)).nonzero()[:, 0]
    both = within[rows] & kept.ask(x).broken
    assert int(both.sum()) > 3
    changes = {
        "cw": sizes(kept.space, x)[both],
        "deepfool": sizes(problem.space, stepped)[rows][both],
        "pgd": sizes(problem.space, climbed)[rows][both],
    }
    assert float(changes["cw"].mean()) < float(changes["deepfool"].mean()) < float(changes["pgd"].mean())


@pytest.mark.parametrize(
    ("attack", "norm", "options", "words"),
    [
        (deepfool, "l1", {}, "linf and l2, got l1"),
        (deepfool, "l2", {"steps": 0}, "steps and classes must be at least 1"),
        (deepfool, "l2", {"classes": 0}, "steps and classes must be at least 1"),
        (deepfool, "l2", {"overshoot": -0.1}, "overshoot not negative"),
        (cw, "linf", {}, "its threat must be l2, got linf"),
        (cw, "l1", {}, "its threat must be l2, got l1"),
        (cw, "l2", {"steps": 0}, "steps and searches must be at least 1"),
        (cw, "l2", {"searches": 0}, "steps and searches must be at least 1"),
        (cw, "l2", {"constant": 0.0}, "constant and step positive"),
        (cw, "l2", {"step": 0.0}, "constant and step positive"),
    ],
)
def test_bad_options(attack: Callable[..., Tensor], norm: Norm, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        attack(small_problem(Small((CT,), (TWO,)), norm, {"ct": 0.1}), **options)
