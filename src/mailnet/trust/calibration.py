"""Calibration: probabilities changed so that of the answers given with 80% about 80% are right."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from mailnet.specs import TASK_KINDS
from mailnet.trust.arrays import Array
from mailnet.trust.plain import read_choice, read_count, read_fields, read_numbers, read_text

# Probabilities before and after, both rising.
Knots: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]

METHODS = ("temperature", "vector", "isotonic", "none")

# Smaller probabilities count as this one. It is half the step of float32 below one, so 0 and 1 are met alike, and a
# network that is wrong with probability 0 can be softened: zero to any power stays zero.
SMALLEST = 2.0**-24


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibration of one task.

    With l the logarithm of the probabilities (for multilabel log p - log(1 - p) of each label):

    * ``temperature``: softmax(scale l), one scale = 1 / T (for multilabel sigmoid, one a label). It never changes the
      class with the highest probability, and of a label never the side of 0.5. An ordinal task is treated likewise:
      the order of its classes' probabilities stays, so one peak stays one, while a temperature on its cumulative
      logits could move the peak.
    * ``vector``: softmax(scale * l + shift) with one scale and shift a class. Of two classes this is beta
      calibration. It may change the answer. Since l is the logarithm of probabilities, not a logit, it is a model of
      its own beside that of Guo et al.; log-probabilities are what a mean over a random network's draws has.
    * ``isotonic``: a rising step function of the probability of the second class, or of each label, read between its
      steps by interpolation. It may change the answer and make ties.
    * ``none``: probabilities as they are.

    Args:
        kind: Kind of the task.
        classes: Number of classes K.
        method: What was fitted; ``none`` also where there was too little to fit, which ``reason`` then says.
        scale: Empty, one number, or K.
        shift: Empty or K numbers.
        knots: Isotonic: probability before and after, of the second class or of each label; empty for a label that is
            left as it is.
        reason: Why the probabilities, or those of some labels, are left as they are; empty where they are not.
        studies: Number of labelled studies that it was fitted on.
        patients: Number of their patients.

    Raises:
        ValueError: Numbers that do not fit the method or each other.

    Source: Guo et al. 2017 (temperature and vector scaling); Kull et al. 2017 (beta calibration); Zadrozny and Elkan
    2002 (isotonic regression).
    """

    kind: str
    classes: int
    method: str
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    knots: tuple[Knots, ...] = ()
    reason: str = ""
    studies: int = 0
    patients: int = 0

    def __post_init__(self) -> None:
        several = self.kind == "multilabel"
        columns = self.classes if several else 1
        wanted = {
            "temperature": (columns, 0, 0),
            "vector": (self.classes, self.classes, 0),
            "isotonic": (0, 0, columns),
            "none": (0, 0, 0),
        }[read_choice(self.method, "method", METHODS)]
        if (len(self.scale), len(self.shift), len(self.knots)) != wanted:
            raise ValueError(f"calibrator: '{self.method}' of {self.classes} classes needs {wanted} numbers")
        if any(value <= 0 for value in self.scale):
            raise ValueError("calibrator: a scale must be above 0")
        if self.method == "isotonic" and self.kind not in ("binary", "multilabel"):
            raise ValueError("calibrator: isotonic is for binary and multilabel tasks")
        for before, after in self.knots:
            rising = all(a <= b for values in (before, after) for a, b in pairwise(values))
            if len(before) != len(after) or not rising:
                raise ValueError("calibrator: knots must be two rising lists of one length")

    @property
    def temperature(self) -> tuple[float, ...]:
        """The fitted temperatures (above 1: the network was too sure), empty for another method."""
        return tuple(1 / value for value in self.scale) if self.method == "temperature" else ()

    def apply(self, probabilities: Array) -> Array:
        """Return calibrated probabilities (N, K) in the floating-point type of those given.

        Args:
            probabilities: (N, K), as the network gives them.

        Raises:
            ValueError: Another shape, or no floating-point numbers.
        """
        given = np.asarray(probabilities)
        if given.ndim != 2 or given.shape[1] != self.classes or given.dtype.kind != "f":
            raise ValueError(f"probabilities must be floats (N, {self.classes}), got {given.dtype} {given.shape}")
        if self.method == "none":
            return given
        values = given.astype(np.float64)
        if self.method == "isotonic":
            return np.asarray(self._isotonic(values), dtype=given.dtype)
        scale, shift = np.asarray(self.scale), np.asarray(self.shift or 0.0)
        if self.kind == "multilabel":
            changed = 1 / (1 + np.exp(-(scale * logits(values) + shift)))
            return _keep_side(given, changed.astype(given.dtype)) if not self.shift else changed.astype(given.dtype)
        changed = softmax(scale * logarithms(values) + shift).astype(given.dtype)
        return changed if self.shift else _keep_top(given, changed)

    def _isotonic(self, values: Array) -> Array:
        if self.kind == "binary":
            second = _between(values[:, 1], self.knots[0])
            return np.stack([1 - second, second], axis=1)
        return np.stack([_between(column, knots) for column, knots in zip(values.T, self.knots, strict=True)], axis=1)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "classes": self.classes,
            "method": self.method,
            "scale": list(self.scale),
            "shift": list(self.shift),
            "knots": [[list(before), list(after)] for before, after in self.knots],
            "reason": self.reason,
            "studies": self.studies,
            "patients": self.patients,
        }

    @staticmethod
    def from_dict(values: object) -> Calibrator:
        """Return what ``as_dict`` wrote; ValueError where it was changed to something else."""
        read = read_fields(values, "calibrator", Calibrator.__dataclass_fields__)
        knots = read["knots"]
        if not isinstance(knots, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in knots):
            raise ValueError("calibrator: knots must be a list of pairs of lists")
        return Calibrator(
            kind=read_choice(read["kind"], "calibrator: kind", TASK_KINDS),
            classes=read_count(read["classes"], "calibrator: classes"),
            method=read_choice(read["method"], "calibrator: method", METHODS),
            scale=read_numbers(read["scale"], "calibrator: scale"),
            shift=read_numbers(read["shift"], "calibrator: shift"),
            knots=tuple(
                (read_numbers(before, "calibrator: knots", 0, 1), read_numbers(after, "calibrator: knots", 0, 1))
                for before, after in knots
            ),
            reason=read_text(read["reason"], "calibrator: reason"),
            studies=read_count(read["studies"], "calibrator: studies"),
            patients=read_count(read["patients"], "calibrator: patients"),
        )


