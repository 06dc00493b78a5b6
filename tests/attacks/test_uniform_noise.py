"""Random points of the ball: the weakest attack, which must not be stronger than one that looks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_network import CLINIC, CT, PHOTO, THREE, TWO, Small, assert_allowed, oracle_problem, small_problem, standing
from small_network import studies as made

from mailnet.attacks import get_attack
from mailnet.attacks.noise import uniform_noise
from mailnet.attacks.threat import Norm

EPS = {"ct": 0.3, "photo": 0.2, "clinic": 0.5}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_points_are_allowed_and_repeat(norm: Norm) -> None:
    model = Small((CT, PHOTO, CLINIC), (THREE, TWO))
    absent = {"ct": torch.tensor([True, False] * 10)}
    problem = small_problem(model, norm, EPS, batch=made(model, 20, absent))
    x = uniform_noise(problem, generator=seeded())
    assert_allowed(problem, x)
    assert torch.equal(x, uniform_noise(problem, generator=seeded()))
    assert not torch.equal(x, uniform_noise(problem, generator=seeded(1)))


def test_more_tries_break_more_and_stop_where_they_did() -> None:
    model = Small((CT,), (THREE,), seed=5)
    batch = made(model, 60)
    batch.targets["finding"][0] = (batch.targets["finding"][0] + 1) % 3
    left, asked = [], []
    for tries in (1, 5, 40):
        problem = small_problem(model, "linf", {"ct": 0.3}, batch=batch)
        x = uniform_noise(problem, tries=tries, generator=seeded())
        asked.append(problem.questions.clone())
        broken = problem.ask(x).broken
        assert torch.equal(x[0], problem.space.clean[0])
        assert asked[-1][0] == 1
        assert bool((asked[-1][~broken] == 1 + tries).all())
        left.append(int((~broken).sum()))
    assert left[0] > left[1] > left[2] > 0
    assert int(asked[-1][1:].min()) < 41


def test_the_largest_loss_is_kept() -> None:
    model = Small((CT,), (TWO,))
    problem = small_problem(model, "linf", {"ct": 0.01})
    few, many = (uniform_noise(problem, tries=tries, generator=seeded()) for tries in (1, 30))
    clean, worse, worst = (problem.ask(x).loss for x in (problem.space.clean, few, many))
    assert bool((worst >= worse).all())
    assert bool((worse >= clean).all())
    assert bool((worst > worse).any())


def test_random_networks_may_be_attacked() -> None:
    model = Small((CT,), (THREE,), noise=0.5)
    problem = small_problem(model, "linf", {"ct": 0.2}, draws=3, generator=seeded(5))
    assert_allowed(problem, uniform_noise(problem, tries=4, generator=seeded()))
    assert int(problem.questions.max()) <= 15


def test_chance_breaks_fewer_images_than_a_search(golden_folder: Path) -> None:
    problem, official = oracle_problem(golden_folder, "linf", 60)
    left = standing(problem, uniform_noise(problem, generator=seeded()))
    assert official["clean.correct"] >= left > official["Linf.square.correct"]
    assert left > standing(problem, get_attack("fgsm")(problem))


def test_no_try_is_an_error() -> None:
    with pytest.raises(ValueError, match="tries must be at least 1, got 0"):
        uniform_noise(small_problem(Small((CT,), (TWO,)), "linf", {"ct": 0.1}), tries=0)
