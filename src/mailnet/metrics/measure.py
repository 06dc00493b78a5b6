"""All metrics of one task: quick ones for training, full ones with intervals for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from mailnet.metrics.bootstrap import draw_weights, interval
from mailnet.metrics.multilabel import MultiLabel
from mailnet.metrics.single import SingleLabel
from mailnet.metrics.values import Array, Statistics, Values
from mailnet.specs import TaskSpec

# From how often each study counts, (D, N), to (D,).
Metric: TypeAlias = Callable[[Array], Array]

BINS = 15
QUICK = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc")


def summary(probabilities: Array, labels: Array, spec: TaskSpec) -> dict[str, float]:
    """Return a few metrics without intervals, fast.

    Args:
        probabilities: (N, K).
        labels: (N,) int with -1 where unknown, or (N, K) with NaN for multilabel.
        spec: The task.

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``macro_auroc`` and ``loss`` (mean negative log-likelihood);
        NaN where one is not defined.

    Raises:
        ValueError: Probabilities or labels do not fit the task.

    >>> found = summary(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), TaskSpec("t", ("no", "yes"), "binary"))
    >>> found["accuracy"], found["macro_auroc"]
    (1.0, 1.0)
    """
    known = _known_studies(probabilities, labels, spec)
    if not known.any():
        return dict.fromkeys((*QUICK, "loss"), float("nan"))
    values = _statistics(probabilities[known], labels[known], spec, BINS)(np.ones((1, int(known.sum())))).overall
    return {**{key: float(values[key][0]) for key in QUICK}, "loss": float(values["nll"][0])}


def measure(
    probabilities: Array,
    labels: Array,
    spec: TaskSpec,
    *,
    groups: Array | None = None,
    bootstrap: int = 1000,
    bins: int = BINS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all metrics of a task with 95% intervals, as JSON can hold them.

    Studies without a label are left out. Class means are over the classes that occur among the labels; ``absent`` names
    the others.

    Args:
        probabilities: (N, K).
        labels: (N,) int with -1 where unknown, or (N, K) with NaN for multilabel.
        spec: The task.
        groups: (N,) what is drawn together, as patients; None draws single studies.
        bootstrap: Draws of the intervals; 0 for none.
        bins: Bins of the calibration error.
        seed: Of the draws.

    Returns:
        ``n`` (labelled studies), ``groups`` (how many groups these have, None without), ``absent``, ``metrics``
        (name -> ``{"value", "low", "high"}``, the bounds left out where there are none, or None where a metric is
        not defined), ``per_class`` (class -> ``n`` and metrics likewise), and, unless multilabel, ``confusion``
        (K x K counts, rows true and columns answered).

    Raises:
        ValueError: Probabilities or labels do not fit the task.
    """
    known = _known_studies(probabilities, labels, spec)
    probabilities, labels = probabilities[known], labels[known]
    groups = None if groups is None else np.unique(np.asarray(groups)[known], return_inverse=True)[1].reshape(-1)
    units = len(labels) if groups is None else len(np.unique(groups))
    support = _support(labels, spec)
    found: dict[str, Any] = {
        "n": len(labels),
        "groups": None if groups is None else units,
        "absent": [name for name, count in zip(spec.classes, support, strict=True) if not count],
        "metrics": {},
        "per_class": {name: {"n": int(count)} for name, count in zip(spec.classes, support, strict=True)},
    }
    if spec.kind != "multilabel":
        found["confusion"] = _confusion(probabilities, labels).tolist()
    if not len(labels):
        return found
    statistics = _statistics(probabilities, labels, spec, bins)
    values = statistics(np.ones((1, len(labels))))
    spread = _redrawn(statistics, len(labels), groups, bootstrap, seed)
    found["metrics"] = _estimates(values.overall, spread.overall)
    for k, name in enumerate(spec.classes):
        found["per_class"][name] |= _estimates(_at(values.per_class, k), _at(spread.per_class, k))
    return found


