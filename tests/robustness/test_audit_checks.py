"""Single checks of the audit against attacks' results that are made up, and the rule by which chance is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from masked import Net, studies

from mailnet.attacks import Problem, Threat
from mailnet.robustness.audit.bench import Bench, Left
from mailnet.robustness.audit.check import TOLERANCE, beyond_chance, exceeds
from mailnet.robustness.audit.curves import falls_with_radius, reaches_zero
from mailnet.robustness.audit.effort import FULL, SHORT, Effort
from mailnet.robustness.audit.points import allowed, points_hold
from mailnet.robustness.audit.rivals import suite_leaves_no_more, white_box_beats_black_box
from mailnet.robustness.audit.substitutes import with_substitutes

EFFORT = Effort(studies=30, suite=SHORT, queries=20, together=7)
THREAT = Threat("linf", {"ct": 0.05, "pet": 0.05})


def bench(lacks: bool = False) -> Bench:
    model = Net()
    absent = {"pet": torch.arange(60) % 2 == 0} if lacks else None
    problem = Problem(model, studies(model, absent=absent), THREAT)
    return Bench(problem, random=False, sources=(), effort=EFFORT, seed=0)


def pretend(given: Bench, x: torch.Tensor, share: torch.Tensor, factor: float = 1.0) -> None:
    """As if the gradient attacks had left this."""
    given._references[factor] = Left(x, share)


@pytest.mark.parametrize(("studies_of", "least"), [(10, 3), (24, 4), (32, 4), (128, 5)])
def test_a_few_studies_may_be_chance(studies_of: int, least: int) -> None:
    def found(count: int) -> torch.Tensor:
        return torch.cat([torch.ones(count), torch.zeros(studies_of - count)])

    assert not exceeds(found(least - 1))
    assert exceeds(found(least))
    assert exceeds(found(studies_of))


def test_the_bound_holds_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(3)
    drawn = 0.1 + torch.randn(4000, 24, generator=generator)
    held = sum(beyond_chance(row) <= 0.1 for row in drawn) / len(drawn)
    assert held == pytest.approx(0.95, abs=0.012)
    # Attacks that are equally good are held against each other no more often than that.
    equal = torch.randint(-1, 2, (2000, 64), generator=generator)
    assert sum(exceeds(row) for row in equal) / len(equal) < 0.06
    assert TOLERANCE == 0.01


def test_points_that_are_not_allowed_or_do_not_break_are_seen() -> None:
    given = bench(lacks=True)
    left = given.reference()
    assert points_hold(given).passed
    assert 0 < int((left.share == 0).sum()) < len(given)

    outside = left.x.clone()
    outside[0] = given.problem.space.clean[0] + 1.01 * given.problem.space.spread(given.problem.space.radius)[0]
    pretend(given, outside, left.share)
    found = points_hold(given)
    assert found.passed is False
    assert found.figure["outside"] == 1

    pretend(given, given.problem.space.clean, torch.zeros(len(given)))
    found = points_hold(given)
    assert found.passed is False
    assert found.figure["outside"] == 0
    assert found.figure["less_wrong_when_asked_again"] == 1


def test_what_is_not_held_must_stay_and_nothing_is_nan() -> None:
    space = bench(lacks=True).problem.space
    lacking = (space.radius[:, 1] == 0).nonzero()[:, 0]
    assert len(lacking)
    assert bool(allowed(space, space.clean).all())
    moved, missing = space.clean.clone(), space.clean.clone()
    moved[lacking[0], -1] += 1e-4
    missing[1, 0] = torch.nan
    assert (~allowed(space, moved)).nonzero().tolist() == [[int(lacking[0])]]
    assert (~allowed(space, missing)).nonzero().tolist() == [[1]]


def test_curves_that_rise_or_do_not_end_at_zero_are_seen() -> None:
    given = bench()
    x, n = given.problem.space.clean, len(given)

    def share(standing: int) -> torch.Tensor:
        return torch.cat([torch.ones(standing), torch.zeros(n - standing)])

    whole = given.whole()
    given.__dict__["curve"] = {1.0: Left(x, share(15)), 2.0: Left(x, share(5)), whole: Left(x, share(12))}
    found = falls_with_radius(given)
    assert found.passed is False
    assert found.figure["rise_at"] == whole
    assert found.figure["largest_rise"] == pytest.approx(7 / n)
    given.__dict__["curve"] = {1.0: Left(x, share(15)), whole: Left(x, share(0))}
    assert falls_with_radius(given).passed


@pytest.mark.parametrize("lacks", [False, True])
def test_what_another_image_breaks_an_attack_may_not_leave(lacks: bool) -> None:
    given = bench(lacks)
    x, n, whole = given.problem.space.clean, len(given), given.whole()
    given.__dict__["curve"] = {}
    assert reaches_zero(given).passed
    left = given.reference(whole)
    pretend(given, torch.cat([x[:1], left.x[1:]]), torch.cat([torch.ones(1), left.share[1:]]), whole)
    found = reaches_zero(given)
    assert found.passed is False
    assert found.figure["only_by_other_images"] == pytest.approx(1 / n)
    assert found.figure["broken_by_nothing"] == 0
    left = with_substitutes(given, whole, Left(x, torch.ones(n)))
    assert bool(allowed(given.at(whole).space, left.x).all())
    assert left.accuracy == 0
    # Within the threat's radius other images are out of reach, and only as near as the ball lets them.
    near = with_substitutes(given, 1.0, Left(x, torch.ones(n)))
    assert bool(allowed(given.problem.space, near.x).all())
    assert near.accuracy > 0.3


def test_what_noise_leaves_whatever_is_shown_is_not_held_against_the_attack() -> None:
    model = Net(noise=3.0)
    problem = Problem(model, studies(model), THREAT, draws=5, generator=torch.Generator().manual_seed(0))
    given = Bench(problem, random=True, sources=(), effort=replace(EFFORT, studies=12), seed=0)
    x, whole = given.problem.space.clean, given.whole()
    given.__dict__["curve"] = {}
    pretend(given, x, torch.full((12,), 0.4), whole)
    assert reaches_zero(given).passed  # no study stands, though draws are right at times
    pretend(given, x, torch.ones(12), whole)
    found = reaches_zero(given)
    assert found.passed is False
    assert found.figure["only_by_other_images"] > 0.5


def test_attacks_that_found_less_than_weaker_ones_are_seen() -> None:
    given = bench()
    for name in ("reference", "weak"):
        if name == "weak":
            pretend(given, given.problem.space.clean, torch.ones(len(given)))
            given.__dict__["factors"] = [1.0]
        found = [white_box_beats_black_box(given).passed, suite_leaves_no_more(given).passed]
        assert found == [name == "reference"] * 2


def test_where_nothing_can_be_told_another_radius_is_compared_too() -> None:
    given = bench()
    n = len(given)
    x = given.problem.space.clean
    given.__dict__["curve"] = {1.0: Left(x, torch.ones(n)), 4.0: Left(x, (torch.arange(n) % 2).float())}
    pretend(given, x, torch.ones(n))
    assert given.factors == [1.0, 4.0]
    given.__dict__.pop("factors")
    pretend(given, x, (torch.arange(n) % 2).float())
    assert given.factors == [1.0]


def test_the_largest_ball_holds_every_input() -> None:
    given = bench()
    largest = given.at(given.whole()).space
    ends = torch.stack([largest.low, largest.high])
    assert bool(torch.stack([allowed(largest, largest.project(end)) for end in ends]).all())
    assert torch.equal(largest.project(largest.high), largest.high)
    assert torch.equal(largest.project(largest.low), largest.low)
    assert FULL.studies == 128
