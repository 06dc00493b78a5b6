"""Randomized smoothing for several inputs: what a classifier under Gaussian noise provably answers within a radius.

Each modality m gets noise of its own deviation sigma_m. In units of the deviations all noise is one standard Gaussian,
so the answer cannot change while sqrt(sum_m (|d_m|_2 / sigma_m)^2) < R. A modality that gets no noise promises nothing,
and must not be changed.

Source: Cohen, Rosenfeld, Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

ABSTAIN = -1
Array = np.ndarray[Any, Any]
# Modality -> (N, ...) of one study with noise to (N,) classes, of one question or by question.
Answer = Callable[[dict[str, Tensor]], Array]
Answers = Callable[[dict[str, Tensor]], Mapping[str, Array]]


@dataclass(frozen=True)
class Certificate:
    """What is promised of one study and task.

    Args:
        answer: The smoothed classifier's class, ``ABSTAIN`` where too few draws agree.
        radius: R, in deviations; 0 where it abstains.
        bound: Lower bound of the chance that noise gives the answer.
        chosen: The class that most of the first draws gave, also where it abstains.
    """

    answer: int
    radius: float
    bound: float
    chosen: int = ABSTAIN

    def radius_of(self, sigma: float) -> float:
        """Return the l2 radius in which one modality of a deviation may change, the others kept: R sigma."""
        return self.radius * sigma


def certify(
    answer: Answer,
    inputs: Mapping[str, Tensor],
    sigma: Mapping[str, float],
    *,
    selection: int = 100,
    draws: int = 1000,
    level: float = 0.001,
    batch: int = 100,
    generator: torch.Generator | None = None,
) -> Certificate:
    """Certify one study.

    Args:
        answer: The base classifier's classes of several noisy copies.
        inputs: Modality -> (...) of the study; images in [0, 1]. Noise leads out of the range: what ``answer`` does
            with that, as clipping, is part of the base classifier, and the promise holds all the same.
        sigma: Modality -> deviation of its noise.
        selection: Draws that choose the class.
        draws: Draws that bound its chance.
        level: Chance that the promise is wrong.
        batch: Copies at a time.
        generator: Of the noise, on the CPU.

    Returns:
        The certificate.

    Raises:
        ValueError: A deviation of a modality that the study lacks or that is not positive, too few draws, or a level
            outside (0, 1).
    """
    found = certify_all(
        lambda noisy: {"": answer(noisy)}, inputs, sigma, selection=selection, draws=draws, level=level, batch=batch,
        generator=generator,
    )  # fmt: skip
    return found[""]


def certify_all(
    answers: Answers,
    inputs: Mapping[str, Tensor],
    sigma: Mapping[str, float],
    *,
    selection: int = 100,
    draws: int = 1000,
    level: float = 0.001,
    batch: int = 100,
    generator: torch.Generator | None = None,
) -> dict[str, Certificate]:
    """Certify one study in several questions with the same noise; the level holds for each question by itself.

    Args:
        answers: The base classifier's classes of several noisy copies, by question.
        inputs: See ``certify``.
        sigma: See ``certify``.
        selection: See ``certify``.
        draws: See ``certify``.
        level: See ``certify``.
        batch: See ``certify``.
        generator: Of the noise, on any device.

    Returns:
        Question -> certificate.

    Raises:
        ValueError: As ``certify``.
    """
    for name, deviation in sigma.items():
        if name not in inputs:
            raise ValueError(f"sigma names modality '{name}', which the study lacks")
        if not deviation > 0:
            raise ValueError(f"sigma of modality '{name}' must be positive, got {deviation}")
    if min(selection, draws, batch) < 1 or not 0 < level < 1 or not sigma:
        raise ValueError("certifying needs a sigma, at least one draw each, and a level between 0 and 1")
    first = _counts(answers, inputs, sigma, selection, batch, generator)
    second = _counts(answers, inputs, sigma, draws, batch, generator)
    found = {}
    for question, chosen in first.items():
        best = max(chosen, key=lambda label: (chosen[label], -label))
        bound = lower_bound(second[question].get(best, 0), draws, level)
        sure = bound > 0.5
        radius = float(stats.norm.ppf(bound)) if sure else 0.0
        found[question] = Certificate(best if sure else ABSTAIN, radius, bound, best)
    return found


def lower_bound(agreeing: int, draws: int, level: float) -> float:
    """Return Clopper and Pearson's one-sided lower bound of a chance.

    Args:
        agreeing: Draws that agreed.
        draws: Of so many.
        level: Chance that the bound is too high.

    >>> round(lower_bound(990, 1000, 0.001), 4), lower_bound(0, 10, 0.001)
    (0.976, 0.0)
    """
    return 0.0 if agreeing == 0 else float(stats.beta.ppf(level, agreeing, draws - agreeing + 1))


def certified_accuracy(certificates: list[Certificate], labels: Array, radii: Array) -> Array:
    """Return the share of studies that are answered rightly and certified at each radius.

    Args:
        certificates: One a study.
        labels: (N,).
        radii: (R,), in deviations; at 0 abstentions count as wrong.
    """
    right = np.array([each.answer == label for each, label in zip(certificates, labels, strict=True)])
    found = np.array([each.radius for each in certificates])
    shares: Array = (right[:, None] & (found[:, None] >= radii[None, :])).mean(0)
    return shares


def _counts(
    answers: Answers,
    inputs: Mapping[str, Tensor],
    sigma: Mapping[str, float],
    draws: int,
    batch: int,
    generator: torch.Generator | None,
) -> dict[str, dict[int, int]]:
    """Question -> class -> how many noisy copies are taken for it."""
    found: dict[str, dict[int, int]] = {}
    device = "cpu" if generator is None else generator.device
    for start in range(0, draws, batch):
        copies = min(batch, draws - start)
        noisy = {}
        for name, x in inputs.items():
            several = x.expand(copies, *x.shape)
            if name in sigma:
                noise = torch.randn(several.shape, generator=generator, device=device).to(x)
                several = torch.add(several, noise, alpha=sigma[name])
            noisy[name] = several
        for question, labels in answers(noisy).items():
            own = found.setdefault(question, {})
            for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
                own[int(label)] = own.get(int(label), 0) + int(count)
    return found
