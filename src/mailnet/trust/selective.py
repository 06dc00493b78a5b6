"""Answering only where the network is sure enough: what is left of the errors for each share of studies answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.trust.arrays import Array

DRAWN_POINTS = 160


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve: studies are answered in falling order of confidence.

    Args:
        coverage: (P,) share of studies answered, rising; equally sure studies are answered together.
        risk: (P,) mean loss of those answered.
        confidence: (P,) least confidence among them.
        aurc: Area under the curve: the mean of the risks at coverage 1/N, 2/N ... 1 (Geifman et al. 2019); of equally
            sure studies over all their orders.
        excess: ``aurc`` less that of the best order, in which all losses come last: what a better confidence could
            gain (E-AURC).
        studies: N.
    """

    coverage: Array
    risk: Array
    confidence: Array
    aurc: float
    excess: float
    studies: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the curve at 160 points at most."""
        places = np.unique(np.linspace(0, len(self.coverage) - 1, DRAWN_POINTS).round().astype(int))
        curve = {key: getattr(self, key)[places].tolist() for key in ("coverage", "risk", "confidence")}
        return {**curve, "aurc": self.aurc, "excess": self.excess, "studies": self.studies}


def risk_coverage(confidence: Array, losses: Array) -> RiskCoverage | None:
    """Return the risk-coverage curve of studies.

    Args:
        confidence: (N,) any numbers, higher is surer.
        losses: (N,) as 0 for right and 1 for wrong; NaN where unknown, which are left out.

    Returns:
        The curve, or None where no loss is known.

    Raises:
        ValueError: Wrong shapes, or a confidence that is no number.
    """
    sure, loss = read_losses(confidence, losses)
    n = len(loss)
    if not n:
        return None
    order = np.argsort(-sure, kind="stable")
    sure, loss = sure[order], loss[order]
    last = np.r_[np.flatnonzero(np.diff(sure)), n - 1]
    answered, lost = last + 1, np.cumsum(loss)[last]
    # Among equally sure studies the loss rises evenly, on the mean over their orders.
    expected = np.interp(np.arange(1, n + 1), np.r_[0, answered], np.r_[0, lost])
    aurc = float((expected / np.arange(1, n + 1)).mean())
    best = float((np.cumsum(np.sort(loss)) / np.arange(1, n + 1)).mean())
    return RiskCoverage(answered / n, lost / answered, sure[last], aurc, max(aurc - best, 0.0), n)


def read_losses(confidence: Array, losses: Array) -> tuple[Array, Array]:
    """Return confidence and losses (M,) of the studies whose loss is known; ValueError where they cannot be used."""
    sure, loss = (np.asarray(values, dtype=np.float64) for values in (confidence, losses))
    if sure.ndim != 1 or sure.shape != loss.shape:
        raise ValueError(f"confidence and losses must be (N,) both, got {sure.shape} and {loss.shape}")
    known = np.isfinite(loss)
    if not np.isfinite(sure[known]).all():
        raise ValueError("confidence holds NaN or infinity")
    return sure[known], loss[known]
