"""How well one column alone tells the label: smoothed class shares of its values, tried on patients left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOLDS = 5
BINS = 16
# So many examples of the whole are added to every value, so that a value seen twice says little.
SMOOTHING = 2.0
DISTINCT = 20


@dataclass(frozen=True)
class Score:
    """What a column tells of a label.

    Args:
        auroc: Of the class that it tells best against all others, on patients left out.
        label: That class, as its number.
        balanced_accuracy: Of the most probable class, each class weighing the same.
        z: How many standard errors of a column of noise the AUROC lies above 0.5, counted in patients.
        n: Number of rows.
    """

    auroc: float
    label: int
    balanced_accuracy: float
    z: float
    n: int


def score(codes: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int) -> Score | None:
    """Return how well values tell labels, None where fewer than two classes have five patients each.

    Args:
        codes: (n,) int, the value of each row as a number from 0.
        labels: (n,) int, from 0.
        groups: (n,) int, the patient of each row.
        classes: Number of classes K.

    Source:
        Mann and Whitney, Ann Math Stat 1947, for the standard error of the area under noise.
    """
    pairs = np.unique(groups * classes + labels)
    patients = np.bincount(pairs % classes, minlength=classes)
    known = np.flatnonzero(patients >= FOLDS)
    if len(known) < 2:
        return None
    values = int(codes.max()) + 1
    fold = _folds(groups, labels)
    cells = (fold * values + codes) * classes + labels
    counts = np.bincount(cells, minlength=FOLDS * values * classes).reshape(FOLDS, values, classes).astype(np.float64)
    others = counts.sum(axis=0) - counts
    prior = counts.sum(axis=(0, 1)) / len(codes)
    shares = (others + SMOOTHING * prior) / (others.sum(axis=2, keepdims=True) + SMOOTHING)
    areas = np.array([_auroc(shares[..., k].ravel(), counts[..., k].ravel(), counts.sum(2).ravel()) for k in known])
    has, lacks = patients[known], patients.sum() - patients[known]
    z = (areas - 0.5) / np.sqrt((has + lacks + 1) / (12.0 * has * lacks))
    best = int(np.argmax(np.where(z >= z.max() / 2, areas, 0)))
    chosen = (shares / np.maximum(prior, 1e-9))[..., known].argmax(axis=2)
    right = [counts[..., k][chosen == place].sum() / counts[..., k].sum() for place, k in enumerate(known)]
    return Score(float(areas[best]), int(known[best]), float(np.mean(right)), float(z[best]), len(codes))


def chance(columns: int) -> float:
    """Return the z that the best of so many columns of noise exceeds in about one of a hundred studies.

    >>> round(chance(1), 1), round(chance(1000), 1)
    (3.0, 4.8)
    """
    return float(np.sqrt(2 * np.log(max(columns, 1) / 0.01)))


def binned(values: np.ndarray) -> np.ndarray:
    """Return numbers as codes of at most 16 bins of equal counts; few different values stay apart.

    >>> binned(np.array([0.5, 3.0, 0.5]))
    array([0, 1, 0])
    """
    distinct, codes = np.unique(values, return_inverse=True)
    if len(distinct) <= DISTINCT:
        return codes.reshape(-1)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _folds(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the fold of every row: groups stay whole, and each label is in every fold alike."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((np.random.default_rng(0).random(len(first)), labels[first]))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % FOLDS
    folds: np.ndarray = fold[number.reshape(-1)]
    return folds


def _auroc(scores: np.ndarray, positive: np.ndarray, total: np.ndarray) -> float:
    """Return the area where the rows of a cell share one score."""
    distinct, place = np.unique(scores, return_inverse=True)
    place = place.reshape(-1)
    hits = np.bincount(place, positive, minlength=len(distinct))
    misses = np.bincount(place, total - positive, minlength=len(distinct))
    below = np.cumsum(misses) - misses
    pairs = hits.sum() * misses.sum()
    return float((hits * (below + misses / 2)).sum() / pairs) if pairs else 0.5
