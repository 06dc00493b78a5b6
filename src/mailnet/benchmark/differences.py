"""How much better a network is than the reference, with an interval over patients and seeds.

Both are drawn anew: a draw takes patients with replacement, the same for both networks, since their redraws share a
seed, and of each network its seeds with replacement, independently, since a seed of one network has nothing to do with
the same number in another. The value of a network in a draw is the mean over its drawn seeds. With few seeds, drawing
them understates their spread: of S seeds it shows (S - 1) / S of the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
SEED_DRAWS = 20  # draws of the seeds for each draw of the patients


@dataclass(frozen=True)
class Difference:
    """Network minus reference.

    Args:
        value: Difference of the means over seeds.
        low: Lower bound of the 95% interval, None where there are no redraws.
        high: Upper bound.
    """

    value: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(
    values: Sequence[float], reference: Sequence[float], redraws: Array, reference_redraws: Array, seed: int = 0
) -> Difference:
    """Return the difference of two networks on one task, or on the mean of several.

    Args:
        values: (S,) of the network, one a seed.
        reference: (R,) of the reference.
        redraws: (S, D) values in each draw of patients, NaN where one is not defined; D may be 0.
        reference_redraws: (R, D), of the same draws.
        seed: Of the draws of seeds.
    """
    value = float(np.mean(values) - np.mean(reference))
    defined = np.isfinite(redraws).all(0) & np.isfinite(reference_redraws).all(0)
    if 2 * defined.sum() <= redraws.shape[1] or not defined.any():
        return Difference(value, None, None)
    random = np.random.default_rng(seed)
    drawn = _seeds_drawn(redraws[:, defined], random) - _seeds_drawn(reference_redraws[:, defined], random)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(value, float(low), float(high))


def _seeds_drawn(redraws: Array, random: np.random.Generator) -> Array:
    """(D, SEED_DRAWS) means over seeds drawn with replacement, from (S, D)."""
    seeds, draws = redraws.shape
    chosen = random.integers(0, seeds, (draws, SEED_DRAWS, seeds))
    means: Array = redraws.T[np.arange(draws)[:, None, None], chosen].mean(2)
    return means
