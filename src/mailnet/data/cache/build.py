"""Finds the prepared images of a modality in the cache, and decodes those that it lacks."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from mailnet.data.archives import identity
from mailnet.data.cache.images import ShardedImages
from mailnet.data.cache.limit import make_room
from mailnet.data.cache.shards import (
    KEY,
    SHARD_BYTES,
    Shard,
    cache_folder,
    list_shards,
    make_shelf,
    shelf_of,
    write_shard,
)
from mailnet.data.config import PixelConfig
from mailnet.data.images import load_image
from mailnet.data.locations import Locator
from mailnet.data.progress import progress
from mailnet.errors import DataError, RunError

CHUNK = 16  # images that a thread decodes before it hands them over
CHUNK_BYTES = 2**22
LOOKED_UP = 4096  # locations that a thread asks the file system for at a time
SLOW = 100_000  # locations from which on even looking them up is shown
ATTEMPTS = 3

Locations: TypeAlias = "Sequence[str] | np.ndarray | pd.Series[Any]"
Decoded: TypeAlias = "tuple[int, np.ndarray | DataError]"


class ImageCache:
    """The cache, as one study uses it: what it has given out is not deleted to make room for the rest.

    Args:
        folder: Of the cache, see ``cache_folder``.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.place = cache_folder(folder)
        self._in_use: set[Shard] = set()

    def images(
        self, locations: Locations, section: PixelConfig, locator: Locator, label: str = "images"
    ) -> tuple[ShardedImages, dict[int, DataError]]:
        """Return the prepared images of a modality, decoding only what the cache does not have.

        Args:
            locations: Of every row, as ``load_image`` takes it; empty where the image is absent.
            section: The modality; its ``preparation()`` decides which images are the same.
            locator: Of the data root, which the cache leaves out.
            label: Name of the work, for the progress bar.

        Returns:
            (N, C, *size) images, zeros where absent, and the errors by row, whose images are zeros too. What failed is
            not kept, so the next call tries it again: permissions or an installed decoder may have mended it.

        Raises:
            RunError: The cache cannot be written, for example on a full disk, or the study needs more than its limit.
        """
        item = (section.inputs, *section.size)
        keys = find_keys(locations, locator, label)
        wanted = np.flatnonzero(keys != b"")
        shelf = shelf_of(self.place, section)
        errors: dict[int, DataError] = {}
        # Another process may delete a shard between finding and opening it; its images are then decoded again.
        for _ in range(ATTEMPTS):
            shards, shard, slot = self._find(shelf, keys, item)
            missing = wanted[shard[wanted] < 0]
            if errors:
                missing = missing[~np.isin(missing, list(errors))]
            if len(missing) == 0:
                return ShardedImages(shards, shard, slot, item), errors
            make_shelf(shelf, section)
            errors |= self._decode(shelf, locations, keys, missing, section, label)
        raise RunError(
            "loses images as fast as they are decoded",
            file=self.place,
            remedy="Another process empties it: wait for that, or raise the limit with 'mailnet cache --limit'",
        )

    def _find(
        self, shelf: Path, keys: np.ndarray, item: tuple[int, ...]
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Return the shards that hold some of the keys, and of every key its shard and its slot, -1 for none."""
        shards = list_shards(self.place, shelf.name)
        known = [shard.read_keys() for shard in shards]
        counts = [len(several) for several in known]
        every = np.concatenate([*known, np.zeros(0, KEY)])
        order = np.argsort(every, kind="stable")
        every = every[order]
        # Absent images have the empty key, which no shard holds.
        place = np.searchsorted(every, keys).clip(max=max(len(every) - 1, 0))
        found = every[place] == keys if len(every) else np.zeros(len(keys), bool)
        number = np.full(len(keys), -1)
        slot = np.zeros(len(keys), np.int64)
        starts = np.concatenate([[0], np.cumsum(counts)])
        number[found] = np.repeat(np.arange(len(shards)), counts)[order[place[found]]]
        slot[found] = order[place[found]] - starts[number[found]]
        opened: list[np.ndarray] = []
        renumbered = np.full(len(shards) + 1, -1)
        for old in np.unique(number[found]).tolist():
            images = shards[old].open(counts[old], item)
            if images is None:
                shards[old].delete()
            else:
                renumbered[old] = len(opened)
                opened.append(images)
                self._in_use.add(shards[old])
        return opened, renumbered[number], slot

    def _decode(
        self,
        shelf: Path,
        locations: Locations,
        keys: np.ndarray,
        missing: np.ndarray,
        section: PixelConfig,
        label: str,
    ) -> dict[int, DataError]:
        """Decode the images of rows into new shards and return the errors by row."""
        _, first, own = np.unique(keys[missing], return_index=True, return_inverse=True)
        failed: dict[int, DataError] = {}
        # In the order of the rows, in which neighbours share an archive and are read together later.
        rows = np.sort(missing[first])
        writer = _Writer(self.place, shelf, (section.inputs, *section.size), len(rows), self._in_use)
        try:
            with progress(f"Decoding {label}", len(rows)) as advance:
                for row, image in _decoded(rows, locations, section):
                    advance(1)
                    if isinstance(image, DataError):
                        failed[row] = image
                        writer.remaining -= 1
                    else:
                        writer.add(keys[row], image)
        except KeyboardInterrupt:
            writer.write_all()
            raise
        writer.write_all()
        if not failed:
            return {}
        # Rows of the same image share its error.
        errors = [failed.get(row) for row in missing[first].tolist()]
        places = np.flatnonzero(np.array([error is not None for error in errors])[own.ravel()])
        return {int(missing[p]): error for p in places if (error := errors[own.ravel()[p]]) is not None}


class _Writer:
    """Collects images, those of 8 and of 16 bits apart, and writes them whenever they fill a shard."""

    def __init__(self, place: Path, shelf: Path, item: tuple[int, ...], count: int, in_use: set[Shard]) -> None:
        self.place, self.shelf, self.item, self.in_use = place, shelf, item, in_use
        self.remaining = count  # images that are still to be written
        self.open: dict[np.dtype[Any], tuple[np.ndarray, np.ndarray]] = {}
        self.filled: dict[np.dtype[Any], int] = {}
        # Before hours of work: what cannot fit even with 8 bits is refused.
        make_room(place, self.remaining * math.prod(item), in_use)

    def add(self, key: bytes, image: np.ndarray) -> None:
        if image.dtype not in self.open:
            capacity = max(1, min(self.remaining, SHARD_BYTES // image.nbytes))
            self.open[image.dtype] = np.zeros(capacity, KEY), np.empty((capacity, *self.item), image.dtype)
            self.filled[image.dtype] = 0
        keys, images = self.open[image.dtype]
        slot = self.filled[image.dtype]
        keys[slot], images[slot] = key, image
        self.filled[image.dtype] = slot + 1
        if slot + 1 == len(keys):
            self._write(image.dtype)

    def write_all(self) -> None:
        for dtype in list(self.open):
            self._write(dtype)

    def _write(self, dtype: np.dtype[Any]) -> None:
        keys, images = self.open.pop(dtype)
        count = self.filled.pop(dtype)
        make_room(self.place, self.remaining * images[0].nbytes, self.in_use)
        self.in_use.add(write_shard(self.shelf, keys[:count], images[:count]))
        self.remaining -= count


def find_keys(locations: Locations, locator: Locator, label: str = "images") -> np.ndarray:
    """Return the keys (N,) of images: a digest of what tells that a file is the same; empty where there is none."""
    keys = np.zeros(len(locations), KEY)

    def look(start: int) -> int:
        rows = np.arange(start, min(start + LOOKED_UP, len(locations)))
        for row, location in zip(rows, _at(locations, rows), strict=True):
            if location:
                keys[row] = _key(location, locator)
        return len(rows)

    shown = progress(f"Looking up {label}", len(locations)) if len(locations) >= SLOW else nullcontext(_silent)
    # Threads, since on a shared disk every question takes its time.
    with shown as advance, ThreadPoolExecutor(_workers(), thread_name_prefix="lookup") as pool:
        for count in pool.map(look, range(0, len(locations), LOOKED_UP)):
            advance(count)
    return keys


def _key(location: str, locator: Locator) -> bytes:
    same = identity(location, locator.relative(location))
    # A file that is not there has nothing that it could be known by.
    key = blake2b(same.encode("utf-8", "surrogateescape"), digest_size=16).digest() if same else os.urandom(16)
    return key if key.strip(b"\0") else b"\1"


def _at(locations: Locations, rows: np.ndarray) -> list[str]:
    if isinstance(locations, pd.Series):
        return [str(location) for location in locations.iloc[rows]]
    if isinstance(locations, np.ndarray):
        return [str(location) for location in locations[rows]]
    return [locations[row] for row in rows.tolist()]


def _silent(count: int) -> None:
    pass


def _workers() -> int:
    return min(8, os.cpu_count() or 1)


def _decoded(rows: np.ndarray, locations: Locations, section: PixelConfig) -> Iterator[Decoded]:
    waiting: deque[Future[list[Decoded]]] = deque()
    # So many that what waits stays small, volumes included.
    chunk = max(1, min(CHUNK, CHUNK_BYTES // (2 * section.inputs * math.prod(section.size))))
    decode: Callable[[np.ndarray], list[Decoded]] = lambda some: _decode_chunk(some, locations, section)  # noqa: E731
    with ThreadPoolExecutor(_workers(), thread_name_prefix="decode") as pool:
        try:
            for start in range(0, len(rows), chunk):
                waiting.append(pool.submit(decode, rows[start : start + chunk]))
                if len(waiting) > 4 * _workers():
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _decode_chunk(rows: np.ndarray, locations: Locations, section: PixelConfig) -> list[Decoded]:
    decoded: list[Decoded] = []
    for row, location in zip(rows.tolist(), _at(locations, rows), strict=True):
        try:
            decoded.append((row, load_image(location, section)))
        except DataError as error:
            # Without the frames of its traceback, which hold the file's content.
            decoded.append((row, DataError(error.message, file=error.file or location, remedy=error.remedy)))
    return decoded
