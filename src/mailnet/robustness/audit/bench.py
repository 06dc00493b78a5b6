"""The bench of an audit: studies that the network answers rightly, attacks put to them, and what these leave."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.attacks import Problem, get_attack
from mailnet.attacks.threat import Space
from mailnet.robustness.attack.run_suite import Progress, run_suite, standing_share
from mailnet.robustness.attack.suites import Suite
from mailnet.robustness.audit.effort import Effort
from mailnet.robustness.audit.slopes import Slopes, measure_slopes
from mailnet.training.device import seed_of

TRAVEL = 2.0  # radii that steps of equal length cover together
LEAST = 10  # studies, below which comparisons say nothing
STEPS = 20  # of a climb that joins the suite
SMALLEST = 0.25  # radius of the curve, as a multiple of the threat's
# Shares of the studies that stand at the threat's radius: outside of these, attacks are compared at another one too.
TELLING = (0.1, 0.9)
# Below half of this share of the studies the curve need not go on; the noise of a random network is right at times.
FLOOR, RANDOM_FLOOR = 0.01, 0.05


@dataclass(frozen=True)
class Left:
    """What an attack left.

    Args:
        x: (B, D), its points.
        share: (B,), the share of fresh draws at which the network still answers rightly; else 0 or 1.
    """

    x: Tensor
    share: Tensor

    @property
    def accuracy(self) -> float:
        """Mean share."""
        return float(self.share.mean())


class TooFewStudies(ValueError):
    """Nothing could be said of so few studies."""


class Bench:
    """Studies on which attacks are compared.

    Args:
        problem: All studies that there are, put to the network as its attacks do.
        random: Whether the network is met with fresh random numbers.
        sources: Other networks.
        effort: How much is spent.
        seed: Of all that is random.

    Raises:
        TooFewStudies: Fewer than ``LEAST`` studies that can be attacked and are answered rightly.
    """

    def __init__(
        self, problem: Problem, *, random: bool, sources: Sequence[nn.Module], effort: Effort, seed: int
    ) -> None:
        self.random, self.sources, self.effort, self.seed = random, tuple(sources), effort, seed
        self.counter = problem.questions
        self.draws = problem.draws
        self.suite, self.floor = effort.suite, RANDOM_FLOOR if random else FLOOR
        problem.sure = random
        self.problem = self.offered = problem
        share = self.score(problem, problem.space.clean)
        reachable = problem.known().any(0) & problem.space.free.any(1)
        chosen = (reachable & (share >= 0.5)).nonzero()[:, 0]
        if len(chosen) < LEAST:
            raise TooFewStudies(
                f"an audit needs {LEAST} studies with a label that the attacker can reach and the network answers"
                f" rightly, got {len(chosen)}"
            )
        order = torch.randperm(len(chosen), generator=self.generator("studies")).to(chosen.device)
        self.problem = problem.take(chosen[order[: effort.studies]].sort().values)
        if random and self.draws > effort.averaged:
            self.problem = self.problem.with_draws(effort.averaged)
        self._references: dict[float, Left] = {}

    def __len__(self) -> int:
        return len(self.problem)

    @property
    def passes(self) -> int:
        """Forward passes so far, all studies added."""
        return int(self.counter.sum())

    def generator(self, *place: str | float) -> torch.Generator:
        """Return a generator of a place's own, so that no check depends on which others are made."""
        return torch.Generator().manual_seed(seed_of(self.seed, "audit", *(str(part) for part in place)))

    def chunks(self, problem: Problem) -> list[Problem]:
        """Return a problem in parts that fit into memory."""
        rows = torch.arange(len(problem), device=problem.space.clean.device)
        return [problem.take(part) for part in torch.split(rows, self.effort.together)]

    def score(self, problem: Problem, x: Tensor, place: str = "score") -> Tensor:
        """Return (B,), the share of fresh draws at which rows (B, D) stand; a place has the same draws each time."""
        generator = self.generator(place)
        parts = torch.split(x, self.effort.together)
        return torch.cat([standing_share(part, rows, generator)
                          for part, rows in zip(self.chunks(problem), parts, strict=True)])  # fmt: skip

    def run(self, problem: Problem, attack: Callable[[Problem, torch.Generator], Tensor], *place: str | float) -> Left:
        """Return what an attack leaves of a problem: as it looks at the network, and asked again by fresh draws.

        Args:
            problem: As the attack looks at the network.
            attack: From a problem and a generator to rows (B, D).
            place: Of the random numbers.
        """
        generator, draws = self.generator("attack", *place), self.generator("draws", *place)
        met = problem.with_draws(problem.draws, generator=draws) if self.random else problem
        x = torch.cat([attack(part, generator) for part in self.chunks(met)])
        return Left(x, self.score(self.asked(problem), x))

    def named(self, problem: Problem, name: str, *place: str | float, **options: Any) -> Left:
        """Return what an attack of that name leaves."""
        attack = get_attack(name, **options)
        return self.run(problem, lambda part, generator: attack(part, generator=generator, **options), name, *place)

    def asked(self, problem: Problem) -> Problem:
        """Return a problem as it is scored: with the noise of the network as it is used."""
        return problem if problem.noise == self.problem.noise else problem.with_draws(1, noise=self.problem.noise)

    def at(self, factor: float) -> Problem:
        """Return the studies in balls of so many times the radius, at most the whole range."""
        larger = self.problem.enlarged(factor)
        larger.space.radius = larger.space.radius.minimum(whole_range(self.problem.space))
        return larger

    def whole(self) -> float:
        """Return the factor at which the balls hold everything."""
        space = self.problem.space
        held = space.radius > 0
        return float((whole_range(space)[held] / space.radius[held]).max())

    def suite_on(self, problem: Problem, *place: str | float, suite: Suite | None = None) -> Left:
        """Return what a suite of gradient attacks leaves, by default the audit's.

        Where the cross-entropy is saturated, what the suite leaves is attacked by the margin too: the suite's other
        loss, the ratio of logits, has tops of its own in which attacks get stuck.
        """
        found = []
        for number, part in enumerate(self.chunks(problem)):
            seed = seed_of(self.seed, "audit", "suite", *(str(one) for one in place), number)
            *_, last = run_suite(part, suite or self.suite, seed=seed)
            found.append(self._by_margin(part, last, seed) if self.slopes.saturated and suite is None else last.x)
        x = torch.cat(found)
        return Left(x, self.score(problem, x))

    def _by_margin(self, problem: Problem, before: Progress, seed: int) -> Tensor:
        x = before.x.clone()
        rows = (before.chance > 0).nonzero()[:, 0]
        if len(rows):
            part = problem.take(rows)
            met = self.climbing(part)
            attack = get_attack("apgd")
            found = attack(met, steps=STEPS, generator=torch.Generator().manual_seed(seed))
            better = standing_share(part, found, self.generator("margin")) <= before.chance[rows]
            x[rows[better]] = found[better]
        return x

    def reference(self, factor: float = 1.0) -> Left:
        """Return what the gradient attacks leave at a radius; found once."""
        if factor not in self._references:
            self._references[factor] = self.suite_on(self.at(factor), factor)
        return self._references[factor]

    @cached_property
    def curve(self) -> dict[float, Left]:
        """What the gradient attacks leave, against the radius, until next to nothing stands; the last is always the
        whole range."""
        whole, factor = self.whole(), SMALLEST
        found: dict[float, Left] = {}
        while factor < whole:
            found[factor] = self.reference(factor)
            if found[factor].accuracy <= self.floor / 2 and factor >= 1:
                break
            factor *= self.effort.ladder
        found[whole] = self.reference(whole)
        return found

    @cached_property
    def factors(self) -> list[float]:
        """Radii at which attacks are compared: the threat's, and where nearly all or nothing stands there, so that no
        attack could be told from another, the one of the curve at which nearest to half of the studies do."""
        low, high = TELLING
        if low <= self.reference().accuracy <= high:
            return [1.0]
        best = min(self.curve, key=lambda factor: abs(self.curve[factor].accuracy - 0.5))
        return [1.0] if best == 1.0 else [1.0, best]

    @cached_property
    def slopes(self) -> Slopes:
        """The gradients at the clean studies."""
        met = self.problem
        if self.random:
            met = met.with_draws(met.draws, generator=self.generator("slopes of draws"))
        return measure_slopes(self.chunks(met), self.generator("slopes"))

    @property
    def telling(self) -> float:
        """Of the radii at which attacks are compared, the one that tells most."""
        return self.factors[-1]

    def climbing(self, problem: Problem) -> Problem:
        """Return a problem with the loss that plain gradient steps follow: the attacker's, unless it is saturated."""
        if not self.slopes.saturated:
            return problem
        return problem.with_objective(replace(problem.objective, loss="margin"))


def whole_range(space: Space) -> Tensor:
    """Return (B, M), radii whose balls hold all of each modality's box."""
    room = torch.where(space.free, (space.high - space.clean).maximum(space.clean - space.low), 0.0)
    return space.norms(room)


def smoothed(problem: Problem) -> Problem:
    """Return the same studies, with gradients that pass through clips."""
    changed = copy.copy(problem)
    changed.smooth = True
    return changed
