"""Fitting a calibration on labelled studies that the network has not learned from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust.arrays import Array, as_questions, read_answers, read_patients, read_probabilities
from mailnet.trust.calibration import METHODS, Calibrator, Knots, logarithms, logits, softmax
from mailnet.trust.plain import read_choice

# Temperatures from 1/20 to 20: one that a network needs lies well within.
WIDEST = math.log(20)
# Fewer patients than these say too little: of a temperature, of a class for vector scaling, whose two numbers the prior
# holds where patients are few, of a whole step function, which has as many numbers as it likes.
LEAST, LEAST_A_CLASS, LEAST_ISOTONIC, LEAST_ISOTONIC_A_CLASS = 10, 1, 100, 10


def fit_calibrator(
    probabilities: Array,
    labels: Array,
    spec: TaskSpec,
    method: str = "temperature",
    *,
    patients: Array | None = None,
    spread: float = 1.0,
) -> Calibrator:
    """Fit a calibration on validation studies by maximum likelihood with a prior.

    A few studies that are all right would send a temperature to 0, where everything is certain. So the logarithm of
    every scale, and every shift, is taken to be normal about 0 with standard deviation ``spread`` beforehand, which
    says that a network is more likely off by a factor of two than of ten. Against a thousand studies it is as nothing;
    of twenty it keeps the calibration near what the network says. The studies of a patient count as one
    study together in this.

    Isotonic answers stay 1 / (n + 2) away from 0 and 1 (Laplace's rule for n patients of n).

    Args:
        probabilities: (N, K).
        labels: (N,) with -1, or for multilabel (N, K) with NaN, where unknown.
        spec: The task.
        method: ``temperature``, ``vector``, ``isotonic`` (binary and multilabel tasks) or ``none``.
        patients: (N,) patient of each study; None where each is of another.
        spread: Of the prior; infinity for plain maximum likelihood.

    Returns:
        The calibrator. Where there are too few patients or only one class it leaves the probabilities (of that label)
        as they are and its ``reason`` says why.

    Raises:
        ValueError: Wrong shapes or values, an unknown method, or isotonic for another task.
    """
    read_choice(method, "method", METHODS)
    several = spec.kind == "multilabel"
    if method == "isotonic" and not several and spec.kind != "binary":
        raise ValueError(f"task '{spec.name}': isotonic is for binary and multilabel tasks, not {spec.kind}")
    if not spread > 0:
        raise ValueError(f"spread must be above 0, got {spread}")
    values = read_probabilities(probabilities, spec)
    answers = read_answers(labels, spec, len(values))
    member = read_patients(patients, len(values))
    questions = as_questions(values, spec)
    parts, reasons = [], []
    for p in range(answers.shape[1]):
        rows = np.flatnonzero(answers[:, p] >= 0)
        said, truth, who = questions[rows, p], answers[rows, p], member[rows]
        refused = "" if method == "none" else _too_little(method, truth, who, said.shape[1])
        if refused:
            reasons.append(f"label '{spec.classes[p]}': {refused}" if several else refused)
            parts.append(_left_alone(method))
        else:
            share = len(np.unique(who)) / max(len(who), 1)
            parts.append(_fitted(method, said, truth, several, share, spread))
    known = (answers >= 0).any(1)
    if len(reasons) == len(parts):
        method, parts = "none", []
    return Calibrator(
        kind=spec.kind,
        classes=len(spec.classes),
        method=method,
        scale=tuple(value for part in parts for value in part.scale),
        shift=tuple(value for part in parts for value in part.shift),
        knots=tuple(part.knots for part in parts if part.knots is not None),
        reason="; ".join(reasons),
        studies=int(known.sum()),
        patients=len(np.unique(member[known])),
    )


@dataclass(frozen=True)
class _Part:
    """What is fitted of one question."""

    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    knots: Knots | None = None


def _left_alone(method: str) -> _Part:
    """Return what leaves the probability of one label as it is."""
    if method == "isotonic":
        return _Part(knots=((), ()))
    return _Part((1.0,), (0.0,) if method == "vector" else ())


def _fitted(method: str, said: Array, truth: Array, several: bool, share: float, spread: float) -> _Part:
    """Fit one question; ``share`` is what each study counts in the likelihood."""
    if method == "none":
        return _Part()
    if method == "isotonic":
        return _Part(knots=_isotonic(said[:, 1], truth, share))
    inputs = logits(said[:, 1:]) if several else logarithms(said)
    loss = _sigmoid_loss if several else _softmax_loss
    if method == "temperature":
        return _Part((_temperature(loss, inputs, truth, share, spread),))
    scale, shift = _vector(loss, inputs, truth, share, spread)
    return _Part(scale, shift)


def _too_little(method: str, truth: Array, who: Array, answers: int) -> str:
    """Return why these labels are too few for the method, or nothing."""
    patients = len(np.unique(who))
    each = np.array([len(np.unique(who[truth == k])) for k in range(answers)])
    least = LEAST_ISOTONIC if method == "isotonic" else LEAST
    if patients < least:
        return f"{patients} labelled patients, {least} are needed"
    if (each > 0).sum() < 2:
        return "all labels are the same"
    a_class = {"vector": LEAST_A_CLASS, "isotonic": LEAST_ISOTONIC_A_CLASS}.get(method, 0)
    if each.min() < a_class:
        return f"a class with {each.min()} labelled patients, at least {a_class} needed"
    return ""


Loss = Callable[[Array, Array], tuple[float, Array]]


def _softmax_loss(scores: Array, truth: Array) -> tuple[float, Array]:
    """Return the summed negative log-likelihood of scores (N, K) and its derivative by them."""
    said = softmax(scores)
    top = scores.max(1)
    total = np.log(np.exp(scores - top[:, None]).sum(1)) + top - scores[np.arange(len(truth)), truth]
    return float(total.sum()), said - np.eye(scores.shape[1])[truth]


def _sigmoid_loss(scores: Array, truth: Array) -> tuple[float, Array]:
    """Return the same of one logit a study, (N, 1)."""
    target = truth[:, None]
    return float((np.logaddexp(0, scores) - target * scores).sum()), 1 / (1 + np.exp(-scores)) - target


def _temperature(loss: Loss, inputs: Array, truth: Array, share: float, spread: float) -> float:
    from scipy.optimize import minimize_scalar

    def cost(log_scale: float) -> float:
        return share * loss(math.exp(log_scale) * inputs, truth)[0] + 0.5 * (log_scale / spread) ** 2

    # The likelihood has one valley, with the prior it need not have, so the lowest of a grid is refined.
    grid = np.linspace(-WIDEST, WIDEST, 41)
    lowest = int(np.argmin([cost(value) for value in grid]))
    bounds = grid[max(lowest - 1, 0)], grid[min(lowest + 1, len(grid) - 1)]
    return math.exp(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)


def _vector(loss: Loss, inputs: Array, truth: Array, share: float, spread: float) -> Knots:
    from scipy.optimize import minimize

    width = inputs.shape[1]

    def cost(parameters: Array) -> tuple[float, Array]:
        scale, shift = np.exp(parameters[:width]), parameters[width:]
        value, slope = loss(scale * inputs + shift, truth)
        by_scale, by_shift = (slope * inputs).sum(0) * scale, slope.sum(0)
        penalty = parameters / spread**2
        return share * value + 0.5 * float(parameters @ penalty), share * np.r_[by_scale, by_shift] + penalty

    bounds = [(-WIDEST, WIDEST)] * width + [(-40.0, 40.0)] * width
    start = np.zeros(2 * width)
    options = {"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-9}
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return tuple(np.exp(found[:width]).tolist()), tuple(found[width:].tolist())


def _isotonic(said: Array, truth: Array, share: float) -> Knots:
    from sklearn.isotonic import IsotonicRegression

    steps = IsotonicRegression(out_of_bounds="clip").fit(said, truth)
    margin = 1 / (share * len(truth) + 2)
    after = np.clip(steps.y_thresholds_, margin, 1 - margin)
    return tuple(steps.X_thresholds_.tolist()), tuple(after.tolist())
