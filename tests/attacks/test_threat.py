"""Balls and boxes: random spaces of several modalities, the nearest points against a general solver."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from small_network import BOX, CLINIC, CT, PET, PHOTO
from torch import Tensor

from mailnet.attacks.threat import Norm, Space, Threat, project_l1

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
SPECS = {spec.name: spec for spec in (CT, PHOTO, PET, CLINIC)}
COLUMNS = [9, 8, 8, 4]
STUDIES = 7


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(seed: int, norm: Norm) -> Space:
    """A space with radii between small and larger than the box, values also at its ends, and modalities that lack."""
    generator = seeded(seed)
    inputs, present, eps = {}, {}, {}
    for name, spec in SPECS.items():
        here = torch.rand(STUDIES, generator=generator) < 0.7
        x = torch.rand(STUDIES, spec.channels, *(spec.size or ()), generator=generator)
        if spec.kind == "tabular":
            low, high = BOX
            x = low + (high - low) * x
            x[:, -1] = torch.rand(STUDIES, generator=generator)  # the column that stays has values of its own
        elif seed % 2:
            x = x.round()  # black and white
        inputs[name] = x * here.view(-1, *[1] * (x.ndim - 1))
        present[name] = here
        eps[name] = 10 ** float(2 * torch.rand((), generator=generator) - 2)
    return Space(inputs, present, Threat(norm, eps, {"clinic": BOX}))


def around(space: Space, seed: int) -> Tensor:
    """Rows near, at and far from the clean studies."""
    generator = seeded(100 + seed)
    size = 10 ** (3 * torch.rand(STUDIES, 1, generator=generator) - 2.5)
    return space.clean + size * torch.randn(space.clean.shape, generator=generator)


def assert_inside(space: Space, x: Tensor) -> None:
    assert bool((space.norms(x - space.clean) <= space.radius * (1 + 1e-5) + 1e-6).all())
    assert bool((x >= space.low).all())
    assert bool((x <= space.high).all())
    for name, part in space.split(x).items():
        own = space.split(space.clean)[name]
        if name == "clinic":
            held = own[:, :-1].abs().sum(1) > 0
            assert bool(((part >= BOX[0]) & (part <= BOX[1]))[held, :-1].all())
        else:
            assert float(part.min()) >= 0
            assert float(part.max()) <= 1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(20))
def test_projections_stay_inside_and_are_their_own(norm: Norm, seed: int) -> None:
    space = drawn(seed, norm)
    x = space.project(around(space, seed))
    assert_inside(space, x)
    torch.testing.assert_close(space.project(x), x, atol=2e-6, rtol=1e-5)
    assert torch.equal(space.project(space.clean), space.clean)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(20))
def test_random_points_stay_inside_and_repeat(norm: Norm, seed: int) -> None:
    space = drawn(seed, norm)
    x = space.random(seeded(seed))
    assert_inside(space, x)
    assert torch.equal(x, space.random(seeded(seed)))
    assert not torch.equal(x, space.random(seeded(seed + 1)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(10))
def test_what_is_not_held_never_moves(norm: Norm, seed: int) -> None:
    space = drawn(seed, norm)
    fixed = torch.zeros(sum(COLUMNS), dtype=torch.bool)
    fixed[-1] = True
    stays = (space.spread(space.radius) == 0) | fixed
    assert torch.equal(stays, ~space.free)
    far = around(space, seed) + 3
    for x in (space.project(far), space.boxed(far), space.random(seeded(seed))):
        assert torch.equal(x[stays], space.clean[stays])
    gradient = torch.randn(space.clean.shape, generator=seeded(seed))
    assert not bool(space.steepest(gradient)[:, fixed].any())
    assert not bool(space.uniform(seeded(seed))[stays].any())


def furthest(way: np.ndarray, low: np.ndarray, high: np.ndarray, radius: float, norm: Norm) -> float:
    """The largest <way, d> of {low <= d <= high, |d| <= radius}, by a linear program on d = u - v; u, v >= 0."""
    ends = np.concatenate([np.maximum(high, 0), np.maximum(-low, 0)])
    total = {"A_ub": np.ones((1, len(ends))), "b_ub": [radius]} if norm == "l1" else {}
    most = ends if norm == "l1" else np.minimum(ends, radius)
    found = linprog(-np.concatenate([way, -way]), bounds=[(0, end) for end in most], **total)
    assert found.success, found.message
    return -float(found.fun)


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("seed", range(8))
def test_projections_are_the_nearest_points(norm: Norm, seed: int) -> None:
    """Of a convex set the nearest point is the one beyond which no point lies in the direction of what is projected."""
    space = drawn(seed, norm)
    point = around(space, seed)
    x = space.project(point)
    at = 0
    for m, size in enumerate(COLUMNS):
        part = slice(at, at + size)
        at += size
        for row in range(STUDIES):
            if not space.radius[row, m]:
                continue
            clean = space.clean[row, part].double()
            change, low, high = ((side[row, part] - clean).numpy() for side in (x, space.low, space.high))
            way = ((point - x) * space.free)[row, part].double().numpy()
            beyond = furthest(way, low, high, float(space.radius[row, m]), norm) - float(way @ change)
            assert beyond <= 1e-5 * (np.abs(way).sum() + 1)


def test_l1_point_by_hand() -> None:
    # 3, -2 and 1 shrink by 1 to 2, -1 and 0; where the first may not exceed 0.5, the others get its room.
    delta, wide = torch.tensor([[3.0, -2.0, 1.0]]), torch.full((1, 3), 9.0)
    found = project_l1(delta, -wide, wide, torch.tensor([3.0]))
    torch.testing.assert_close(found, torch.tensor([[2.0, -1.0, 0.0]]))
    narrow = torch.tensor([[0.5, 9.0, 9.0]])
    found = project_l1(delta, -wide, narrow, torch.tensor([3.0]))
    torch.testing.assert_close(found, torch.tensor([[0.5, -1.75, 0.75]]))


@pytest.mark.parametrize("seed", range(10))
def test_l2_draws_along_the_ray(seed: int) -> None:
    space = drawn(seed, "l2")
    wide = torch.full_like(space.clean, 1e3)
    space.low, space.high = space.clean - wide * space.free, space.clean + wide * space.free
    point = space.boxed(around(space, seed))
    delta, moved = point - space.clean, space.project(point) - space.clean
    shares = (space.radius / space.norms(delta).clamp(min=1e-9)).clamp(max=1)
    torch.testing.assert_close(moved, delta * space.spread(shares), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(10))
def test_steepest_is_the_best_step_of_length_one(norm: Norm, seed: int) -> None:
    space = drawn(seed, norm)
    generator = seeded(seed)
    gradient = torch.randn(space.clean.shape, generator=generator) * space.free
    step = space.steepest(gradient, 0.0)
    held = space.radius > 0

    def rises(change: Tensor) -> Tensor:
        return torch.stack([part.sum(1) for part in torch.split(gradient * change, COLUMNS, 1)], 1)

    torch.testing.assert_close(space.norms(step), held.float(), atol=1e-5, rtol=0)
    dual: Norm = {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]  # type: ignore[assignment]
    torch.testing.assert_close(rises(step), space.norms(gradient, dual) * held, atol=1e-4, rtol=1e-4)
    for _ in range(20):
        other = torch.randn(space.clean.shape, generator=generator)
        other = other / space.spread(space.norms(other))
        assert bool((rises(other) <= rises(step) + 1e-4).all())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_steepest_does_not_depend_on_how_confident_a_network_is(norm: Norm, scale: float) -> None:
    space = drawn(0, norm)
    gradient = torch.randn(space.clean.shape, generator=seeded(0))
    torch.testing.assert_close(space.steepest(gradient * scale), space.steepest(gradient), atol=1e-5, rtol=1e-4)
    assert not bool(space.steepest(torch.zeros_like(gradient)).any())


def test_sparse_steps_change_the_share_they_are_given() -> None:
    present = torch.ones(2, dtype=torch.bool)
    space = Space({"ct": torch.full((2, 1, 20, 20), 0.5)}, {"ct": present}, Threat("l1", {"ct": 3.0}))
    gradient = torch.randn(2, 400, generator=seeded(0))
    for fraction, count in ((0.0, 1), (0.01, 4), (0.25, 100), (1.0, 400)):
        step = space.steepest(gradient, fraction)
        assert (step != 0).sum(1).tolist() == [count, count]
        torch.testing.assert_close(step.abs().sum(1), torch.ones(2))
        largest = gradient.abs().topk(count, 1).indices
        assert bool((step.gather(1, largest) * gradient.gather(1, largest) > 0).all())


@pytest.mark.parametrize("norm", NORMS)
def test_random_points_fill_the_ball_evenly(norm: Norm) -> None:
    count = 4000
    inputs = {"ct": torch.full((count, 1, 2, 2), 0.5), "clinic": torch.zeros(count, 4)}
    box = (torch.tensor([-1.0, -1.0, -1.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    present = dict.fromkeys(inputs, torch.ones(count, dtype=torch.bool))
    space = Space(inputs, present, Threat(norm, {"ct": 0.4, "clinic": 0.8}, {"clinic": box}))
    x = space.random(seeded(0)) - space.clean
    shares = space.norms(x) / space.radius  # the smaller ball of half the volume holds half of the points
    half = 0.5 ** (1 / torch.tensor([4.0, 3.0]))
    assert (shares <= half).float().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert float(x.mean(0).abs().max()) < 0.03
    assert (x[:, :7] > 0).float().mean(0).tolist() == pytest.approx([0.5] * 7, abs=0.03)


def test_parts_of_a_space() -> None:
    space = drawn(1, "l2")
    rows = torch.tensor([4, 0, 4])
    part = space.take(rows)
    point = around(space, 0)
    assert len(part) == 3
    assert torch.equal(part.project(point[rows]), space.project(point)[rows])
    assert torch.equal(space.take(torch.arange(STUDIES) == 4).clean, space.clean[4:5])
    shapes = {name: tuple(x.shape) for name, x in space.split(point).items()}
    assert shapes == {"ct": (7, 1, 3, 3), "photo": (7, 2, 2, 2), "pet": (7, 1, 2, 2, 2), "clinic": (7, 4)}
    assert torch.equal(torch.cat([x.flatten(1) for x in space.split(point).values()], 1), point)
    larger = space.enlarged(2.0)
    assert torch.equal(larger.radius, 2 * space.radius)
    assert torch.equal(larger.high, space.high)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"norm": "l3", "eps": {"ct": 0.1}}, "l3"),
        ({"norm": "linf", "eps": {}}, "no modality"),
        ({"norm": "linf", "eps": {"ct": 0.0}}, "'ct'"),
        ({"norm": "linf", "eps": {"ct": -0.1}}, "positive"),
        ({"norm": "linf", "eps": {"ct": math.nan}}, "positive"),
        ({"norm": "linf", "eps": {"ct": math.inf}}, "positive"),
    ],
)
def test_bad_threats(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Threat(**values)


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        (Threat("linf", {"mri": 0.1}), "the network has ct, photo, pet, clinic"),
        (Threat("linf", {"ct": 8.0}), "larger than the range"),
        (Threat("l2", {"clinic": 0.1}), "is a table"),
        (Threat("l2", {"clinic": 0.1}, {"clinic": (BOX[0][:3], BOX[1][:3])}), "4 values"),
        (Threat("l2", {"clinic": 0.1}, {"clinic": (BOX[1], BOX[0])}), "rising"),
    ],
)
def test_threats_that_do_not_fit(threat: Threat, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        threat.check(SPECS)


def test_a_large_radius_is_allowed_but_in_linf() -> None:
    Threat("l2", {"ct": 8.0}).check(SPECS)
    Threat("linf", {"clinic": 8.0}, {"clinic": BOX}).check(SPECS)