def redraws(
    probabilities: Array,
    labels: Array,
    spec: TaskSpec,
    *,
    groups: Array | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Array]:
    """Return the metrics of each draw that the intervals of ``measure`` are made of.

    The same labels, groups and seed draw the same studies, so that two networks' values of one draw are a pair.

    Args:
        probabilities: (N, K).
        labels: (N,) int with -1 where unknown, or (N, K) with NaN for multilabel.
        spec: The task.
        groups: (N,) what is drawn together, as patients; None draws single studies.
        bootstrap: D, number of draws.
        seed: Of the draws.

    Returns:
        Metric -> (D,), NaN where one is not defined; empty where there is nothing to draw from.

    Raises:
        ValueError: Probabilities or labels do not fit the task.
    """
    known = _known_studies(probabilities, labels, spec)
    if not known.any():
        return {}
    statistics = _statistics(probabilities[known], labels[known], spec, BINS)
    own = None if groups is None else np.asarray(groups)[known]
    return _redrawn(statistics, int(known.sum()), own, bootstrap, seed).overall


def weighted_metric(name: str, probabilities: Array, labels: Array, spec: TaskSpec, *, bins: int = BINS) -> Metric:
    """Return a metric of all studies together as a function of how often each counts.

    Args:
        name: As ``measure`` names it.
        probabilities: (N, K).
        labels: (N,) int with -1 where unknown, or (N, K) with NaN for multilabel; those studies count for nothing.
        spec: The task.
        bins: Bins of the calibration error.

    Returns:
        From weights (D, N) to values (D,), NaN where it is not defined.

    Raises:
        ValueError: Probabilities or labels do not fit the task.
    """
    known = _known_studies(probabilities, labels, spec)
    if not known.any():
        return lambda weights: np.full(len(weights), np.nan)
    statistics = _statistics(probabilities[known], labels[known], spec, bins)
    return lambda weights: statistics(weights[:, known]).overall[name]


def _redrawn(statistics: Statistics, studies: int, groups: Array | None, bootstrap: int, seed: int) -> Values:
    # One unit drawn again and again would give an interval of no width.
    units = studies if groups is None else len(np.unique(groups))
    draws = bootstrap if units > 1 else 0
    drawn = [statistics(weights) for weights in draw_weights(studies, groups, draws, seed)]
    return Values.stack(drawn) if drawn else Values({}, {})


def _known_studies(probabilities: Array, labels: Array, spec: TaskSpec) -> Array:
    """Return (N,) bool, the study has a label (of a multilabel task: any), once both arrays fit the task.

    Raises:
        ValueError: They do not.
    """
    size = len(spec.classes)
    wanted = (len(probabilities), size) if spec.kind == "multilabel" else (len(probabilities),)
    if probabilities.ndim != 2 or probabilities.shape[1] != size:
        raise ValueError(f"task '{spec.name}': probabilities must be (N, {size}), got {probabilities.shape}")
    if labels.shape != wanted:
        raise ValueError(f"task '{spec.name}': labels must be {wanted}, got {labels.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError(f"task '{spec.name}': probabilities hold NaN or infinity; look for a network that diverged")
    if spec.kind == "multilabel":
        return np.asarray(np.isfinite(labels).any(1))
    if labels.dtype.kind not in "iu" or (len(labels) and not -1 <= labels.min() <= labels.max() < size):
        raise ValueError(f"task '{spec.name}': labels must be whole numbers from -1 (unknown) to {size - 1}")
    return np.asarray(labels >= 0)


def _statistics(probabilities: Array, labels: Array, spec: TaskSpec, bins: int) -> Statistics:
    probabilities = probabilities.astype(np.float64)
    if spec.kind == "multilabel":
        return MultiLabel(probabilities, labels.astype(np.float64), bins)
    return SingleLabel(probabilities, labels, spec, bins)


def _confusion(probabilities: Array, labels: Array) -> Array:
    size = probabilities.shape[1]
    return np.bincount(labels * size + probabilities.argmax(1), minlength=size * size).reshape(size, size)


def _support(labels: Array, spec: TaskSpec) -> Array:
    if spec.kind == "multilabel":
        return np.asarray(np.nansum(labels, axis=0).astype(int))
    return np.bincount(labels, minlength=len(spec.classes))


def _at(values: dict[str, Array], k: int) -> dict[str, Array]:
    return {key: array[:, k] for key, array in values.items()}


def _estimates(values: dict[str, Array], draws: dict[str, Array]) -> dict[str, Any]:
    return {key: _estimate(float(value[0]), draws.get(key)) for key, value in values.items()}


def _estimate(value: float, draws: Array | None) -> dict[str, float] | None:
    if not np.isfinite(value):
        return None
    bounds = None if draws is None else interval(draws)
    return {"value": value} if bounds is None else {"value": value, "low": bounds[0], "high": bounds[1]}
