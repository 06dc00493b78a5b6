"""The check of the points themselves: that they are allowed, and that they break what they are said to break."""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.attacks import Problem
from mailnet.attacks.threat import Space
from mailnet.robustness.audit.bench import Bench
from mailnet.robustness.audit.check import TOLERANCE, Check, beyond_chance

ROUNDING = 1e-5  # relative, of a radius
RANDOM = 0.05  # by how much less than reported a random network may be wrong


def points_hold(bench: Bench) -> Check:
    """Reported points lie in ball and box, and are misclassified when they are asked again, one by one."""
    left = bench.reference()
    problem = bench.problem
    outside = ~allowed(problem.space, left.x)
    again = _again(bench, problem, left.x)
    broken = left.share < 0.5
    unkept = torch.where(broken, again - left.share, 0.0)
    figure = {
        "studies_broken": int(broken.sum()),
        "outside": int(outside.sum()),
        "less_wrong_when_asked_again": float(unkept.sum() / broken.sum().clamp(min=1)),
    }
    kept = beyond_chance(unkept) <= (RANDOM if bench.random else TOLERANCE)
    wanted = "No point outside of ball or box; broken studies are wrong again when asked by themselves"
    meaning = "The attack reports points that are not allowed, or that do not break what they are said to break."
    return Check("points_hold", not bool(outside.any()) and kept, figure, wanted, meaning)


def allowed(space: Space, x: Tensor) -> Tensor:
    """Return (B,) bool, whether rows (B, D) lie in every ball, up to rounding, and exactly in the box.

    What the attacker does not hold has no room in its box, so that it must be as it was; NaN is nowhere.
    """
    change = space.norms(x - space.clean)  # (B, M)
    balls = (change <= space.radius * (1 + ROUNDING) + ROUNDING / 10).all(1)
    return balls & (x >= space.low).all(1) & (x <= space.high).all(1)


def _again(bench: Bench, problem: Problem, x: Tensor) -> Tensor:
    """(B,) shares as scored, each study in a batch of its own and with other draws."""
    if bench.random:
        order = torch.arange(len(x) - 1, -1, -1, device=x.device)
        return bench.score(problem.take(order), x[order], "again").flip(0)
    rows = torch.split(torch.arange(len(x), device=x.device), 1)
    asked = [problem.take(row).ask(x[row], gradient=False) for row in rows]
    return 1 - torch.cat([one.broken for one in asked]).to(x)
