"""Calibration error without a choice of bins that hold nothing."""

from __future__ import annotations

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust.arrays import Array, as_questions, read_answers, read_probabilities

BINS = 15


def adaptive_error(probabilities: Array, labels: Array, spec: TaskSpec, *, bins: int = BINS) -> float | None:
    """Return the calibration error over bins of equally many studies.

    As the expected calibration error of ``metrics.measure`` it is the mean distance of confidence and share of right
    answers, for a multilabel task that of the labels' probabilities and frequencies, all labels together. Networks are
    mostly sure, and bins of equal width put most studies in one bin; here a bin's borders are quantiles.

    Args:
        probabilities: (N, K).
        labels: (N,) with -1, or for multilabel (N, K) with NaN, where unknown.
        spec: The task.
        bins: Number of bins; equal confidences share a bin, so there can be fewer.

    Returns:
        From 0 (calibrated) to 1, or None where no label is known.

    Raises:
        ValueError: Wrong shapes or values, or no bin.

    Source: Nguyen and O'Connor 2015; Nixon et al. 2019.
    """
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    values = read_probabilities(probabilities, spec)
    answers = read_answers(labels, spec, len(values))
    known = answers >= 0
    if spec.kind == "multilabel":
        said, right = values[known], answers[known].astype(float)
    else:
        questions = as_questions(values, spec)
        said, right = questions.max(-1)[known], (questions.argmax(-1) == answers)[known].astype(float)
    if not len(said):
        return None
    edges = np.quantile(said, np.linspace(0, 1, bins + 1)[1:-1])
    place = np.searchsorted(edges, said, side="left")
    gaps = np.bincount(place, said - right)
    return float(np.abs(gaps).sum() / len(said))
