"""Cells: each one attacker against one network, as it draws or does not draw; which cells a measurement has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mailnet.attacks.randomness import NoiseUse
from mailnet.attacks.threat import Norm
from mailnet.bundle.predictor import DRAWS
from mailnet.robustness.attack.suites import Suite, get_suite
from mailnet.specs import TaskSpec


@dataclass(frozen=True, eq=False)
class Cell:
    """One attacker.

    Args:
        norm: Of the threat.
        eps: Modality -> radius of what the attacker holds.
        tasks: What is attacked: one task, or several of which a study is broken only where all are wrong.
        suite: Name of the attacks.
        draws: Of a random network, averaged by each gradient.
        noise: How a random network is met: ``sample`` as it is, ``off`` without noise, ``frozen`` with the very draws
            that the deployed model makes; None for networks that draw nothing.
        exemplary: Whether examples are kept of it.
    """

    norm: Norm
    eps: Mapping[str, float]
    tasks: tuple[str, ...]
    suite: str
    draws: int = 1
    noise: NoiseUse | None = None
    exemplary: bool = False

    def continues(self, other: Cell) -> bool:
        """Return whether what the attacker of another cell found is allowed to this one, and of use to it."""
        same = ("norm", "tasks", "suite", "draws", "noise")
        return (
            get_suite(self.suite).nested
            and all(getattr(self, name) == getattr(other, name) for name in same)
            and all(radius <= self.eps.get(name, 0.0) for name, radius in other.eps.items())
        )

    def works(self, tasks: Mapping[str, TaskSpec]) -> list[int]:
        """Return of each attack of the suite about how much work a study is, by which progress is shown."""
        classes = max(len(tasks[name].classes) for name in self.tasks)
        return [member.work(self.draws, classes) for member in get_suite(self.suite).members]

    def as_dict(self) -> dict[str, Any]:
        """Return what the card says of the attacker."""
        words = {"sample": "sample", "off": "off", "frozen": "known seed", None: None}
        return {
            "norm": self.norm,
            "eps": dict(self.eps),
            "held": list(self.eps),
            "tasks": list(self.tasks),
            "suite": self.suite,
            "noise": words[self.noise],
            "draws": self.draws,
        }


def plan_cells(
    norm: Norm,
    levels: Sequence[Mapping[str, float]],
    attacked: Sequence[tuple[str, ...]],
    suite: Suite,
    *,
    random: bool,
    draws: int,
    each_modality: bool,
    modes: bool,
) -> list[Cell]:
    """Return the cells in an order in which each can go on from those before it.

    Args:
        norm: Of the threat.
        levels: Modality -> radius of each level, rising.
        attacked: Tasks that are attacked together, one group after the other.
        suite: Of the network as it is.
        random: Whether it draws.
        draws: That are averaged.
        each_modality: Whether each modality is also attacked alone, at the middle level.
        modes: Whether a random network is also met with its noise off and with a known seed, at the middle level.
    """
    middle = levels[middle_of(levels)]
    own: dict[str, Any] = {"suite": suite.name, "draws": draws if random else 1, "noise": "sample" if random else None}
    # Without fresh draws a network is deterministic.
    still = suite.name if "deterministic" in suite.fits else "standard"
    cells: list[Cell] = []
    for tasks in attacked:
        # Of a task that has an attacker of its own, those of several at once would show the same studies again.
        shown = not any(set(other) < set(tasks) for other in attacked)
        if each_modality and len(middle) > 1:
            cells += [Cell(norm, {name: radius}, tasks, **own) for name, radius in middle.items()]
        cells += [Cell(norm, level, tasks, **own, exemplary=shown and level is middle) for level in levels]
        if random and modes:
            cells.append(Cell(norm, middle, tasks, still, noise="off"))
            cells.append(Cell(norm, middle, tasks, still, draws=DRAWS, noise="frozen"))
    return cells


def middle_of(levels: Sequence[Any]) -> int:
    """Return the place of the middle level, the upper one of two.

    >>> middle_of([1, 2, 4, 8]), middle_of([4])
    (2, 0)
    """
    return len(levels) // 2
