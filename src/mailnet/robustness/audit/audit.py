"""The audit of a network under attack: whether what attacks leave is robustness, or gradients that are masked.

Sources: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018; Carlini et al., "On
evaluating adversarial robustness", 2019; Tramer et al., "On adaptive attacks to adversarial example defenses", NeurIPS
2020; Pintor et al., "Indicators of attack failure", NeurIPS 2022.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from mailnet.attacks import Objective, Problem, Threat, is_random
from mailnet.attacks.randomness import NoiseUse
from mailnet.nn.batch import Batch
from mailnet.robustness.audit.bench import Bench
from mailnet.robustness.audit.check import Check
from mailnet.robustness.audit.curves import draws_converged, falls_with_radius, reaches_zero, steps_curve
from mailnet.robustness.audit.effort import FULL, RANDOM, Effort
from mailnet.robustness.audit.gradients import clips_hide_nothing, draws_agree, loss_rises, no_zero_gradients
from mailnet.robustness.audit.points import points_hold
from mailnet.robustness.audit.rivals import (
    iterative_beats_single_step,
    random_search_finds_nothing,
    suite_leaves_no_more,
    white_box_beats_black_box,
    white_box_beats_transfer,
)

_CHECKS: tuple[Callable[[Bench], Check | tuple[Check, ...]], ...] = (
    no_zero_gradients,
    draws_agree,
    reaches_zero,
    falls_with_radius,
    steps_curve,
    loss_rises,
    iterative_beats_single_step,
    white_box_beats_black_box,
    white_box_beats_transfer,
    random_search_finds_nothing,
    suite_leaves_no_more,
    clips_hide_nothing,
    draws_converged,
    points_hold,
)
PARTS = len(_CHECKS)  # how often ``advance`` is called


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        checks: All of them.
        studies: On which they were made.
        draws: In use for gradients of a random network; 1 for others.
        random: Whether the network draws random numbers.
        passes: Forward passes spent, all studies added.
        seconds: Time spent.
    """

    checks: tuple[Check, ...]
    studies: int
    draws: int
    random: bool
    passes: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [check.name for check in self.checks if check.passed is False]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a result card."""
        return {
            "passed": self.passed,
            "failed": self.failed,
            "checks": [check.as_dict() for check in self.checks],
            "studies": self.studies,
            "draws": self.draws,
            "random": self.random,
            "passes": self.passes,
            "seconds": self.seconds,
        }


def run_audit(
    model: nn.Module,
    batch: Batch,
    threat: Threat,
    objective: Objective | None = None,
    *,
    draws: int = 1,
    seed: int = 0,
    sources: Sequence[nn.Module] = (),
    advance: Callable[[int], None] | None = None,
    noise: NoiseUse = "sample",
    effort: Effort | None = None,
    together: int | None = None,
    straight_through: bool = False,
) -> Audit:
    """Check whether attacks on a network can be believed.

    Studies are drawn at random from those that the network answers rightly, so that each tells something. Attacks are
    compared on the same studies at the threat's radius, and where nearly all or nothing stands there, at another one
    too. The result depends on nothing but the arguments.

    Args:
        model: The network, in evaluation mode.
        batch: Studies with labels, on the network's device; of more than are needed, some are drawn.
        threat: The threat model.
        objective: What is attacked.
        draws: Averaged for each gradient of a random network, which are to be judged.
        seed: Of all random numbers.
        sources: Other networks with the same modalities and tasks, for attacks that are carried over.
        advance: Called with 1 after each of ``PARTS`` parts.
        noise: How a random network is met, see ``Problem``.
        effort: How much is spent; default ``FULL`` or, of a random network, ``RANDOM``.
        together: Studies in one forward pass, as memory allows; default as ``effort`` says.
        straight_through: Whether gradients pass through clips, see ``Problem``.

    Returns:
        The audit. A check that does not apply has ``passed`` None and says why.

    Raises:
        ValueError: As of ``Problem``; or fewer than 10 studies that the attacker can reach and that are answered
            rightly, of which nothing could be said.
    """
    start = time.perf_counter()
    first = slice(0, 8)
    random = noise == "sample" and is_random(
        model,
        {name: x[first] for name, x in batch.inputs.items()},
        {name: here[first] for name, here in batch.present.items()},
    )
    problem = _met(model, batch, threat, objective, draws, noise, random)
    problem.smooth = straight_through
    chosen = effort or (RANDOM if random else FULL)
    chosen = replace(chosen, together=together or chosen.together)
    bench = Bench(problem, random=random, sources=sources, effort=chosen, seed=seed)
    checks: list[Check] = []
    for make in _CHECKS:
        began, spent = time.perf_counter(), bench.passes
        found = make(bench)
        several = found if isinstance(found, tuple) else (found,)
        cost, seconds = bench.passes - spent, time.perf_counter() - began
        checks += [several[0].spent(cost, seconds), *several[1:]]  # what several share, the first has paid
        if advance is not None:
            advance(1)
    return Audit(tuple(checks), len(bench), draws, random, bench.passes, time.perf_counter() - start)


def _met(
    model: nn.Module,
    batch: Batch,
    threat: Threat,
    objective: Objective | None,
    draws: int,
    noise: NoiseUse,
    random: bool,
) -> Problem:
    if not random:
        problem = Problem(model, batch, threat, objective, draws=draws, noise=noise)
        # A network that could draw but does not, as with noise of no strength, needs no repeated questions.
        problem.random = problem.random and noise != "sample"
        return problem
    # Several draws, so that the problem looks for random numbers that are not from a source of ours.
    return Problem(model, batch, threat, objective, draws=max(draws, 2)).with_draws(draws)