def logarithms(values: Array) -> Array:
    """Return log p with p no smaller than ``SMALLEST``."""
    return np.asarray(np.log(np.clip(values, SMALLEST, 1.0)))


def logits(values: Array) -> Array:
    """Return log p - log(1 - p) with neither smaller than ``SMALLEST``."""
    return logarithms(values) - logarithms(1 - values)


def softmax(values: Array) -> Array:
    """Return exp(values) over its sum along the last axis."""
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _between(values: Array, knots: Knots) -> Array:
    before, after = knots
    return np.interp(values, before, after) if before else values


def _keep_top(given: Array, changed: Array) -> Array:
    """Undo where rounding made the highest probability equal to another, or less by the last digit."""
    top = given.argmax(1)
    rows = np.flatnonzero(changed.argmax(1) != top)
    changed[rows, top[rows]] = np.nextafter(changed[rows].max(1), given.dtype.type(2))
    return changed


def _keep_side(given: Array, changed: Array) -> Array:
    """Undo where rounding moved a probability onto 0.5 or off it."""
    half, up, down = (given.dtype.type(value) for value in (0.5, 2, -2))
    changed = np.where(given > half, np.maximum(changed, np.nextafter(half, up)), changed)
    changed = np.where(given < half, np.minimum(changed, np.nextafter(half, down)), changed)
    return np.asarray(np.where(given == half, half, changed))
