"""How badly each answer conforms to what the network says of a study: the scores that prediction sets are made of.

All act on (..., C) probabilities of C answers that exclude each other, and low means that the answer fits. A score
depends on a study's own probabilities alone, so that calibration and new studies are measured alike.
"""

from __future__ import annotations

import numpy as np

from mailnet.trust.arrays import Array

SCORES = ("lac", "aps", "raps")


def nonconformity(
    probabilities: Array,
    score: str,
    *,
    contiguous: bool = False,
    penalty: float = 0.0,
    free: int = 1,
    uniform: Array | None = None,
) -> Array:
    """Return the score of every answer.

    * ``lac``: one minus the answer's probability (Sadinle et al. 2019).
    * ``aps``: the probability of all answers that come before it, most probable first (Romano et al. 2020); of equal
      ones the first of the task comes first. With ``uniform`` u its own probability is added (1 - u) times.
    * ``raps``: the same and ``penalty`` for each place after the first ``free`` ones (Angelopoulos et al. 2021).

    With ``contiguous`` answers come in the order in which an interval grows from the most probable answer, each time to
    the more probable of its two neighbours, so that those up to any score are neighbours (Lu et al. 2022 for APS); for
    LAC an answer then scores as the worst between it and the most probable.

    Args:
        probabilities: (..., C).
        score: One of ``SCORES``.
        contiguous: For ordered answers.
        penalty: Of RAPS.
        free: Of RAPS.
        uniform: (...) in [0, 1]; None is 1 everywhere, so that the first answer always scores 0.

    Returns:
        (..., C).
    """
    order = growth(probabilities) if contiguous else np.argsort(-probabilities, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=-1)
    if score == "lac":
        scored = np.maximum.accumulate(1 - ranked, axis=-1)
    else:
        before = np.cumsum(ranked, axis=-1)[..., :-1]
        scored = np.concatenate([np.zeros_like(ranked[..., :1]), before], axis=-1)
        if uniform is not None:
            scored = scored + (1 - np.asarray(uniform)[..., None]) * ranked
        if score == "raps":
            scored = scored + penalty * np.maximum(0, np.arange(1, ranked.shape[-1] + 1) - free)
    found = np.empty_like(scored)
    np.put_along_axis(found, order, scored, axis=-1)
    return found


def growth(probabilities: Array) -> Array:
    """Return (..., C) answers in the order in which an interval grows from the most probable one.

    >>> growth(np.array([0.1, 0.2, 0.4, 0.3])).tolist()
    [2, 3, 1, 0]
    """
    size = probabilities.shape[-1]
    flat = probabilities.reshape(-1, size)
    # A border that is never chosen on both sides.
    walled = np.pad(flat, ((0, 0), (1, 1)), constant_values=-1.0)
    rows, low = np.arange(len(flat)), flat.argmax(1)
    high, order = low.copy(), np.empty(flat.shape, dtype=np.int64)
    order[:, 0] = low
    for place in range(1, size):
        down = walled[rows, low] >= walled[rows, high + 2]
        low, high = low - down, high + ~down
        order[:, place] = np.where(down, low, high)
    return order.reshape(probabilities.shape)


def conformal_quantile(scores: Array, member: Array, alpha: float) -> float:
    """Return the least threshold that a new patient's study keeps to with probability 1 - alpha.

    Of G patients each weighs 1 / (G + 1), shared by his studies, and infinity weighs the rest: the quantile of
    hierarchical conformal prediction (Lee, Barber and Willett 2023). With one study a patient this is the
    ceil((G + 1)(1 - alpha))-th smallest score of split conformal prediction (Vovk et al. 2005).

    Args:
        scores: (N,) of the true answers.
        member: (N,) which patient each study is of.
        alpha: Chance of missing the true answer.

    Returns:
        A score that occurs, or infinity where there are too few patients.

    >>> conformal_quantile(np.array([0.3, 0.1, 0.2]), np.arange(3), 0.5)
    0.2
    """
    if not len(scores):
        return float("inf")
    _, place, studies = np.unique(member, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weight = np.cumsum((1 / ((len(studies) + 1) * studies))[place.reshape(-1)][order])
    # Sums of weights are not exact; a patient more or less would change them by far more.
    reached = np.flatnonzero(weight >= 1 - alpha - 1e-9)
    return float(scores[order[reached[0]]]) if len(reached) else float("inf")


def patients_needed(alpha: float) -> int:
    """Return how many patients a threshold needs to be finite.

    >>> patients_needed(0.1), patients_needed(0.05)
    (9, 19)
    """
    return int(np.ceil(1 / alpha - 1 - 1e-9))
