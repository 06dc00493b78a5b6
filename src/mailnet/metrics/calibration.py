"""How far probabilities may be believed, for many weightings of the studies at once."""

from __future__ import annotations

import numpy as np

from mailnet.metrics.confusion import divide
from mailnet.metrics.known import Array

# A float32 softmax resolves no more; scikit-learn clips there too.
SMALLEST = float(np.finfo(np.float32).eps)


def bin_of(confidence: Array, bins: int) -> Array:
    """Return the equal-width bin of each probability; a bin owns its upper edge."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def calibration_error(weights: Array, right: Array, confidence: Array, bins: int) -> Array:
    """Return (D,) expected calibration errors.

    Args:
        weights: (D, N) weight of each study in each draw.
        right: (N,) 1 where the prediction is right, else 0.
        confidence: (N,) its probability.
        bins: Number of equal-width bins on [0, 1].

    Source:
        C. Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3.
    """
    return binned_error(weights, _per_bin(right - confidence, confidence, bins), weights.sum(1))


def binned_error(weights: Array, gaps: Array, total: Array) -> Array:
    """Return (D,) sums of absolute gaps of each bin over the total weight.

    Args:
        weights: (D, N).
        gaps: (N, bins) what each study adds to the gap of each bin.
        total: (D,) weight of all answers.
    """
    return divide(np.abs(weights @ gaps).sum(1), total)


def pooled_gaps(truth: Array, probabilities: Array, bins: int) -> Array:
    """Return (N, bins) gaps of several labels a study, unknown ones (NaN) left out.

    Args:
        truth: (N, K) 0, 1 or NaN.
        probabilities: (N, K).
        bins: Number of bins.
    """
    known = ~np.isnan(truth)
    return sum(
        (_per_bin(np.where(known[:, k], truth[:, k] - probabilities[:, k], 0.0), probabilities[:, k], bins)
         for k in range(truth.shape[1])),
        start=np.zeros((len(truth), bins)),
    )  # fmt: skip


def log_loss(probability: Array) -> Array:
    """Return the negative logarithm of the true class's probability."""
    return np.asarray(-np.log(np.clip(probability, SMALLEST, 1.0)))


def _per_bin(gap: Array, confidence: Array, bins: int) -> Array:
    table = np.zeros((len(gap), bins))
    table[np.arange(len(gap)), bin_of(confidence, bins)] = gap
    return table
