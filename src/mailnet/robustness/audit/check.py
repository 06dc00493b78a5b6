"""What one check of an audit found, and when a difference is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from scipy import stats
from torch import Tensor

TOLERANCE = 0.01  # of the studies, below which nothing is made of a difference
SURE = 0.5  # shares of draws that are further apart than this are another answer
LEVEL = 0.95


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        name: Of the check.
        passed: Whether what is wanted was found; None where the check does not apply, which ``meaning`` explains.
        figure: What was measured, by name; ``at`` are radii as multiples of the threat's.
        wanted: What the figures must be.
        meaning: What it says of the network, or of the attack, if they are not.
        curve: Pairs (x, share of the studies that stand).
        passes: Forward passes spent, all studies added.
        seconds: Time spent.
    """

    name: str
    passed: bool | None
    figure: dict[str, Any]
    wanted: str
    meaning: str
    curve: tuple[tuple[float, float], ...] | None = None
    passes: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for a result card; ``curve`` only where there is one."""
        found = {name: value for name, value in vars(self).items() if name != "curve"}
        return found if self.curve is None else {**found, "curve": [list(point) for point in self.curve]}

    def spent(self, passes: int, seconds: float) -> Check:
        """Return the check with what it cost."""
        return replace(self, passes=passes, seconds=seconds)


def absent(name: str, why: str, wanted: str) -> Check:
    """Return a check that does not apply."""
    return Check(name, None, {}, wanted, why)


def beyond_chance(differences: Tensor) -> float:
    """Return the lower end of a mean difference: what it is at least, as far as so many studies can tell.

    It is the one-sided 95% bound of Student's t. Two attacks are compared on the same studies, so that what differs
    between studies does not count; a mean difference is held against an attack where this exceeds ``TOLERANCE``. So 5
    of 128 studies count, or 4 of 32, and 3 of 10.

    Args:
        differences: (B,), B at least 2.

    >>> import torch
    >>> [beyond_chance(torch.tensor([1.0] * k + [0.0] * (128 - k))) > TOLERANCE for k in (0, 4, 5)]
    [False, False, True]
    """
    values = differences.double()
    spread = float(values.std()) / math.sqrt(len(values))
    return float(values.mean()) - float(stats.t.ppf(LEVEL, len(values) - 1)) * spread


def exceeds(differences: Tensor) -> bool:
    """Return whether a mean difference (B,) is above the tolerance by more than chance."""
    return beyond_chance(differences) > TOLERANCE
