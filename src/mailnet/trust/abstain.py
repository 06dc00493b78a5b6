"""A threshold below which a network does not answer, so that its answers are wrong no more often than is promised."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mailnet.trust.arrays import Array, one_each, read_patients
from mailnet.trust.plain import read_count, read_fields, read_number, read_text
from mailnet.trust.selective import read_losses

# Shares of validation studies answered that are tried. More would come nearer to the best threshold, and pay for it
# with a wider bound of each.
TRIED = 10


@dataclass(frozen=True)
class Abstention:
    """When to answer, and what is promised of the answers.

    With probability ``1 - delta`` over validation patients, at most ``risk`` of the answers to new patients (one study
    of each) are wrong, if new patients are like those of validation.

    Args:
        threshold: Answer where the confidence is above it; None where nothing can be promised.
        risk: Share of wrong answers that was asked for.
        bound: Share of wrong answers that is promised at most, with the same probability; None without a threshold.
        delta: Chance that the promise fails.
        coverage: Share of validation studies answered.
        wrong: Share of wrong answers among these.
        studies: Validation studies used, one a patient.
        reason: Why there is no threshold; empty where there is one.
    """

    threshold: float | None
    risk: float
    bound: float | None
    delta: float
    coverage: float
    wrong: float | None
    studies: int
    reason: str = ""

    def __post_init__(self) -> None:
        check_risk(self.risk, self.delta)
        if (self.threshold is None) != (self.bound is None) or (self.threshold is None) != bool(self.reason):
            raise ValueError("abstention: a threshold has a bound and no reason, none has a reason and no bound")

    @property
    def promise(self) -> str:
        """The promise in a sentence."""
        if self.bound is None:
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
        read = read_fields(values, "abstention", Abstention.__dataclass_fields__)
        optional = {
            key: None if read[key] is None else read_number(read[key], f"abstention: {key}")
            for key in ("threshold", "bound", "wrong")
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

    Selection with guaranteed risk (Geifman and El-Yaniv 2017) with another search. Ten shares of studies answered are
    tried, 10% to 100%, less those that could not pass without a single error, which follows from the number of
    studies alone. Each is tested by the exact bound of Clopper and Pearson at delta over the number of shares tried, so
    all hold together. A share's threshold is the confidence of the first study not answered: given it, the studies
    above are independent draws of those that will be answered, which the test needs and a binary search, or a
    threshold at the last study answered, does not give.

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
    rows = known[one_each(member[known], np.random.default_rng(seed))]
    order = rows[np.argsort(-sure[rows], kind="stable")]
    sure, loss, n = sure[order], loss[order], len(order)
    shares = _shares(n, risk, delta)
    if not shares:
        least = math.ceil(math.log(delta) / math.log1p(-risk))
        return _none(
            risk, delta, n, f"{n} patients, of whom at least {least} would have to be answered without an error"
        )
    level = delta / len(shares)
    for answered in reversed(shares):
        threshold = -sys.float_info.max if answered == n else float(sure[answered])
        above = int((sure > threshold).sum())
        errors = int(loss[:above].sum())
        bound = upper_bound(errors, above, level)
        if bound <= risk:
            return Abstention(threshold, risk, bound, delta, above / n, errors / above, n)
    return _none(risk, delta, n, "among the surest studies, too many answers are wrong")


def upper_bound(errors: int, studies: int, level: float) -> float:
    """Return what the true share of errors exceeds with chance ``level`` at most (Clopper and Pearson 1934).

    >>> round(upper_bound(0, 59, 0.05), 4)
    0.0495
    """
    from scipy.stats import beta

    return 1.0 if errors >= studies else float(beta.ppf(1 - level, errors + 1, studies - errors))


def check_risk(risk: float, delta: float) -> None:
    """Raise ValueError where the risk or the chance of failure is not between 0 and 1."""
    for name, value in (("risk", risk), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")


def _shares(studies: int, risk: float, delta: float) -> list[int]:
    """Return the numbers of studies answered that are tried: those that would pass if no answer were wrong."""
    tried = sorted({studies * k // TRIED for k in range(1, TRIED + 1)} - {0})
    while tried and tried[0] * math.log1p(-risk) > math.log(delta / len(tried)):
        tried = tried[1:]
    return tried


def _none(risk: float, delta: float, studies: int, reason: str) -> Abstention:
    return Abstention(None, risk, None, delta, 0.0, None, studies, reason)
