"""How far apart the subgroups of patients are in any metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mailnet.trust.arrays import Array, read_names, read_patients

# (D, N), how often each study counts in each of D draws -> (D,), NaN where the metric is not defined.
Metric = Callable[[Array], Array]

LEVEL = 0.95
# Fewer patients than these tell too little of a subgroup.
LEAST = 20
# Weights of a block of draws take about this many numbers.
BLOCK = 400_000


@dataclass(frozen=True)
class Subgroup:
    """A metric in one subgroup: value, 95% interval (None where it is not defined in most draws), studies, patients."""

    value: float
    low: float | None
    high: float | None
    studies: int
    patients: int


@dataclass(frozen=True)
class Gap:
    """The gap between the subgroups of a metric.

    Args:
        value: Highest less lowest of the groups' values; None where fewer than two groups can be judged.
        low: Of its 95% interval, 0 or above; None where there is none. It is the basic bootstrap interval (Davison and
            Hinkley 1997): the highest less the lowest of redrawn values is larger than that of the true ones, and
            percentiles alone would never reach 0. With many subgroups it is still somewhat too high.
        high: Likewise.
        chance: Chance of a gap as large or larger if subgroups were dealt to patients at random (permutation test),
            which is exact for any number of subgroups. None where a patient has studies in several of them.
        lowest: The group with the lowest value.
        highest: The group with the highest value.
        groups: The groups that were judged.
        smallest: Patients of the smallest of them.
        left_out: Group -> why it was not judged.
    """

    value: float | None
    low: float | None
    high: float | None
    chance: float | None
    lowest: str | None
    highest: str | None
    groups: dict[str, Subgroup]
    smallest: int
    left_out: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def by_rows(metric: Callable[[Array], float]) -> Metric:
    """Return a metric of weights from one of rows, which is called with the positions of studies, repeated as drawn."""

    def of_weights(weights: Array) -> Array:
        rows = np.arange(weights.shape[1])
        return np.array([metric(np.repeat(rows, draw.astype(int))) if draw.any() else np.nan for draw in weights])

    return of_weights


def measure_gap(
    metric: Metric,
    subgroups: Array,
    *,
    patients: Array | None = None,
    bootstrap: int = 1000,
    permutations: int = 1000,
    least: int = LEAST,
    seed: int = 0,
) -> Gap:
    """Measure a metric in every subgroup and the gap between them.

    Args:
        metric: As a function of weights; ``by_rows`` makes one of a function of rows.
        subgroups: (N,) group of each study; an empty text is unknown and belongs to none.
        patients: (N,) patient of each study; None where each is of another. Patients are drawn and dealt whole.
        bootstrap: Draws of the intervals; 0 for none.
        permutations: Of the test of chance; 0 for none.
        least: Patients that a subgroup needs to be judged.
        seed: Of the draws.

    Raises:
        ValueError: Wrong shapes, or a metric that gives another shape.
    """
    names = np.asarray(subgroups)
    names = read_names(subgroups, names.size, "subgroups").astype(str)
    member = read_patients(patients, len(names))
    values = sorted(set(names.tolist()) - {""})
    masks = {name: names == name for name in values}
    sizes = {name: len(np.unique(member[mask])) for name, mask in masks.items()}
    alone = {name: float(_of(metric, mask[None].astype(np.float64))[0]) for name, mask in masks.items()}
    left_out = {}
    for name in values:
        if sizes[name] < least:
            left_out[name] = f"{sizes[name]} patients, {least} are needed"
        elif not np.isfinite(alone[name]):
            left_out[name] = "the metric is not defined, as where a class is missing"
    judged = [name for name in values if name not in left_out]
    random = np.random.default_rng(seed)
    units = int(member.max()) + 1 if len(member) else 0
    drawn = np.full((len(judged), bootstrap), np.nan)
    for part in _blocks(bootstrap, len(names)):
        draws = part.stop - part.start
        chosen = random.integers(0, units, (draws, units)) + units * np.arange(draws)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=draws * units).reshape(draws, units)
        weights = counts.astype(np.float64)[:, member]
        for g, name in enumerate(judged):
            drawn[g, part] = _of(metric, weights * masks[name])
    groups = {
        name: Subgroup(alone[name], *_interval(drawn[g]), int(masks[name].sum()), sizes[name])
        for g, name in enumerate(judged)
    }
    smallest = min((sizes[name] for name in judged), default=0)
    if len(judged) < 2:
        return Gap(None, None, None, None, None, None, groups, smallest, left_out)
    ordered = sorted(judged, key=lambda name: alone[name])
    value = alone[ordered[-1]] - alone[ordered[0]]
    low, high = _reflected(drawn.max(0) - drawn.min(0), value)
    chance = _chance(metric, value, [masks[name] for name in judged], member, permutations, random)
    return Gap(value, low, high, chance, ordered[0], ordered[-1], groups, smallest, left_out)


def holm(chances: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, so that calling those up to a level hardly ever is wrong of any.

    Args:
        chances: The p-values, of tests that may depend on each other in any way.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    found, worst = [0.0] * len(chances), 0.0
    for place, k in enumerate(sorted(range(len(chances)), key=lambda k: chances[k])):
        worst = max(worst, min(1.0, (len(chances) - place) * chances[k]))
        found[k] = worst
    return found


def _of(metric: Metric, weights: Array) -> Array:
    found = np.asarray(metric(weights), dtype=np.float64)
    if found.shape != (len(weights),):
        raise ValueError(f"the metric must give one number a draw, ({len(weights)},), got {found.shape}")
    return found


def _blocks(draws: int, studies: int) -> Iterator[slice]:
    """Yield places among the draws, so many at a time that weights (d, N) are not too large."""
    size = max(1, BLOCK // max(studies, 1))
    for start in range(0, draws, size):
        yield slice(start, min(start + size, draws))


def _defined(draws: Array) -> Array | None:
    """Return the draws that are numbers, None where half or more are not."""
    defined = draws[np.isfinite(draws)]
    return defined if 2 * len(defined) > len(draws) else None


def _interval(draws: Array) -> tuple[float | None, float | None]:
    defined = _defined(draws)
    if defined is None:
        return None, None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _reflected(draws: Array, value: float) -> tuple[float | None, float | None]:
    """Return the basic bootstrap interval, the percentiles of the draws reflected at the value, never below 0."""
    low, high = _interval(draws)
    if low is None or high is None:
        return None, None
    return max(2 * value - high, 0.0), max(2 * value - low, 0.0)


def _chance(
    metric: Metric, value: float, masks: list[Array], member: Array, permutations: int, random: np.random.Generator
) -> float | None:
    """Return the share of random dealings whose gap is as large; None where a patient is in several subgroups."""
    group = np.full(len(member), -1)
    for g, mask in enumerate(masks):
        group[mask] = g
    judged = np.flatnonzero(group >= 0)
    _, first, place = np.unique(member[judged], return_index=True, return_inverse=True)
    own = group[judged][first]
    if not permutations or (own[place.reshape(-1)] != group[judged]).any():
        return None
    gaps = np.full(permutations, np.nan)
    for part in _blocks(permutations, len(member)):
        draws = part.stop - part.start
        dealt = random.permuted(np.tile(own, (draws, 1)), axis=1)[:, place.reshape(-1)]
        weights, found = np.zeros((draws, len(member))), []
        for g in range(len(masks)):
            weights[:, judged] = dealt == g
            found.append(_of(metric, weights))
        gaps[part] = np.max(found, axis=0) - np.min(found, axis=0)
    defined = _defined(gaps)
    # Rounding must not part a gap from itself.
    return None if defined is None else (1 + int((defined >= value - 1e-12).sum())) / (1 + len(defined))
