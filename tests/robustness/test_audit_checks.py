"""Single checks of the audit against attacks' results that are made up, and the rule by which chance is told."""

from __future__ import annotations

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
    pretend(given, x, share(1), whole)
    assert reaches_zero(given).passed is False
    pretend(given, x, share(0), whole)
    given.__dict__["curve"] = {1.0: Left(x, share(15)), whole: Left(x, share(0))}
    assert reaches_zero(given).passed
    assert falls_with_radius(given).passed


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
