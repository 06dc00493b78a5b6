"""Metrics of the predicted class, from confusion matrices of many draws at once."""

from __future__ import annotations

import numpy as np

from mailnet.metrics.known import Array


def confusion(weights: Array, truth: Array, predicted: Array, classes: int) -> Array:
    """Return (D, K, K) weighted counts, rows true and columns predicted.

    Args:
        weights: (D, N) weight of each study in each draw.
        truth: (N,) labels.
        predicted: (N,) predicted labels.
        classes: K.
    """
    cell = truth * classes + predicted
    order = np.argsort(cell, kind="stable")
    filled, starts = np.unique(cell[order], return_index=True)
    counts = np.zeros((len(weights), classes * classes))
    counts[:, filled] = np.add.reduceat(weights[:, order], starts, axis=1)
    return counts.reshape(-1, classes, classes)


def class_rates(counts: Array) -> dict[str, Array]:
    """Return (D, K) rates of each class against the others; NaN where the denominator is empty.

    Args:
        counts: (D, K, K) from ``confusion``.

    Returns:
        ``sensitivity``, ``specificity``, ``precision``, ``npv`` and ``f1``; F1 is NaN for a class without a study.
    """
    hit = np.einsum("dkk->dk", counts)
    positive, flagged = counts.sum(2), counts.sum(1)
    total = counts.sum((1, 2))[:, None]
    rest = total - positive - flagged + hit
    return {
        "sensitivity": divide(hit, positive),
        "specificity": divide(rest, total - positive),
        "precision": divide(hit, flagged),
        "npv": divide(rest, total - flagged),
        "f1": np.where(positive > 0, divide(2 * hit, positive + flagged), np.nan),
    }


def quadratic_kappa(counts: Array) -> Array:
    """Return (D,) Cohen's kappa with quadratic weights; NaN where all studies are of one class and predicted so.

    Source:
        J. Cohen, "Weighted kappa", Psychological Bulletin 70 (1968), 213-220.
    """
    classes = counts.shape[-1]
    penalty = np.square(np.subtract.outer(np.arange(classes), np.arange(classes)))
    by_chance = np.einsum("di,dj,ij->d", counts.sum(2), counts.sum(1), penalty) / counts.sum((1, 2))
    return 1 - divide(np.einsum("dij,ij->d", counts, penalty), by_chance)


def mean_absolute_error(counts: Array) -> Array:
    """Return (D,) mean distance between the true and the predicted class, in classes."""
    classes = counts.shape[-1]
    distance = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes)))
    return divide(np.einsum("dij,ij->d", counts, distance), counts.sum((1, 2)))


def divide(above: Array, below: Array) -> Array:
    """Return ``above / below``, NaN where ``below`` is zero."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0)


def mean_defined(values: Array) -> Array:
    """Return (D,) means over the defined values of (D, K), NaN where none is."""
    defined = np.isfinite(values)
    return divide(np.where(defined, values, 0.0).sum(1), defined.sum(1))
