"""Checks of attacks against one another: those that see more must find more.

Sources: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018; Carlini et al., "On
evaluating adversarial robustness", 2019; Tramer et al., "On adaptive attacks to adversarial example defenses", NeurIPS
2020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from mailnet.attacks import Problem, get_attack
from mailnet.attacks.transfer import transfer
from mailnet.robustness.attack.suites import Member
from mailnet.robustness.audit.bench import TRAVEL, Bench, Left
from mailnet.robustness.audit.check import SURE, Check, absent, beyond_chance, exceeds

Found: TypeAlias = Callable[[float], Left]
ALLOWED = "(1% allowed beyond chance)"
CARRIED = 20  # steps on another network
BLACK_BOX_DRAWS = 5  # of a random network, each question


def iterative_beats_single_step(bench: Bench) -> Check:
    """Many small steps leave no more than one large one."""

    def single(factor: float) -> Left:
        return bench.named(bench.climbing(bench.at(factor)), "fgsm", factor)

    def iterative(factor: float) -> Left:
        steps = bench.effort.iterations
        # Of a random network a few wrong draws are no reason to stop: the single step goes all the way, too.
        options = {"steps": steps, "step": TRAVEL / steps, "early_drop": not bench.random}
        return bench.named(bench.climbing(bench.at(factor)), "bim", factor, **options)

    return _compare(
        bench,
        "iterative_beats_single_step",
        ("iterative", iterative),
        {"single_step": single},
        f"{bench.effort.iterations} steps of {TRAVEL:g} radii together leave no more than a single step {ALLOWED}",
        "The gradient near a study leads elsewhere than that at it: small steps are trapped.",
    )


def white_box_beats_black_box(bench: Bench) -> Check:
    """Attacks that see gradients leave no more than one that only asks for answers."""

    def square(factor: float) -> Left:
        problem = bench.at(factor)
        if bench.random:
            problem = problem.with_draws(min(problem.draws, BLACK_BOX_DRAWS))
        return bench.named(problem, "square", factor, queries=bench.effort.queries)

    return _compare(
        bench,
        "white_box_beats_black_box",
        ("white_box", bench.reference),
        {"black_box": square},
        f"Gradient attacks leave no more than Square with {bench.effort.queries} questions {ALLOWED}",
        "Who cannot see into the network finds more than who can: its gradients are masked.",
    )


def white_box_beats_transfer(bench: Bench) -> Check:
    """Attacks on the network leave no more than points found on other networks, or on it without its fresh noise."""
    name = "white_box_beats_transfer"
    wanted = f"Attacks on the network leave no more than those carried over from elsewhere {ALLOWED}"
    ways: dict[str, Found] = {}
    if bench.sources:
        ways["other_networks"] = lambda factor: bench.run(
            bench.at(factor),
            lambda part, generator: transfer(part, bench.sources, steps=CARRIED, generator=generator),
            "transfer",
            factor,
        )
    if bench.random:
        ways["frozen"] = lambda factor: _carried(bench, factor, "frozen")
        if bench.problem.source is not None:
            ways["noise_off"] = lambda factor: _carried(bench, factor, "off")
    if not ways:
        return absent(name, "No other network was given, and this one draws no random numbers.", wanted)
    meaning = "Another network's gradients find more than the network's own: these are masked."
    return _compare(bench, name, ("white_box", bench.reference), ways, wanted, meaning)


def random_search_finds_nothing(bench: Bench) -> Check:
    """Random points of the ball and its corners break nothing that attacks missed."""
    count = bench.effort.points
    figure: dict[str, float] = {}
    passed = True
    for factor in bench.factors:
        left = bench.reference(factor)
        for name, drawn in (("uniform", _uniform), ("corners", _corners)):
            found = bench.run(bench.at(factor), partial(_search, drawn, count), name, factor)
            missed = (left.share - found.share > SURE).double()
            figure[f"only_by_{name}_at_{factor:g}"] = float(missed.mean())
            passed &= not exceeds(missed)
    wanted = f"{count} uniform points and {count} corners break at most 1% of the studies that attacks missed"
    meaning = "Chance finds what gradients do not: they are masked."
    return Check("random_search_finds_nothing", passed, figure, wanted, meaning)


def suite_leaves_no_more(bench: Bench) -> Check:
    """A suite leaves no more than each of its attacks alone."""
    ways: dict[str, Found] = {}
    for member in bench.suite.members:
        ways[member.name] = partial(_alone, bench, member)
    return _compare(
        bench,
        "suite_leaves_no_more",
        ("suite", bench.reference),
        ways,
        f"The suite '{bench.suite.name}' leaves no more than each of its attacks alone {ALLOWED}",
        "The best point of several attacks was not kept: the suite's figure is too high.",
        [bench.telling],
    )


def _compare(
    bench: Bench,
    name: str,
    strong: tuple[str, Found],
    weak: dict[str, Found],
    wanted: str,
    meaning: str,
    factors: Sequence[float] | None = None,
) -> Check:
    """What should be the stronger attack against the others, on the same studies, at each radius that tells."""
    figure: dict[str, float] = {}
    passed = True
    for factor in factors or bench.factors:
        best, sure = strong[1](factor), 0.0
        figure[f"{strong[0]}_at_{factor:g}"] = best.accuracy
        for other, way in weak.items():
            left = way(factor)
            figure[f"{other}_at_{factor:g}"] = left.accuracy
            more = best.share - left.share
            sure = max(sure, beyond_chance(more))
            passed &= not exceeds(more)
        figure[f"beyond_chance_at_{factor:g}"] = sure
    if bench.problem.draws < bench.draws:
        figure["averaged"] = bench.problem.draws
    return Check(name, passed, figure, wanted, meaning)


def _alone(bench: Bench, member: Member, factor: float) -> Left:
    # By the suite's random numbers, so that its first attack does the same as alone.
    return bench.suite_on(bench.at(factor), factor, suite=replace(bench.suite, members=[member]))


def _carried(bench: Bench, factor: float, noise: str) -> Left:
    """Points found on the network without fresh noise, scored with it."""
    attack = get_attack("mim")
    there = bench.at(factor).with_draws(1, noise="off" if noise == "off" else "frozen")
    x = torch.cat([attack(part, steps=CARRIED, early_drop=False) for part in bench.chunks(there)])
    return Left(x, bench.score(bench.at(factor), x))


def _search(
    draw: Callable[[Problem, torch.Generator], Tensor], count: int, problem: Problem, generator: torch.Generator
) -> Tensor:
    """The first of random points that breaks each study, else the clean one."""
    if problem.random and problem.noise == "sample":
        problem = problem.with_draws(min(problem.draws, BLACK_BOX_DRAWS))
    found = problem.space.clean.clone()
    rows = torch.arange(len(problem), device=found.device)
    for _ in range(count):
        if not len(rows):
            break
        part = problem.take(rows)
        x = draw(part, generator)
        broken = part.ask(x, gradient=False).broken
        found[rows[broken]] = x[broken]
        rows = rows[~broken]
    return found


def _uniform(problem: Problem, generator: torch.Generator) -> Tensor:
    return problem.space.random(generator)


def _corners(problem: Problem, generator: torch.Generator) -> Tensor:
    """Of ``linf`` the corners of the ball; of other norms points of its surface."""
    space = problem.space
    step = space.uniform(generator)
    if space.threat.norm == "linf":
        step = step.sign() * space.spread(space.radius)
    else:
        step = step * space.spread(space.radius / space.norms(step).clamp(min=1e-12))
    return space.project(space.clean + step)
