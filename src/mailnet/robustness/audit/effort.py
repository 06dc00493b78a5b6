"""How much an audit spends: the studies, the attacks and their steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailnet.robustness.attack.suites import Member, Suite, get_suite


@dataclass(frozen=True)
class Effort:
    """How much an audit spends.

    Args:
        studies: The most studies; drawn at random from those that are answered rightly.
        suite: The gradient attacks.
        ladder: By how much a radius of the curve is larger than the last.
        steps: Numbers of steps of the curve against steps.
        iterations: Steps of what is compared with a single step; together they are two radii long.
        queries: Questions of the black-box attack.
        points: Random points of each kind for each study.
        draws: Numbers of draws of the curve against draws, beside the one in use.
        averaged: The most draws that a random network's gradients are averaged over elsewhere.
        together: Studies in one forward pass.
    """

    studies: int = 128
    suite: Suite = field(default_factory=lambda: get_suite("quick"))
    ladder: float = 2.0
    steps: Sequence[int] = (1, 5, 10, 20, 50, 100)
    iterations: int = 20
    queries: int = 500
    points: int = 50
    draws: Sequence[int] = (1, 5, 20, 50)
    averaged: int = 20
    together: int = 64


FULL = Effort()
SHORT = Suite(
    "short",
    [Member("apgd_ce", {"steps": 10}), Member("apgd_t", {"steps": 10, "targets": 1})],
    ["random", "deterministic"],
)
# A random network is asked many times for each answer.
RANDOM = Effort(
    studies=24, suite=SHORT, ladder=4.0, steps=(1, 5, 20), iterations=10, queries=200, points=20, together=32
)
