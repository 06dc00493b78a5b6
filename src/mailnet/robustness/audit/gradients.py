"""Checks of the gradients themselves: that there are any, that draws agree about them, that they lead up.

Sources: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018; Pintor et al.,
"Indicators of attack failure: debugging and improving optimization of adversarial examples", NeurIPS 2022.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mailnet.attacks import Problem
from mailnet.robustness.attack.alignment import AIM, measure_alignment, reached_cosine
from mailnet.robustness.audit.bench import TRAVEL, Bench, smoothed
from mailnet.robustness.audit.check import Check, absent, beyond_chance, exceeds


def no_zero_gradients(bench: Bench) -> Check:
    """Gradients at the clean studies are there and finite."""
    slopes = bench.slopes
    hidden = slopes.hidden("margin")
    figure = {
        "zero_of_cross_entropy": slopes.share("ce"),
        "zero_of_margin": slopes.share("margin"),
        "not_finite": slopes.not_finite,
        "hidden": [f"{task} to {modality}" for task, modality in hidden],
        "saturated": slopes.saturated,
        "ignored": {f"{task} to {modality}": share for (task, modality), share in slopes.ignored.items() if share},
    }
    meaning = "The network hides its gradients: attacks that follow them say nothing."
    if slopes.saturated and not hidden:
        meaning = (
            "The cross-entropy is flat because the network is so confident that its gradient underflows; that of the"
            " margin is not. Attacks by cross-entropy alone say nothing; those by margin or ratio of logits do."
        )
    wanted = "No gradient of the margin is zero where the answer depends on the modality (1% allowed), all are finite"
    return Check("no_zero_gradients", not hidden and slopes.not_finite == 0, figure, wanted, meaning)


def draws_agree(bench: Bench) -> Check:
    """The mean gradient of the draws in use points where that of all draws does."""
    name = "gradients_of_draws_agree"
    wanted = f"The mean of the draws in use reaches a cosine of {AIM} with the gradient of the expectation"
    if not bench.random:
        return absent(name, "The network draws no random numbers.", wanted)
    generator = bench.generator("alignment")
    met = bench.climbing(bench.problem).with_draws(1, generator=generator)
    found = [(len(part), measure_alignment(part).cosine) for part in bench.chunks(met)]
    cosine = sum(size * each for size, each in found) / sum(size for size, _ in found)
    reached = reached_cosine(cosine, bench.draws)
    figure = {"cosine_of_two_draws": cosine, "draws": bench.draws, "reached": reached}
    meaning = "Too few draws are averaged: attacks follow the noise of the network, and find less than there is."
    # Twenty draws of a network whose draws agree are plenty; the aim is the only measure.
    return Check(name, reached >= AIM, figure, wanted, meaning)


def loss_rises(bench: Bench) -> Check:
    """Plain gradient steps raise the loss."""
    problem = bench.climbing(bench.at(bench.telling))
    climbed = bench.run(problem, partial(_climb, bench.effort.iterations), "climb")
    start, end = (_losses(bench, problem, x) for x in (problem.space.clean, climbed.x))
    failed = (end <= start).double()
    figure = {"at": bench.telling, "not_risen": float(failed.mean()), "mean_rise": float((end - start).mean())}
    wanted = f"After {bench.effort.iterations} gradient steps the loss is higher than before (1% allowed beyond chance)"
    meaning = "Gradients do not lead uphill: they are zero, wrong, or turn within the ball."
    return Check("loss_rises", not exceeds(failed), figure, wanted, meaning)


def clips_hide_nothing(bench: Bench) -> Check:
    """Gradients that pass through clips lead to no more broken studies."""
    name = "clips_hide_nothing"
    wanted = "Where gradients pass through clips, attacks leave no less (1% allowed beyond chance)"
    if bench.problem.smooth:
        return absent(name, "Gradients pass through clips in all attacks, as was asked for.", wanted)
    if not _clips(bench):
        return absent(name, "No clip of the network flattens a gradient on these studies.", wanted)
    factor = bench.telling
    plain, through = bench.reference(factor), bench.suite_on(smoothed(bench.at(factor)), factor)
    less = plain.share - through.share
    figure = {
        f"plain_at_{factor:g}": plain.accuracy,
        f"through_at_{factor:g}": through.accuracy,
        f"beyond_chance_at_{factor:g}": max(0.0, beyond_chance(less)),
    }
    meaning = "Clips that are flat hide gradients: attack with --straight-through."
    return Check(name, not exceeds(less), figure, wanted, meaning)


def _climb(steps: int, problem: Problem, generator: torch.Generator) -> Tensor:
    x = problem.space.clean
    for _ in range(steps):
        asked = problem.ask(x)
        assert asked.gradient is not None
        stride = TRAVEL / steps * problem.space.spread(problem.space.radius)
        x = problem.space.project(x + stride * problem.space.steepest(asked.gradient))
    return x


def _losses(bench: Bench, problem: Problem, x: Tensor) -> Tensor:
    """(B,) losses at rows, of a random network by the same fresh draws for all rows."""
    if bench.random:
        problem = problem.with_draws(20, generator=bench.generator("losses"))
    parts = zip(bench.chunks(problem), torch.split(x, bench.effort.together), strict=True)
    return torch.cat([part.ask(rows, gradient=False).loss for part, rows in parts])


def _clips(bench: Bench) -> bool:
    """Whether gradients through clips differ from plain ones, at the clean studies, at random points or at attacks'."""
    problem = bench.climbing(bench.problem)
    generator = bench.generator("clips")
    for x in (problem.space.clean, problem.space.random(generator), bench.reference().x):
        gradients = []
        for met in (problem, smoothed(problem)):
            one = met.with_draws(1, generator=bench.generator("clip draws")) if bench.random else met
            parts = zip(bench.chunks(one), torch.split(x, bench.effort.together), strict=True)
            gradients.append(torch.cat([_gradient(part, rows) for part, rows in parts]))
        if not torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=0.0, equal_nan=True):
            return True
    return False


def _gradient(problem: Problem, x: Tensor) -> Tensor:
    found = problem.ask(x).gradient
    assert found is not None
    return found
