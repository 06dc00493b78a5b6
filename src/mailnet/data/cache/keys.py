"""By what an image is found again: a digest of what tells that its file is the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from mailnet.data.archives import identity
from mailnet.data.cache.shards import KEY
from mailnet.data.locations import Locator, split_plane
from mailnet.data.progress import progress

LOOKED_UP = 4096  # locations that a thread asks the file system for at a time
SLOW = 100_000  # locations from which on even looking them up is shown
THREADS = min(8, os.cpu_count() or 1)

Locations: TypeAlias = "Sequence[str] | np.ndarray | pd.Series[Any]"


def find_keys(locations: Locations, locator: Locator, label: str = "images") -> np.ndarray:
    """Return the keys (N,) of images, 16 bytes each; empty where there is none."""
    keys = np.zeros(len(locations), KEY)

    def look(start: int) -> int:
        rows = np.arange(start, min(start + LOOKED_UP, len(locations)))
        # Rows are often planes of one file, which may be a folder of many.
        known = lru_cache(maxsize=64)(lambda file: identity(file, locator.relative(file)))
        for row, location in zip(rows, locations_at(locations, rows), strict=True):
            if location:
                keys[row] = _key(location, known)
        return len(rows)

    shown = progress(f"Looking up {label}", len(locations)) if len(locations) >= SLOW else nullcontext(_silent)
    # Threads, since on a shared disk every question takes its time.
    with shown as advance, ThreadPoolExecutor(THREADS, thread_name_prefix="lookup") as pool:
        for count in pool.map(look, range(0, len(locations), LOOKED_UP)):
            advance(count)
    return keys


def locations_at(locations: Locations, rows: np.ndarray) -> list[str]:
    """Return some of the locations, the only ones that become Python objects."""
    if isinstance(locations, pd.Series):
        return [str(location) for location in locations.iloc[rows]]
    if isinstance(locations, np.ndarray):
        return [str(location) for location in locations[rows]]
    return [locations[row] for row in rows.tolist()]


def _key(location: str, known: Callable[[str], str]) -> bytes:
    file, plane = split_plane(location)
    same = known(file)
    if plane is not None and same:
        kind, _, rest = plane.partition("/")
        which = known(rest) if kind == "largest" else rest
        same = f"{same} {kind} {which}" if which else ""
    # A file that is not there has nothing that it could be known by.
    key = blake2b(same.encode("utf-8", "surrogateescape"), digest_size=16).digest() if same else os.urandom(16)
    return key if key.strip(b"\0") else b"\1"


def _silent(count: int) -> None:
    pass
