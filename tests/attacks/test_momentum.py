"""Steps along averaged gradients: retraced by hand, exact on linear networks, measured on the oracle's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import (
    CLINIC,
    CT,
    PHOTO,
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
from mailnet.attacks.diversity import Diversity
from mailnet.attacks.momentum import mim, ni_fgsm, vmi_fgsm
from mailnet.attacks.threat import Norm
from mailnet.specs import ModalitySpec

ATTACKS: dict[str, Callable[..., Tensor]] = {"mim": mim, "ni_fgsm": ni_fgsm, "vmi_fgsm": vmi_fgsm}
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
EPS = {"ct": 0.02, "photo": 0.05, "clinic": 0.1}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slope(problem: Problem, x: Tensor) -> Tensor:
    gradient = problem.ask(x).gradient
    assert gradient is not None
    return gradient


def unit(gradient: Tensor, norm: Norm) -> Tensor:
    """Of one modality: by the mean absolute value in linf, else by its length."""
    if norm == "linf":
        return gradient / gradient.abs().mean(1, keepdim=True)
    return gradient / gradient.norm(2.0 if norm == "l2" else 1.0, dim=1, keepdim=True)


def retraced(problem: Problem, steps: int, decay: float, ahead: bool) -> Tensor:
    """The attack on one modality from its formulas."""
    norm, radius = problem.space.threat.norm, float(problem.space.radius[0, 0])
    x = problem.space.clean
    total, length = torch.zeros_like(x), radius / steps
    for _ in range(steps):
        total = decay * total + unit(slope(problem, (x + length * decay * total).clamp(0, 1) if ahead else x), norm)
        way = total.sign() if norm == "linf" else total / total.norm(dim=1, keepdim=True)
        x = x + length * way  # steps of 1 / steps never leave the ball, and the studies lie far from the box's ends
    return x


@pytest.mark.parametrize("ahead", [False, True], ids=["mim", "ni_fgsm"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_are_those_of_the_formulas(norm: Norm, ahead: bool) -> None:
    problem = small_problem(Small((CT,), (THREE,), hidden=12), norm, {"ct": 0.3})
    attack = ni_fgsm if ahead else mim
    x = attack(problem, steps=5, decay=0.8, early_drop=False)
    expected = retraced(problem, 5, 0.8, ahead)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(expected, retraced(problem, 5, 0.0, ahead), atol=1e-3)
    assert not torch.allclose(expected, retraced(problem, 5, 0.8, not ahead), atol=1e-6)


def test_variance_tuning_is_that_of_the_formulas() -> None:
    problem = small_problem(Small((CT,), (THREE,), hidden=12), "linf", {"ct": 0.3})
    x = vmi_fgsm(problem, steps=4, neighbours=3, reach=1.2, early_drop=False, generator=seeded(3))
    generator, y = seeded(3), problem.space.clean
    total, variance = torch.zeros_like(y), torch.zeros_like(y)
    for step in range(4):
        gradient = slope(problem, y)
        total = total + unit(gradient + variance, "linf")
        if step < 3:
            drawn = [1.2 * 0.3 * (2 * torch.rand(y.shape, generator=generator) - 1) for _ in range(3)]
            variance = torch.stack([slope(problem, (y + one).clamp(0, 1)) for one in drawn]).mean(0) - gradient
        y = (y + 0.3 / 4 * total.sign()).clamp(0, 1)
    torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)
    assert problem.questions.tolist() == [4 + 3 * 3 + 4 + 3 * 3] * 6
    assert not torch.allclose(x, mim(problem, steps=4, early_drop=False), atol=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ATTACKS)
def test_a_linear_network_of_two_inputs_is_solved_exactly(name: str, norm: Norm) -> None:
    model = Small((CT, PHOTO), (TWO,))
    batch = studies(model, 20, absent={"photo": torch.arange(20) % 3 == 0})
    eps = {"ct": 0.05, "photo": 0.1}
    problem = small_problem(model, norm, eps, Objective("margin"), batch)
    weight = model.weights["grade"][1] - model.weights["grade"][0]
    dual = 1.0 if norm == "linf" else 2.0
    parts = {"ct": weight[:9], "photo": weight[9:]}
    rise = sum(eps[key] * float(part.norm(dual)) * batch.present[key] for key, part in parts.items())
    x = ATTACKS[name](problem, early_drop=False, generator=seeded())
    torch.testing.assert_close(problem.ask(x).loss, problem.ask(problem.space.clean).loss + rise, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_points_are_allowed_repeat_and_cost_what_they_say(name: str, norm: Norm) -> None:
    model = Small((CT, PHOTO, CLINIC), (THREE, TWO), hidden=16)
    absent = {"photo": torch.tensor([True, False] * 10)}
    batch = studies(model, 20, absent)
    for task in batch.targets.values():
        task[3] = (task[3] + 1) % 2 if int(task[3]) < 2 else torch.tensor(0)
    problem = small_problem(model, norm, {name: 4 * radius for name, radius in EPS.items()}, batch=batch)
    options: dict[str, Any] = {"steps": 4, "diversity": 0.5} | ({"neighbours": 2} if name == "vmi_fgsm" else {})
    x = ATTACKS[name](problem, **options, generator=seeded())
    assert_allowed(problem, x)
    assert torch.equal(x[3], problem.space.clean[3])
    assert problem.questions[3] == 1
    each = 2 + (2 if name == "vmi_fgsm" else 0)
    assert int(problem.questions.max()) <= 4 * each
    assert torch.equal(x, ATTACKS[name](problem, **options, generator=seeded()))
    problem.questions.zero_()
    last = ATTACKS[name](problem, **options, early_drop=False, generator=seeded())
    assert_allowed(problem, last)
    assert problem.questions.tolist() == [4 * each - 4 - (2 if name == "vmi_fgsm" else 0)] * 20


def test_gradients_of_a_confident_network_are_not_lost() -> None:
    model = Small((CT,), (TWO,))
    model.weights["grade"] *= 25  # cross-entropies near 1e-10
    problem = small_problem(model, "l2", {"ct": 0.3})
    for attack in ATTACKS.values():
        x = attack(problem, steps=3, step=0.3, early_drop=False, generator=seeded())
        assert (problem.space.norms(x - problem.space.clean)[:, 0]).tolist() == pytest.approx([0.27] * 6, rel=1e-3)


def test_random_networks_may_be_attacked() -> None:
    model = Small((CT,), (THREE,), hidden=8, noise=0.5)
    for attack in ATTACKS.values():
        problem = small_problem(model, "linf", {"ct": 0.2}, draws=3, generator=seeded(5))
        assert_allowed(problem, attack(problem, steps=2, diversity=0.5, generator=seeded()))


@pytest.mark.parametrize("name", ATTACKS)
def test_momentum_leaves_no_more_images_than_one_step(name: str, golden_folder: Path) -> None:
    """But Nesterov's, which looks further ahead than the ball is wide and is for other networks: 2 in 40 more."""
    options: dict[str, Any] = {"neighbours": 2} if name == "vmi_fgsm" else {}
    for norm in ("linf", "l2"):
        problem, official = oracle_problem(golden_folder, norm, 40)
        x = ATTACKS[name](problem, **options, generator=seeded())
        assert_allowed(problem, x)
        left = standing(problem, x)
        spare = 2 if name == "ni_fgsm" else 0
        assert official[f"{norm.capitalize()}.suite.correct"] <= left
        assert left <= standing(problem, get_attack("fgsm")(problem)) + spare
        assert left < official["clean.correct"]


