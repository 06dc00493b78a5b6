"""A suite put to studies: attack after attack on what still stands, and the worst point found for each study."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mailnet.attacks import Problem, get_attack
from mailnet.attacks.asked import Asked
from mailnet.robustness.attack.network import refuse_probabilities
from mailnet.robustness.attack.suites import Member, Suite
from mailnet.training.device import seed_of

SELECT = 20  # fresh draws of a random network that choose between the points of two attacks


@dataclass(frozen=True)
class Progress:
    """Where a suite is, after its first ``done`` attacks.

    Args:
        x: (B, D), the worst point of each study so far.
        chance: (B,), the share of draws at which the study is not broken there; of a deterministic network 0 or 1.
        after: (done + 1, B), the chance before the first attack and after each.
        seconds: Of each attack.
        passes: Forward passes of each attack, all studies added.
    """

    x: Tensor
    chance: Tensor
    after: Tensor
    seconds: tuple[float, ...] = ()
    passes: tuple[int, ...] = ()

    @property
    def done(self) -> int:
        """Attacks that are behind."""
        return len(self.seconds)


def run_suite(problem: Problem, suite: Suite, *, seed: int = 0, start: Progress | None = None) -> Iterator[Progress]:
    """Run the attacks of a suite one after the other; yield where they are, first before any.

    A study is attacked by the next one unless it is broken already: of a random network, at each of ``SELECT`` fresh
    draws. Attacks on a random network go on until every draw that they average is wrong (``Problem.sure``), and a
    point is kept where it is right less often than the last one, again by fresh draws, so that a lucky draw is not
    taken for an attack.

    Args:
        problem: The studies; its ``draws`` are averaged. One that is frozen or has its noise off is deterministic.
        suite: The attacks.
        seed: Of the attacks; each has random numbers of its own, so that a run that goes on from ``start`` is the same.
        start: Where an interrupted run was, or where the search shall begin: at points that are allowed here too, as
            those of a smaller radius, with none of the attacks done.

    Yields:
        The progress after each attack, the last of which is the result.

    Raises:
        ValueError: The network returns probabilities.
    """
    if start is None:
        asked = _asked(problem, problem.space.clean, _generator(seed, 0))  # an attack's are 3, 4, ...
        refuse_probabilities(problem.tasks, asked.each[0])
        chance = _share(problem, asked)
        start = Progress(problem.space.clean, chance, chance[None])
    yield start
    for number, member in enumerate(suite.members[start.done :], start.done + 1):
        start = _attack(problem, member, start, seed, number)
        yield start


def _attack(problem: Problem, member: Member, before: Progress, seed: int, number: int) -> Progress:
    began, asked = time.perf_counter(), int(problem.questions.sum())
    x, chance = before.x.clone(), before.chance.clone()
    rows = (chance > 0).nonzero()[:, 0]
    # A network that draws torch's own numbers, as by dropout, has no noise that could be off.
    possible = not (problem.random and problem.noise == "sample" and member.source == "off" and problem.source is None)
    if len(rows) and possible:
        part = problem.take(rows)
        generator, draws = (_generator(seed, 3 * number + place) for place in range(2))
        attack = get_attack(member.attack, **member.options)
        found = attack(_as_met(part, member, draws), generator=generator, **member.options)
        share = standing_share(part, found, _generator(seed, 3 * number + 2))
        worse = share <= chance[rows]
        x[rows[worse]], chance[rows[worse]] = found[worse], share[worse]
    return Progress(
        x,
        chance,
        torch.cat([before.after, chance[None]]),
        (*before.seconds, time.perf_counter() - began),
        (*before.passes, int(problem.questions.sum()) - asked),
    )


def _as_met(problem: Problem, member: Member, generator: torch.Generator) -> Problem:
    """The studies put to the network as the attack looks at it."""
    if not problem.random or problem.noise != "sample":
        return problem
    if member.source != "sample":
        return problem.with_draws(1, noise=member.source)
    draws = problem.draws if member.draws is None else min(member.draws, problem.draws)
    return problem.with_draws(draws, generator=generator)


def standing_share(problem: Problem, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return (B,), the share of ``SELECT`` fresh draws at which studies are not broken at rows (B, D).

    Of a deterministic network, one that is frozen among them, 1 or 0. Studies that cannot be broken, for want of a
    label, count as standing.

    Args:
        problem: The studies.
        x: The rows.
        generator: Of the draws.
    """
    return _share(problem, _asked(problem, x, generator))


def _asked(problem: Problem, x: Tensor, generator: torch.Generator | None) -> Asked:
    problem = problem.with_precision("fp32")  # judged as the network answers
    if problem.random and problem.noise == "sample":
        problem = problem.with_draws(SELECT, generator=generator)
    return problem.ask(x, gradient=False)


def _share(problem: Problem, asked: Asked) -> Tensor:
    answers = asked.each if problem.random and problem.noise == "sample" else [asked.logits]
    broken = [problem.objective.broken(problem.tasks, logits, problem.batch.targets) for logits in answers]
    return 1 - torch.stack(broken).to(problem.space.clean).mean(0)


def _generator(seed: int, place: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, "suite", place))
