"""Which images are the same picture: equal as a small grey copy, or nearly so, whatever their file."""

from __future__ import annotations

import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from mailnet.data.check.pictures import read_pictures as check_pictures
from mailnet.data.check.similar import similar_pairs, turned_pairs
from mailnet.data.config import PixelConfig
from mailnet.data.locations import split_location
from mailnet.data.progress import progress

ROUNDS = 3


@dataclass(frozen=True)
class Pictures:
    """What is kept of images to compare them.

    Args:
        prints: Location -> what only the same picture shares; empty for a file that cannot be read.
        small: Print -> (24, 24) uint8 grey, stretched to the whole range; only of pictures that are not of one value.
    """

    prints: dict[str, str]
    small: dict[str, np.ndarray]


def read_pictures(locations: Sequence[str], section: PixelConfig) -> Pictures:
    """Return what images look like.

    Args:
        locations: Paths, or ``file.npz!array/INDEX``, whose arrays are read once from front to back and only compared
            whole.
        section: Their modality.
    """
    found = Pictures({}, {})
    plain = [place for place in dict.fromkeys(locations) if split_location(place)[1] is None]
    seen = check_pictures(pd.Series(plain, dtype=object), section, "images")
    for place, readable, constant, digest, small in zip(
        seen.locations, seen.readable, seen.constant, seen.digest, seen.thumbnail, strict=True
    ):
        if readable:
            # An empty picture says nothing when it is small.
            print_ = hashlib.sha256(digest.tobytes() if constant else small.tobytes()).hexdigest()
            found.prints[place] = print_
            if not constant:
                found.small[print_] = small
    arrays = dict.fromkeys(place.rpartition("/")[0] for place in locations if split_location(place)[1] is not None)
    for array in arrays:
        found.prints.update((f"{array}/{number}", print_) for number, print_ in enumerate(_array(array)))
    return found


def alike(pictures: Pictures) -> dict[str, str]:
    """Return for the print of each picture a name that nearly equal pictures share: resized, cut, mirrored."""
    prints = list(pictures.small)
    if not prints:
        return {}
    small = np.stack(list(pictures.small.values()))
    # Pictures of one value are no copies of each other.
    varied = np.flatnonzero(small.reshape(len(small), -1).max(axis=1) > small.reshape(len(small), -1).min(axis=1))
    numbers = np.arange(len(prints))
    keys: list[list[str]] = [[] for _ in prints]
    with progress("Finding copies", ROUNDS) as advance:
        for _ in range(ROUNDS):
            # What is joined already would take the places of what is not.
            apart = partial(_apart, numbers[varied])
            pairs = np.concatenate([similar_pairs(small, varied, apart)[0], turned_pairs(small[varied], apart)[0]])
            if not len(pairs):
                break
            for pair in varied[pairs].tolist():
                for place in pair:
                    keys[place].append(f"{pair[0]}-{pair[1]}")
            numbers = np.array(components(keys))
            advance(1)
    return {print_: str(number) for print_, number in zip(prints, numbers, strict=True)}


def _apart(numbers: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    different: np.ndarray = numbers[first] != numbers[second]
    return different


def _array(location: str) -> Iterator[str]:
    path, member = split_location(location)
    with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        size = dtype.itemsize * int(np.prod(shape[1:]))
        for _ in range(shape[0]):
            yield hashlib.sha256(file.read(size)).hexdigest()


def components(keys: Sequence[Sequence[str]]) -> list[int]:
    """Return a number for each row, equal where rows share a key, directly or through others.

    Args:
        keys: Of every row its keys.

    >>> components([["p1", "x"], ["p2", "x"], ["p3"], []])
    [0, 0, 2, 3]
    """
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    sharing: dict[str, list[int]] = defaultdict(list)
    for row, own in enumerate(keys):
        for key in own:
            sharing[key].append(row)
    for rows in sharing.values():
        for row in rows[1:]:
            first, second = sorted((root(rows[0]), root(row)))
            parent[second] = first
    return [root(row) for row in range(len(keys))]
