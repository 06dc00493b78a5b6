"""Which images of a study tell, beside each other, whether they are of one patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from mailnet.bundle.foreign_images import Look
from mailnet.bundle.foreign_pair import ForeignPair
from mailnet.trust.alarm import fit_alarm
from mailnet.trust.pairs import fit_pair

# Alarms share a rate of false ones, so one that tells less than this would cost the others more than it is worth.
WORTH = 0.5
STRANGERS = 5  # of other patients, with which each validation study is tried

Seen = tuple[Mapping[str, Look], Mapping[str, np.ndarray]]


def fit_pairs(
    names: Sequence[str], train: Seen, val: Seen, patients: np.ndarray, rate: float, alarms: int
) -> tuple[ForeignPair, ...]:
    """Return the pairs that tell at least half of the validation studies that are given an image of another patient.

    No more than join all modalities: images of two patients in one study lie on the two sides of at least one of them.

    Args:
        names: Images and volumes.
        train: What is seen of training studies and their rows, by modality.
        val: Of validation studies.
        patients: (N,) of all validation studies.
        rate: Rate of false alarms, of a study.
        alarms: Number of those that share it already.
    """
    found = []
    for first, second in combinations(names, 2):
        a, b, _ = _both(first, second, train)
        c, d, rows = _both(first, second, val)
        try:
            score = fit_pair(a, b)
        except ValueError:  # too few, or all the same
            continue
        alarm = fit_alarm(score.score(c, d), rate, patients=patients[rows])
        random = np.random.default_rng(0)
        strangers = [random.permutation(len(rows)) for _ in range(STRANGERS)]
        p = [alarm.p_value(score.score(c, d[order]))[patients[rows] != patients[rows][order]] for order in strangers]
        told = float(np.mean(np.concatenate(p) * (alarms + 1) <= rate)) if any(len(of) for of in p) else 0.0
        found.append(ForeignPair(first, second, score, alarm, told))
    return tuple(_joining([pair for pair in found if pair.told >= WORTH]))


def _joining(pairs: Sequence[ForeignPair]) -> list[ForeignPair]:
    """Return the best pairs, each of which joins modalities that were not joined before (Kruskal's algorithm)."""
    side: dict[str, str] = {}
    kept = []
    for pair in sorted(pairs, key=lambda one: -one.told):
        a, b = (side.setdefault(name, name) for name in (pair.first, pair.second))
        if a != b:
            kept.append(pair)
            side = {name: a if of == b else of for name, of in side.items()}
    return kept


def _both(first: str, second: str, seen: Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pictures of the studies that have both, and these studies' rows."""
    looks, rows = seen
    both, a, b = np.intersect1d(rows[first], rows[second], return_indices=True)
    return looks[first].picture[a], looks[second].picture[b], both
