"""Collects images into shards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.data.cache.limit import make_room
from mailnet.data.cache.shards import KEY, SHARD_BYTES, Shard, write_shard


class ShardWriter:
    """Writes images, those of 8 and of 16 bits apart, whenever they fill a shard.

    Args:
        shelf: Folder of the preparation, in the cache's.
        item: Shape of an image.
        count: Images that are going to be written.
        in_use: Shards that may not be deleted to make room; those that are written are added.

    Attributes:
        item_bytes: Of the largest image so far; at first of one with 8 bits.

    Raises:
        RunError: So many images exceed the limit of the cache even with 8 bits.
    """

    def __init__(self, shelf: Path, item: tuple[int, ...], count: int, in_use: set[Shard]) -> None:
        self.shelf, self.item, self.in_use = shelf, item, in_use
        self._remaining = count
        self._open: dict[np.dtype[Any], tuple[np.ndarray, np.ndarray]] = {}
        self._filled: dict[np.dtype[Any], int] = {}
        # Before hours of work.
        self.item_bytes = math.prod(item)
        make_room(shelf.parent, count * self.item_bytes, in_use)

    def add(self, key: bytes, image: np.ndarray) -> None:
        """Take an image; a shard that it fills is written.

        Raises:
            RunError: The system refused, for example on a full disk, or the study exceeds the limit of the cache.
        """
        if image.dtype not in self._open:
            self.item_bytes = max(self.item_bytes, image.nbytes)
            capacity = max(1, min(self._remaining, SHARD_BYTES // image.nbytes))
            self._open[image.dtype] = np.zeros(capacity, KEY), np.empty((capacity, *self.item), image.dtype)
            self._filled[image.dtype] = 0
        keys, images = self._open[image.dtype]
        slot = self._filled[image.dtype]
        keys[slot], images[slot] = key, image
        self._filled[image.dtype] = slot + 1
        if slot + 1 == len(keys):
            self._write(image.dtype)

    def skip(self, count: int = 1) -> None:
        """Expect so many images less."""
        self._remaining -= count

    def write_all(self) -> None:
        """Write what has been taken and fills no shard."""
        for dtype in list(self._open):
            self._write(dtype)

    def _write(self, dtype: np.dtype[Any]) -> None:
        keys, images = self._open.pop(dtype)
        count = self._filled.pop(dtype)
        make_room(self.shelf.parent, self._remaining * images[0].nbytes, self.in_use)
        self.in_use.add(write_shard(self.shelf, keys[:count], images[:count]))
        self._remaining -= count
