"""Which images are the same picture: equal as a small grey copy, whatever their file."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from mailnet.data.locations import split_location
from mailnet.data.progress import progress

SIDE = 32
CHUNK = 64


def fingerprints(locations: Sequence[str]) -> dict[str, str]:
    """Return for each image what only the same picture shares; nothing for a file that is no picture.

    Args:
        locations: Paths, or ``file.npz!array/INDEX``, whose arrays are read once from front to back.
    """
    plain = [place for place in dict.fromkeys(locations) if split_location(place)[1] is None]
    found: dict[str, str] = {}
    with progress("Comparing images", len(set(locations))) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(plain), CHUNK):
            chunk = plain[start : start + CHUNK]
            found |= {place: print_ for place, print_ in zip(chunk, pool.map(_picture, chunk), strict=True) if print_}
            advance(len(chunk))
        arrays = dict.fromkeys(place.rpartition("/")[0] for place in locations if split_location(place)[1] is not None)
        for array in arrays:
            for number, print_ in enumerate(_array(array)):
                found[f"{array}/{number}"] = print_
                advance(1)
    return found


def _picture(path: str) -> str:
    try:
        with Image.open(path) as image:
            # A JPEG is decoded no larger than is needed.
            image.draft("L", (256, 256))
            small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        small = np.zeros((SIDE, SIDE), np.uint8)
    # Of an empty picture and of other formats, the bytes must do.
    content = small.tobytes() if small.min() != small.max() else _bytes(path)
    return hashlib.sha256(content).hexdigest() if content else ""


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
            return digest.digest()
    except OSError:
        return b""


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
    """Return a number for each row, equal where rows share a key, directly or through others; empty keys join nothing.

    Args:
        keys: Of every row its keys.

    >>> components([["p1", "x"], ["p2", "x"], ["p3", ""], ["p4", ""]])
    [0, 0, 2, 3]
    """
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    sharing: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row, own in enumerate(keys):
        for kind, key in enumerate(own):
            if key:
                sharing[kind, key].append(row)
    for rows in sharing.values():
        for row in rows[1:]:
            first, second = sorted((root(rows[0]), root(row)))
            parent[second] = first
    return [root(row) for row in range(len(keys))]
