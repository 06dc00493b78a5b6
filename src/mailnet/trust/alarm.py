"""From a score of how foreign a study is to a warning at a stated rate of false ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.trust.arrays import Array, read_patients
from mailnet.trust.plain import read_fields, read_number, read_numbers
from mailnet.trust.scores import patients_needed

STEP = 0.01  # to which scores are rounded, of a logarithm one in a hundred


@dataclass(frozen=True)
class Alarm:
    """How often validation studies reach each score, beside which a new study's score is held.

    Args:
        scores: Of validation studies, rounded up, rising.
        weights: What each of them counts: 1 over the patients plus one, shared by the studies of a patient, and added
            up over studies of one score; what is left of 1 is the new patient's.
        rate: Rate of false alarms.

    Raises:
        ValueError: Scores that do not rise, weights that do not fit them, or a rate not between 0 and 1.
    """

    scores: tuple[float, ...]
    weights: tuple[float, ...]
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be between 0 and 1, got {self.rate}")
        if len(self.scores) != len(self.weights) or any(np.diff(self.scores) < 0):
            raise ValueError("alarm: scores must rise, with one weight each")
        if any(weight <= 0 for weight in self.weights) or sum(self.weights) >= 1:
            raise ValueError("alarm: weights must be above 0 and sum to less than 1")

    @property
    def patients(self) -> int:
        """Number of validation patients."""
        return round(1 / (1 - sum(self.weights))) - 1

    @property
    def reason(self) -> str:
        """Why it never sounds; empty where it can."""
        least = patients_needed(self.rate)
        if self.patients >= least:
            return ""
        return f"{self.patients} validation patients, {least} are needed for one false alarm in {1 / self.rate:.4g}"

    @property
    def threshold(self) -> float | None:
        """The score above which it sounds for certain; None where it never does."""
        if self.reason:
            return None
        # From above: the lowest score that still has an alarm's worth of weight at or over it.
        over = np.cumsum(np.asarray(self.weights)[::-1])[::-1] + self._own
        quiet = np.flatnonzero(over > self.rate + 1e-9)
        return float(self.scores[quiet[-1]]) if len(quiet) else -float(np.finfo(np.float64).max)

    @property
    def _own(self) -> float:
        return 1 - sum(self.weights)

    def p_value(self, scores: Array) -> Array:
        """Return (N,) the chance that a study like those of validation is at least as foreign.

        For a new patient's study, one drawn of his, it is below any value u with probability u at most: a conformal
        p-value (Bates et al. 2023; with several studies a patient, weighed as Lee et al. 2023 do).

        Args:
            scores: (N,) of new studies; one that is not finite gets the least p-value.
        """
        given = np.asarray(scores, dtype=np.float64)
        over = np.r_[np.cumsum(np.asarray(self.weights)[::-1])[::-1], 0.0]
        place = np.searchsorted(np.asarray(self.scores), given, side="left")
        return np.asarray(np.where(np.isfinite(given), over[place], 0.0) + self._own)

    def sounds(self, scores: Array) -> Array:
        """Return (N,) bool, the study is called foreign: its p-value is at most the rate."""
        return np.asarray(self.p_value(scores) <= self.rate + 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"scores": list(self.scores), "weights": list(self.weights), "rate": self.rate}

    @staticmethod
    def from_dict(values: object) -> Alarm:
        """Return what ``as_dict`` wrote; ValueError where it was changed to something else."""
        read = read_fields(values, "alarm", Alarm.__dataclass_fields__)
        return Alarm(
            scores=read_numbers(read["scores"], "alarm: scores"),
            weights=read_numbers(read["weights"], "alarm: weights", 0, 1),
            rate=read_number(read["rate"], "alarm: rate", 0, 1),
        )


def fit_alarm(scores: Array, rate: float = 0.05, *, patients: Array | None = None, step: float = STEP) -> Alarm:
    """Keep how often validation studies, which the score itself was not fitted on, reach each score.

    Scores are rounded up to a step, so that no study's own is kept. A new study's p-value is then that of a score up to
    a step lower: never too small, so that alarms keep their rate, and the same for all but scores a step from another.

    Args:
        scores: (N,) finite.
        rate: Rate of false alarms on studies like these.
        patients: (N,) patient of each study; None where each is of another.
        step: In the unit of the scores; 0 keeps them as they are.

    Raises:
        ValueError: A step below 0, scores that are no finite numbers, or a rate not between 0 and 1.
    """
    given = np.asarray(scores, dtype=np.float64)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError(f"scores must be (N,) finite numbers, got {given.shape}")
    member = read_patients(patients, len(given))
    counts = np.bincount(member)
    weights = (1 / ((len(counts) + 1) * counts))[member] if len(given) else given
    if not step >= 0:
        raise ValueError(f"step must be 0 or more, got {step}")
    # A score that lies on a step stays there, whatever its last digits.
    rounded = np.round(np.ceil(given / step - 1e-6) * step, 12) + 0.0 if step else given
    kept, place = np.unique(rounded, return_inverse=True)
    counts_of = np.bincount(place.reshape(-1), weights, len(kept))
    return Alarm(tuple(kept.tolist()), tuple(counts_of.tolist()), rate)
