"""Accuracy from how right each study is; intervals hold other patients and other draws of a random network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mailnet.metrics.bootstrap import LEVEL, draw_weights, interval

DIGITS = 4  # of redraws: a hundredth of a percent is far below any interval
Array = np.ndarray[Any, Any]


def figures(
    shares: Array,
    labels: Array,
    *,
    groups: Array | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    redraws: bool = False,
) -> dict[str, Any]:
    """Return accuracy and balanced accuracy of shares of right answers, with 95% intervals by redrawing.

    Of a random network patients and draws are redrawn, each by itself: where all studies of a batch meet the same draw,
    as of random filters, no number of patients makes up for few draws. Where every study has draws of its own, the
    interval is wider than it must be by twice their share of the variance, which R draws of N studies make 1 / (R N) of
    that of a single answer.

    Where all answers are right, or none is, the interval is the exact one of so many patients.

    Args:
        shares: (N,) how right each study is, NaN where its label is not known; or (R, N), a row a draw.
        labels: (N,) classes, or (N, K) of a multilabel task, which has no balanced accuracy.
        groups: (N,) what is drawn together, as patients.
        bootstrap: Draws of the intervals; 0 for none.
        seed: Of the draws.
        redraws: Also give ``redraws``, balanced accuracy, or where there is none accuracy, in each draw (None where it
            is not defined), by which networks are compared in pairs.

    Returns:
        ``n``, and per metric ``value`` and, where they are defined, ``low`` and ``high``; None where no label is known.

    Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007, for redrawing rows and columns.
    """
    shares = np.atleast_2d(shares)
    known = ~np.isnan(shares).any(0)
    if not known.any():
        nothing: dict[str, Any] = {"n": 0, "accuracy": None, "balanced_accuracy": None}
        return nothing | ({"redraws": []} if redraws else {})
    right, classes = shares[:, known], labels[known]
    weights = [np.ones((1, right.shape[1]))]
    if bootstrap:
        weights += draw_weights(right.shape[1], None if groups is None else groups[known], bootstrap, seed)
    draws = _draw_weights_of_draws(len(right), bootstrap, seed)
    found: dict[str, Any] = {"n": int(known.sum())}
    drawn = _means(weights, draws, right, np.ones(right.shape[1]))
    units = np.arange(right.shape[1]) if groups is None else groups[known]
    found["accuracy"] = estimate(drawn, [len(np.unique(units))])
    balanced = None
    if classes.ndim > 1:
        found["balanced_accuracy"] = None
    else:
        several = np.unique(classes)
        balanced = np.mean([_means(weights, draws, right, (classes == k).astype(float)) for k in several], 0)
        found["balanced_accuracy"] = estimate(balanced, [len(np.unique(units[classes == k])) for k in several])
    if redraws:
        given = (drawn if balanced is None else balanced)[1:].tolist()
        found["redraws"] = [round(value, DIGITS) if np.isfinite(value) else None for value in given]
    return found


def estimate(draws: Array, units: Sequence[int]) -> dict[str, float]:
    """Return a value with its interval.

    Where all studies stand, or none, all redraws are alike and say nothing of other patients: there the end is Clopper
    and Pearson's for so many patients, of several classes the mean of theirs.

    Args:
        draws: (1 + draws,), the value itself and redrawn.
        units: Patients, of each class where the value is a mean over classes.
    """
    value, ends = float(draws[0]), interval(draws[1:])
    if ends is None:
        return {"value": value}
    low, high = ends
    beyond = float(np.mean([1 - ((1 - LEVEL) / 2) ** (1 / count) for count in units]))
    if value == low == high == 0:
        high = beyond
    elif value == low == high == 1:
        low = 1 - beyond
    return {"value": value, "low": low, "high": high}


def _draw_weights_of_draws(count: int, bootstrap: int, seed: int) -> Array:
    """(1 + bootstrap, R) how much each draw of the network counts; first all alike."""
    if count == 1:
        return np.ones((1 + bootstrap, 1))
    drawn = np.random.default_rng([seed, count]).multinomial(count, np.full(count, 1 / count), bootstrap)
    return np.concatenate([np.ones((1, count)), drawn]) / count


def _means(weights: Sequence[Array], draws: Array, right: Array, member: Array) -> Array:
    """(1 + bootstrap,) weighted means over the studies that are members; NaN where a redraw has none."""
    found, start = [], 0
    with np.errstate(invalid="ignore"):
        for w in weights:
            own = draws[start : start + len(w)]
            start += len(w)
            found.append(((w @ (right * member).T) * own).sum(1) / (w @ member))
    return np.concatenate(found)
