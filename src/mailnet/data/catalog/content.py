"""Which images are the same picture: equal as a small grey copy, or nearly so, whatever their file."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mailnet.data.check.pictures import thumbnail
from mailnet.data.check.similar import similar_pairs
from mailnet.data.locations import split_location
from mailnet.data.progress import progress

SIDE = 32
CHUNK = 64


@dataclass(frozen=True)
class Pictures:
    """What is kept of images to compare them.

    Args:
        prints: Location -> what only the same picture shares; empty for a file that cannot be read.
        small: Print -> (24, 24) uint8 grey, stretched to the whole range; only of pictures that are not of one value.
    """

    prints: dict[str, str]
    small: dict[str, np.ndarray]


def read_pictures(locations: Sequence[str]) -> Pictures:
    """Return what images look like.

    Args:
        locations: Paths, or ``file.npz!array/INDEX``, whose arrays are read once from front to back and only compared
            whole.
    """
    plain = [place for place in dict.fromkeys(locations) if split_location(place)[1] is None]
    found = Pictures({}, {})
    with progress("Comparing images", len(set(locations))) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(plain), CHUNK):
            chunk = plain[start : start + CHUNK]
            for place, (print_, small) in zip(chunk, pool.map(_picture, chunk), strict=True):
                found.prints[place] = print_
                if small is not None:
                    found.small[print_] = small
            advance(len(chunk))
        arrays = dict.fromkeys(place.rpartition("/")[0] for place in locations if split_location(place)[1] is not None)
        for array in arrays:
            for number, print_ in enumerate(_array(array)):
                found.prints[f"{array}/{number}"] = print_
                advance(1)
    return found


def alike(pictures: Pictures) -> dict[str, str]:
    """Return for the print of each picture a name that nearly equal pictures share: resized, recompressed, cut."""
    prints = list(pictures.small)
    if not prints:
        return {}
    with progress("Finding copies", len(prints)) as advance:
        pairs, _ = similar_pairs(np.stack(list(pictures.small.values())), lambda a, b: np.ones(len(a), bool))
        advance(len(prints))
    keys: list[list[str]] = [[] for _ in prints]
    for pair in pairs.tolist():
        for place in pair:
            keys[place].append(f"{pair[0]}-{pair[1]}")
    return {print_: str(number) for print_, number in zip(prints, components(keys), strict=True)}


def _picture(path: str) -> tuple[str, np.ndarray | None]:
    try:
        with Image.open(path) as image:
            # A JPEG is decoded no larger than is needed.
            image.draft("L", (256, 256))
            grey = image.convert("L")
            low, high = grey.getextrema()
            if low != high:
                print_ = hashlib.sha256(grey.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()).hexdigest()
                return print_, thumbnail(np.asarray(grey)[None])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass
    # Of an empty picture and of other formats, the bytes must do.
    return _bytes(path), None


def _bytes(path: str) -> str:
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
            return digest.hexdigest()
    except OSError:
        return ""


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
