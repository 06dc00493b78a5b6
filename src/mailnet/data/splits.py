"""Divides groups into training, validation and test: stratified, seeded, the same whatever the order of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mailnet.data.config import SPLITS, Split, SplitConfig

# A combination of labels is kept in proportion beside the labels themselves where it is common enough to divide.
_COMMON = 10

Labels = tuple[Hashable, ...]


def digests(units: Iterable[str]) -> list[str]:
    """Return the distinct units as digests in order, so that a run can know again what it has seen and name nobody.

    >>> digests(["p1", "p1"])
    ['f64551fcd6f07823']
    """
    return sorted({hashlib.sha256(unit.encode()).hexdigest()[:16] for unit in units})


def split_rows(groups: Sequence[str], labels: Sequence[Labels], config: SplitConfig) -> list[Split]:
    """Return the split of every row.

    Args:
        groups: Key of every row; rows with one key stay together.
        labels: Of every row, the labels to keep in proportion, for example ``(("tumour", 1), ("grade", 0))``.
        config: Fractions and seed.

    Returns:
        ``train``, ``val`` or ``test`` for every row; a function of keys, labels and seed alone, see ``split_kinds``.
    """
    kinds: dict[Labels, int] = {}
    places = np.array([kinds.setdefault(row, len(kinds)) for row in labels], dtype=np.int64)
    return [SPLITS[k] for k in split_kinds(pd.Series(list(groups), dtype=object), places, list(kinds), config)]


def split_kinds(groups: pd.Series[Any], kinds: np.ndarray, labels: Sequence[Labels], config: SplitConfig) -> np.ndarray:
    """Return the split of every row, of rows that are alike in their labels by the thousand.

    Iterative stratification of whole groups, a group counting once for every label among its rows: the group with the
    rarest label is placed where that label is wanted most. A label of three groups or more reaches every split; one of
    fewer is in training first.

    Args:
        groups: Key of every row (N,); rows with one key stay together.
        kinds: (N,) the place in ``labels`` of what a row has.
        labels: The labels to keep in proportion of each kind of row, for example ``(("tumour", 1), ("grade", 0))``.
        config: Fractions and seed.

    Returns:
        (N,) int8: place in ``SPLITS``; a function of keys, labels and seed alone.

    Source:
        Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, ECML PKDD 2011.
    """
    rows, names = pd.factorize(groups)
    profile, members = _profiles(rows, kinds, [_names(row) for row in labels])
    count: dict[str, int] = {}
    for own, several in zip(members, np.bincount(profile, minlength=len(members)).tolist(), strict=True):
        for name in own:
            count[name] = count.get(name, 0) + several
    fractions = [(k, fraction) for k, split in enumerate(SPLITS) if (fraction := getattr(config, split)) > 0]
    single = {repr(label) for row in labels for label in row}
    # By rarity, then name: the first is what decides when a group is placed.
    ranked = sorted((n, name) for name, n in count.items() if name in single or n >= _COMMON)
    wanted = {name: _Wish(_wanted(n, fractions)) for n, name in ranked}
    overall = _Wish({k: fraction * len(names) for k, fraction in fractions})
    kept = [[name for _, name in sorted((count[name], name) for name in own & wanted.keys())] for own in members]
    rank = {name: k for k, (_, name) in enumerate(ranked)}
    first = np.array([rank[own[0]] if own else len(rank) for own in kept], dtype=np.int64)
    wishes = [[*(wanted[name] for name in own), overall] for own in kept]

    chosen = np.zeros(len(names), dtype=np.int8)
    order = np.lexsort([*_ties(names.tolist(), config.seed), first[profile]])
    splits = [k for k, _ in fractions]
    best: list[int] = []
    for own in profile[order].tolist():
        mine = wishes[own]
        best.append(max(splits, key=lambda k: [wish.rounded[k] for wish in mine]))
        for wish in mine:
            wish.grant(best[-1])
    chosen[order] = best
    return chosen[rows]


class _Wish:
    """How many groups with a label each split still wants.

    Args:
        left: Split -> number.
    """

    def __init__(self, left: dict[int, float]) -> None:
        self.left = left
        # As they are compared: rounded when they change, since there are groups by the million.
        self.rounded = {k: round(number, 9) for k, number in left.items()}

    def grant(self, split: int) -> None:
        self.left[split] -= 1
        self.rounded[split] = round(self.left[split], 9)


def _names(row: Labels) -> frozenset[str]:
    return frozenset({repr(label) for label in row} | ({repr(tuple(row))} if len(row) > 1 else set()))


def _profiles(
    rows: np.ndarray, kinds: np.ndarray, names: Sequence[frozenset[str]]
) -> tuple[np.ndarray, list[frozenset[str]]]:
    """Return of each group the place of its labels in the distinct sets of labels, and these sets."""
    pairs = np.unique(rows * len(names) + kinds)
    kind = pairs % len(names) if len(names) else pairs
    starts = np.flatnonzero(np.diff(pairs // max(len(names), 1), prepend=-1))
    places: dict[frozenset[str], int] = {}
    alone = np.array([places.setdefault(own, len(places)) for own in names], dtype=np.int64)
    profile = alone[kind[starts]]
    ends = np.append(starts[1:], len(pairs))
    known: dict[tuple[int, ...], int] = {}
    for group in np.flatnonzero(ends - starts > 1):
        several = tuple(kind[starts[group] : ends[group]].tolist())
        if several not in known:
            known[several] = places.setdefault(frozenset().union(*(names[k] for k in several)), len(places))
        profile[group] = known[several]
    return profile, list(places)


def _wanted(count: int, fractions: Sequence[tuple[int, float]]) -> dict[int, float]:
    if count < len(fractions):
        return {k: fraction * count for k, fraction in fractions}
    wanted = {k: max(fraction * count, 1.0) for k, fraction in fractions}
    train = SPLITS.index("train")
    wanted[train] = max(count - sum(wanted[k] for k, _ in fractions if k != train), 1.0)
    return wanted


def _ties(names: Iterable[str], seed: int) -> list[np.ndarray]:
    # Ties are broken by a hash of the key, so that neither the rows' order nor Python's hash seed matters.
    hashes = b"".join(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:16] for name in names)
    words = np.frombuffer(hashes, dtype=">u8").reshape(-1, 2)
    return [words[:, 1].astype(np.uint64), words[:, 0].astype(np.uint64)]