def test_images_shrink_and_move_within_a_black_field() -> None:
    images = torch.ones(400, 2, 20, 30)
    moved = Diversity(1.0, 0.5, seeded())({"ct": images})["ct"]
    rows, columns = moved[:, 0].amax(2), moved[:, 0].amax(1)
    heights, widths = rows.sum(1), columns.sum(1)
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(moved.sum((1, 2, 3)), 2 * heights * widths)  # one rectangle, in every channel
    assert (int(heights.min()), int(heights.max())) == (10, 20)
    assert (int(widths.min()), int(widths.max())) == (15, 30)
    assert float((heights / 20 - widths / 30).abs().max()) < 0.06  # axes shrink alike
    starts = rows.argmax(1)
    assert int(starts.min()) == 0
    assert bool((starts + heights <= 20).all())
    assert float(((starts + heights == 20) & (heights < 20)).float().mean()) > 0.02


def test_the_shrunk_image_is_the_nearest_pixels_and_its_gradient_goes_back() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4).requires_grad_()
    seen = set()
    for seed in range(60):
        moved = Diversity(1.0, 0.5, seeded(seed))({"ct": image})["ct"]
        (gradient,) = torch.autograd.grad(moved.sum(), image)
        inside = moved[0, 0] + gradient.new_zeros(4, 4)
        assert float(gradient.sum()) == float((moved != 0).sum()) + (1 if float(gradient[0, 0, 0, 0]) else 0)
        half = [value for value in inside.flatten().tolist() if value]
        if len(half) == 3 and 2.0 in half:
            seen.add(tuple(half))
    assert seen == {(2.0, 8.0, 10.0)}  # of 4 x 4 every second pixel, wherever they lie (the first is black itself)


