"""Divides groups into training, validation and test: stratified, seeded, the same whatever the order of the rows."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from mailnet.data.config import SPLITS, Split, SplitConfig

# A combination of labels is kept in proportion beside the labels themselves where it is common enough to divide.
_COMMON = 10


def digests(units: Iterable[str]) -> list[str]:
    """Return the distinct units as digests in order, so that a run can know again what it has seen and name nobody.

    >>> digests(["p1", "p1"])
    ['f64551fcd6f07823']
    """
    return sorted({hashlib.sha256(unit.encode()).hexdigest()[:16] for unit in units})


def split_rows(groups: Sequence[str], labels: Sequence[tuple[Hashable, ...]], config: SplitConfig) -> list[Split]:
    """Return the split of every row.

    Iterative stratification of whole groups, a group counting once for every label among its rows: the group with the
    rarest label is placed where that label is wanted most. A label of three groups or more reaches every split; one of
    fewer is in training first.

    Args:
        groups: Key of every row; rows with one key stay together.
        labels: Of every row, the labels to keep in proportion, for example ``(("tumour", 1), ("grade", 0))``.
        config: Fractions and seed.

    Returns:
        ``train``, ``val`` or ``test`` for every row; a function of keys, labels and seed alone.

    Source:
        Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, ECML PKDD 2011.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for group, row in zip(groups, labels, strict=True):
        members[group] |= {repr(label) for label in row} | ({repr(tuple(row))} if len(row) > 1 else set())
    count: dict[str, int] = defaultdict(int)
    for names in members.values():
        for name in names:
            count[name] += 1
    fractions = {split: fraction for split in SPLITS if (fraction := getattr(config, split)) > 0}
    single = {repr(label) for row in labels for label in row}
    kept = {name for name in count if name in single or count[name] >= _COMMON}
    wanted = {name: _wanted(count[name], fractions) for name in kept}
    overall: dict[Split, float] = {split: fraction * len(members) for split, fraction in fractions.items()}

    chosen: dict[str, Split] = {}
    for group in _order(members, kept, count, config.seed):
        own = sorted(members[group] & kept, key=lambda name: (count[name], name))
        wishes = [wanted[name] for name in own] + [overall]
        best = max(fractions, key=lambda split: tuple(round(wish[split], 9) for wish in wishes))
        chosen[group] = best
        for wish in wishes:
            wish[best] -= 1
    return [chosen[group] for group in groups]


def _wanted(count: int, fractions: dict[Split, float]) -> dict[Split, float]:
    if count < len(fractions):
        return {split: fraction * count for split, fraction in fractions.items()}
    wanted = {split: max(fraction * count, 1.0) for split, fraction in fractions.items()}
    wanted["train"] = max(count - sum(wanted[split] for split in fractions if split != "train"), 1.0)
    return wanted


def _order(members: dict[str, set[str]], kept: set[str], count: dict[str, int], seed: int) -> list[str]:
    # Ties are broken by a hash of the key, so that neither the rows' order nor Python's hash seed matters.
    def place(group: str) -> tuple[float, str, bytes]:
        own = [(count[name], name) for name in members[group] & kept]
        rarest, name = min(own, default=(np.inf, ""))
        return rarest, name, hashlib.sha256(f"{seed}\0{group}".encode()).digest()

    return sorted(members, key=place)
