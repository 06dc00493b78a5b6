"""What the certificates of many studies come to: certified accuracy against the radius, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from mailnet.metrics.bootstrap import LEVEL
from mailnet.robustness.certificate.base import Question
from mailnet.robustness.certificate.smoothing import ABSTAIN, lower_bound
from mailnet.robustness.figures import figures

STEPS = 25


@dataclass(frozen=True)
class Resample:
    """How patients are redrawn.

    Args:
        groups: (n,) whose each study is.
        draws: So many times.
        seed: Of the draws.
    """

    groups: np.ndarray
    draws: int
    seed: int


def summarise(
    question: Question,
    lines: Sequence[Mapping[str, Any]],
    labels: np.ndarray,
    plain: np.ndarray,
    settings: Mapping[str, Any],
    resample: Resample | None = None,
) -> dict[str, Any]:
    """Return what is promised of a question over the studies that have its label.

    Args:
        question: The task.
        lines: n studies as certified; ``found`` holds by question answer, radius, bound, and most draws' class.
        labels: (n,) int, -1 unknown.
        plain: (n,) answers of the ordinary prediction, without noise on the input.
        settings: ``sigma``, ``draws`` and ``level``.
        resample: Patients of the studies, where a patient has several; None where studies are independent.

    Returns:
        ``n``; ``plain_accuracy`` without smoothing; ``smoothed_accuracy`` of what most draws give;
        ``certified_accuracy`` of right answers that are certified at all; ``abstained``; ``median_radius`` of right
        and certified answers; ``curve``, one entry a radius with its length in every modality and, as ``balanced``, the
        mean over classes, which a network that always gives one answer cannot raise. Shares have 95% intervals, exact
        ones where studies are independent.
    """
    known = np.flatnonzero(labels >= 0)
    truth = labels[known]
    again = None if resample is None else replace(resample, groups=resample.groups[known])
    found = np.array([lines[k]["found"][question.name] for k in known.tolist()], dtype=float).reshape(-1, 4)
    answer, radius, chosen = found[:, 0], found[:, 1], found[:, 3]
    right = answer == truth
    sigma = settings["sigma"]
    curve = []
    for at in radii(settings["draws"], settings["level"]):
        curve.append(
            {
                "radius": at,
                "l2": {name: at * deviation for name, deviation in sigma.items()},
                **(share(right & (radius >= at), again) or {}),
                "balanced": _balanced(right & (radius >= at), truth),
            }
        )
    certified = radius[right]
    return {
        "classes": list(question.classes),
        "n": len(known),
        "plain_accuracy": share(plain[known] == truth, again),
        "smoothed_accuracy": share(chosen == truth, again),
        "certified_accuracy": share(right, again),
        "abstained": share(answer == ABSTAIN, again),
        "median_radius": float(np.median(certified)) if len(certified) else None,
        "curve": curve if len(known) else [],
    }


def _balanced(chosen: np.ndarray, truth: np.ndarray) -> float | None:
    several = [float(chosen[truth == label].mean()) for label in np.unique(truth)]
    return float(np.mean(several)) if several else None


def radii(draws: int, level: float) -> list[float]:
    """Return the radii of the curve, in deviations, from 0 to the largest that so many draws can certify."""
    most = max(float(stats.norm.ppf(lower_bound(draws, draws, level))), 0.0)
    # Rounded down, so that the largest radius is reached by those that have it.
    return [float(np.floor(at * 1e6) / 1e6) for at in np.linspace(0, most, STEPS + 1)]


def share(chosen: np.ndarray, resample: Resample | None = None) -> dict[str, float] | None:
    """Return the share that is chosen with its 95% interval; None of no studies.

    Args:
        chosen: (n,) bool.
        resample: Patients, which are redrawn; None for Clopper and Pearson's interval of independent studies.

    >>> {key: round(value, 3) for key, value in share(np.array([True] * 9 + [False])).items()}
    {'value': 0.9, 'low': 0.555, 'high': 0.997}
    """
    n, k = len(chosen), int(chosen.sum())
    if not n:
        return None
    if resample is not None:
        found: dict[str, float] = figures(
            chosen.astype(float), np.zeros(n), groups=resample.groups, bootstrap=resample.draws, seed=resample.seed
        )["accuracy"]
        return found
    tail = (1 - LEVEL) / 2
    low = float(stats.beta.ppf(tail, k, n - k + 1)) if k else 0.0
    high = float(stats.beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return {"value": k / n, "low": low, "high": high}