def test_volumes_move_and_tables_and_others_stay() -> None:
    inputs = {"pet": torch.rand(50, 1, 6, 8, 10) + 0.1, "clinic": torch.rand(50, 4)}
    moved = Diversity(0.4, 0.7, seeded())(inputs)
    assert moved["clinic"] is inputs["clinic"]
    assert moved["pet"].shape == inputs["pet"].shape
    same = (moved["pet"] == inputs["pet"]).flatten(1).all(1)
    assert 0.5 < float(same.float().mean()) < 0.8  # a chance of 0.6, and shrinking by less than a pixel
    assert bool((moved["pet"][~same] == 0).flatten(1).any(1).all())
    assert torch.equal(Diversity(0.0)(inputs)["pet"], inputs["pet"])
    assert torch.equal(Diversity(1.0, 1.0)(inputs)["pet"], inputs["pet"])


def test_diversity_changes_what_is_attacked_but_not_what_counts() -> None:
    large = (ModalitySpec("ct", size=(12, 12)), ModalitySpec("pet", "volume", size=(6, 10, 10)))
    model = Small(large, (TWO,), hidden=12)
    problem = small_problem(model, "linf", {"ct": 0.05, "pet": 0.05}, batch=studies(model, 30))
    plain, diverse = (mim(problem, steps=5, diversity=chance, generator=seeded()) for chance in (0.0, 1.0))
    assert not torch.equal(plain, diverse)
    assert_allowed(problem, diverse)
    problem.questions.zero_()
    x = mim(problem, steps=5, diversity=1.0, generator=seeded())
    asked = problem.questions.clone()
    # A study whose questions ended early was broken as it is, not only where it was seen shrunk.
    early = asked < 9
    assert bool(early.any())
    assert bool(problem.ask(x).broken[early].all())


@pytest.mark.parametrize(
    ("attack", "options", "words"),
    [
        (mim, {"steps": 0}, "steps must be at least 1"),
        (mim, {"decay": -0.1}, "decay not negative"),
        (mim, {"step": 0.0}, "step must be positive"),
        (mim, {"diversity": 1.5}, r"chance in \[0, 1\]"),
        (vmi_fgsm, {"neighbours": 0}, "neighbours must be at least 1"),
        (vmi_fgsm, {"reach": 0.0}, "reach positive"),
    ],
)
def test_bad_options(attack: Callable[..., Tensor], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        attack(small_problem(Small((CT,), (TWO,)), "linf", {"ct": 0.1}), **options)
    with pytest.raises(ValueError, match=r"smallest must be in \(0, 1\]"):
        Diversity(0.5, 0.0)
