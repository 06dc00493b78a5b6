"""A threshold below which a network does not answer, so that its answers are wrong no more often than is promised."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mailnet.trust.arrays import Array, one_each, read_patients
from mailnet.trust.plain import read_count, read_fields, read_number, read_text
from mailnet.trust.selective import read_losses

# Where sequences of tests start beside the surest studies, as shares of all: one error among the surest ends the first,
# which of many studies says little. Each start takes its part of the chance of failure.
SHARES = (1 / 3, 2 / 3)


@dataclass(frozen=True)
class Abstention:
    """When to answer, and what is promised of the answers.

    With probability ``1 - delta`` over validation patients, at most ``risk`` of the answers to new patients (one study
    of each) are wrong, if new patients are like those of validation.

    Args:
        threshold: Answer where the confidence is above it; None where nothing can be promised.
        risk: Share of wrong answers that was asked for.
        delta: Chance that the promise fails.
        coverage: Share of validation studies answered.
        wrong: Share of wrong answers among these.
        studies: Validation studies used, one a patient.
        reason: Why there is no threshold; empty where there is one.
    """

    threshold: float | None
    risk: float
    delta: float
    coverage: float
    wrong: float | None
    studies: int
    reason: str = ""

    def __post_init__(self) -> None:
        check_risk(self.risk, self.delta)
        if (self.threshold is None) != bool(self.reason):
            raise ValueError("abstention: a threshold has no reason, none has one")

    @property
    def promise(self) -> str:
        """The promise in a sentence."""
        if self.threshold is None:
            return f"Nothing is promised: {self.reason}"
        return (
            f"With {1 - self.delta:.4g} probability at most {self.risk:.4g} of the answers to new patients are wrong, "
            f"if they are like the {self.studies} of validation, of whom {self.coverage:.1%} were answered"
        )

    def answered(self, confidence: Array) -> Array:
        """Return (N,) bool, the network answers; nowhere without a threshold."""
        given = np.asarray(confidence, dtype=np.float64)
        return np.zeros(given.shape, dtype=bool) if self.threshold is None else np.asarray(given > self.threshold)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: object) -> Abstention:
        """Return what ``as_dict`` wrote; ValueError where it was changed to something else."""
        # Of every file of this format: a share of wrong answers that once stood beside the one asked for.
        given = {key: value for key, value in values.items() if key != "bound"} if isinstance(values, dict) else values
        read = read_fields(given, "abstention", Abstention.__dataclass_fields__)
        optional = {
            key: None if read[key] is None else read_number(read[key], f"abstention: {key}")
            for key in ("threshold", "wrong")
        }
        return Abstention(
            risk=read_number(read["risk"], "abstention: risk"),
            delta=read_number(read["delta"], "abstention: delta"),
            coverage=read_number(read["coverage"], "abstention: coverage", 0, 1),
            studies=read_count(read["studies"], "abstention: studies"),
            reason=read_text(read["reason"], "abstention: reason"),
            **optional,
        )


def abstain_threshold(
    confidence: Array,
    wrong: Array,
    risk: float,
    delta: float = 0.05,
    *,
    patients: Array | None = None,
    seed: int = 0,
) -> Abstention:
    """Choose on validation studies the lowest threshold whose share of wrong answers is sure to be small enough.

    Selection with guaranteed risk (Geifman and El-Yaniv 2017), with the search of Learn then Test (Angelopoulos et al.
    2021): from the surest studies down, one study after the other is let in, and whether those answered are wrong too
    often is tested each time by the exact binomial test, until a test fails. Tests in a fixed order need no correction
    for their number. Sequences start at the fewest studies that could pass, at a third and at two thirds of all, each
    at its part of delta; of few studies those starts are left out that could not pass without an error, or would come
    before the first. All this follows from the number of studies alone.

    The threshold of a test is the confidence of the first study not answered: given it, the studies above are
    independent draws of those that will be answered. Equally sure studies are let in one by one in random order, and
    there is no threshold between them.

    Args:
        confidence: (N,) of validation studies, higher is surer.
        wrong: (N,) 1 where the answer is wrong, 0 where right, NaN where unknown.
        risk: Share of wrong answers to stay below, between 0 and 1.
        delta: Chance that the promise fails, between 0 and 1.
        patients: (N,) patient of each study. One study of each is drawn, since several are no independent tests.
        seed: Of that draw.

    Returns:
        The threshold and what it promises, or none with a reason.

    Raises:
        ValueError: Wrong shapes, a loss other than 0 and 1, or risk or delta out of range.
    """
    check_risk(risk, delta)
    read_losses(confidence, wrong)
    sure, loss = (np.asarray(values, dtype=np.float64) for values in (confidence, wrong))
    member = read_patients(patients, len(loss))
    known = np.flatnonzero(np.isfinite(loss))
    if not np.isin(loss[known], (0.0, 1.0)).all():
        raise ValueError("wrong must be 0 or 1, or NaN where unknown")
    random = np.random.default_rng(seed)
    rows = random.permutation(known[one_each(member[known], random)])
    order = rows[np.argsort(-sure[rows], kind="stable")]
    sure, loss, n = sure[order], loss[order], len(order)
    starts = _starts(n, risk, delta)
    if not starts:
        reason = f"{n} patients, of whom at least {_least(risk, delta)} would have to be answered without an error"
        return _none(risk, delta, n, reason)
    passed = _chances(loss, risk) <= delta / len(starts)
    between = np.r_[sure[1:] < sure[:-1], True]  # there is a threshold after this study
    found = [_last(passed, between, start) for start in starts]
    answered = max(found)
    if not answered:
        return _none(risk, delta, n, "among the surest studies, too many answers are wrong")
    threshold = -sys.float_info.max if answered == n else float(sure[answered])
    return Abstention(threshold, risk, delta, answered / n, float(loss[:answered].mean()), n)


def check_risk(risk: float, delta: float) -> None:
    """Raise ValueError where the risk or the chance of failure is not between 0 and 1."""
    for name, value in (("risk", risk), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")


def _starts(studies: int, risk: float, delta: float) -> list[int]:
    """Return the rising numbers of studies answered at which sequences start; none where nothing could pass."""
    for further in (SHARES, SHARES[1:], ()):
        starts = [_least(risk, delta / (1 + len(further))), *(math.ceil(share * studies) for share in further)]
        if starts[-1] <= studies and all(low < high for low, high in pairwise(starts)):
            return starts
    return []


def _least(risk: float, level: float) -> int:
    """Return the fewest answers, none of them wrong, that pass at a level.

    >>> _least(0.05, 0.05)
    59
    """
    return math.ceil(math.log(level) / math.log1p(-risk))


def _chances(loss: Array, risk: float) -> Array:
    """Return (N,) the chance that of the first k answers, k = 1 to N, so few are wrong if ``risk`` of all are."""
    from scipy.stats import binom

    return np.asarray(binom.cdf(np.cumsum(loss), np.arange(1, len(loss) + 1), risk))


def _last(passed: Array, between: Array, start: int) -> int:
    """Return how many are answered at the last threshold before the first test from ``start`` on that fails, or 0."""
    failed = np.flatnonzero(~passed[start - 1 :])
    stop = start - 1 + int(failed[0]) if len(failed) else len(passed)
    possible = np.flatnonzero(between[start - 1 : stop])
    return start + int(possible[-1]) if len(possible) else 0


def _none(risk: float, delta: float, studies: int, reason: str) -> Abstention:
    return Abstention(None, risk, delta, 0.0, None, studies, reason)
