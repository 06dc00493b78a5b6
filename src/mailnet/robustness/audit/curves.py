"""Checks of curves: accuracy under attack against the radius, against steps, and against averaged draws.

Sources: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018; Carlini et al., "On
evaluating adversarial robustness", 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mailnet.attacks import Problem, get_attack
from mailnet.robustness.audit.bench import LEAST, Bench, Left
from mailnet.robustness.audit.check import SURE, TOLERANCE, Check, absent, exceeds
from mailnet.robustness.audit.substitutes import with_substitutes

SETTLED = 0.05  # of the studies, which more steps or draws may still gain
TRAVEL = 2.5  # radii that all steps of a climb cover together
SHORT = 10  # steps at each number of draws


def reaches_zero(bench: Bench) -> Check:
    """Where the attacker may do anything, nothing stands that another image in its place would break."""
    name, whole = "reaches_zero", bench.whole()
    left, held = bench.reference(whole), holds_all(bench.problem)
    wanted = (
        "Where all is in reach, other studies' images and grey, black and white ones in a study's place break at most"
        f" {TOLERANCE:.0%} of the studies that attacks left{' (beyond chance)' if bench.random else ''}"
    )
    figure = {"at": whole, "accuracy": float(left.share.mean()), "studies_wholly_held": int(held.sum())}
    curve = _points(bench.curve)
    if int(held.sum()) < LEAST:
        meaning = "The attacker does not hold all that studies have, so the rest may well keep answers right."
        return Check(name, None, figure, wanted, meaning, curve)
    share, least = left.share[held], with_substitutes(bench, whole, left).share[held]
    missed = (share - least > SURE).double()
    figure |= {
        "accuracy": float(share.mean()),
        "only_by_other_images": float(missed.mean()),
        "broken_by_nothing": float((least > SURE).double().mean()),
    }
    if bool((least > SURE).all()):
        meaning = "No image at hand is answered otherwise, so that nothing can be said of the attacks."
        return Check(name, None, figure, wanted, meaning, curve)
    # Of a deterministic network a study that is missed is known to be; draws differ by chance.
    passed = not exceeds(missed) if bench.random else float(missed.mean()) <= TOLERANCE
    meaning = (
        "Attacks fail where putting another image in a study's place does not: it is not robustness that stops them."
    )
    return Check(name, passed, figure, wanted, meaning, curve)


def holds_all(problem: Problem) -> Tensor:
    """Return (B,) bool, whether the attacker may change every value of every modality that a study has."""
    space = problem.space
    others = [here for name, here in problem.batch.present.items() if name not in space.names]
    known = torch.stack([problem.batch.present[name] for name in space.names], 1).to(space.clean)  # (B, M)
    held = (space.free | (space.spread(known) == 0)).all(1)
    return held & ~torch.stack(others).any(0) if others else held


def falls_with_radius(bench: Bench) -> Check:
    """Larger balls leave no more."""
    wanted = "A larger radius never leaves more than a smaller one (1% allowed beyond chance)"
    meaning = "Attacks lose their way in larger balls, which hold all points of the smaller ones."
    return _falls("falls_with_radius", bench.curve, wanted, meaning)


def steps_curve(bench: Bench) -> tuple[Check, Check]:
    """More steps leave no more; the last ones gain next to nothing."""
    problem = bench.climbing(bench.at(bench.telling))
    found: dict[float, Left] = {}
    for steps in bench.effort.steps:
        step = min(TRAVEL / steps, 1.0)
        found[steps] = bench.named(problem, "pgd", "steps", steps=steps, step=step, early_drop=False)
    wanted = "More steps of PGD, each so much shorter, never leave more than fewer do (1% allowed beyond chance)"
    meaning = "Gradients lead astray: following them more closely finds less."
    falls = _falls("falls_with_steps", found, wanted, meaning, at=bench.telling)
    before, last = list(found)[-2:]
    gain = found[before].share - found[last].share
    figure = {"at": bench.telling, "steps": last, "gain_of_the_last": float(gain.mean())}
    suffice = Check(
        "steps_suffice",
        _settled(found[before], found[last]),
        figure,
        f"{last} steps leave at most {SETTLED:.0%} less than {before} do",
        "Attacks stop too early: more steps find more.",
        falls.curve,
    )
    return falls, suffice


def draws_converged(bench: Bench) -> Check:
    """More averaged draws than are in use find no more."""
    name = "draws_converged"
    wanted = (
        f"The most draws leave at most {SETTLED:.0%} less than the next fewer and than those in use, by fresh draws"
    )
    if not bench.random:
        return absent(name, "The network draws no random numbers.", wanted)
    problem = bench.climbing(bench.at(bench.telling))
    attack = get_attack("apgd")
    found: dict[float, Left] = {}
    for draws in sorted({*bench.effort.draws, bench.draws}):
        found[draws] = bench.run(
            problem.with_draws(draws), lambda part, generator: attack(part, steps=SHORT, generator=generator), "eot"
        )
    before, last = list(found)[-2:]
    gains = {"gain_of_the_last": before, "gain_over_draws_in_use": bench.draws}
    figure = {
        "at": bench.telling,
        "draws": bench.draws,
        "most_draws": last,
        **{key: found[few].accuracy - found[last].accuracy for key, few in gains.items()},
    }
    passed = all(_settled(found[few], found[last]) for few in gains.values())
    meaning = "Averaging more draws finds more: the accuracy under attack is too high by what is missing."
    return Check(name, passed, figure, wanted, meaning, _points(found))


def _settled(fewer: Left, more: Left) -> bool:
    gain = fewer.share - more.share
    return float(gain.mean()) <= SETTLED


def _falls(name: str, found: Mapping[float, Left], wanted: str, meaning: str, **extra: Any) -> Check:
    """Each point against the lowest before it, on the same studies."""
    keys = list(found)
    lowest, passed, rise, where = keys[0], True, 0.0, None
    for key in keys[1:]:
        more = found[key].share - found[lowest].share
        passed &= not exceeds(more)
        if float(more.mean()) > rise:
            rise, where = float(more.mean()), key
        if found[key].accuracy < found[lowest].accuracy:
            lowest = key
    figure = {**extra, "largest_rise": rise, "rise_at": where}
    return Check(name, passed, figure, wanted, meaning, _points(found))


def _points(found: Mapping[float, Left]) -> tuple[tuple[float, float], ...]:
    return tuple((float(key), left.accuracy) for key, left in found.items())
