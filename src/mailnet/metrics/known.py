"""Which labels are known."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"


def known_labels(labels: Array) -> Array:
    """Return (N,) bool, True where a study has a label, or at least one of several.

    Args:
        labels: (N,) int labels with -1 where unknown, or (N, K) floats with NaN where unknown.

    >>> known_labels(np.array([2, -1])).tolist(), known_labels(np.array([[np.nan, 1.0], [np.nan, np.nan]])).tolist()
    ([True, False], [True, False])
    """
    return np.asarray(labels >= 0 if labels.ndim == 1 else ~np.isnan(labels).all(axis=1))
