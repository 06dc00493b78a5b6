"""N images in several memory maps, as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np


class ShardedImages:
    """Reads as an array (N, C, *size) of uint8 or uint16, of which only what is asked for comes into memory.

    An image is found through two numbers a row, so that a million rows need no Python object each.

    Args:
        shards: Arrays (n, C, *size) of uint8 or uint16.
        shard: (N,) number of the shard that holds the image of a row, -1 where it is absent.
        slot: (N,) its place in the shard.
        item: Shape of one image.
    """

    def __init__(
        self, shards: Sequence[np.ndarray], shard: np.ndarray, slot: np.ndarray, item: tuple[int, ...]
    ) -> None:
        # A memory map costs more at each indexing than the plain array it is.
        self._shards = [np.asarray(array) for array in shards]
        self._shard = shard.astype(np.int32, copy=False)
        self._slot = slot.astype(np.int32, copy=False)
        self.shape: tuple[int, ...] = (len(shard), *item)
        deep = any(array.dtype == np.uint16 for array in self._shards)
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if deep else np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | np.integer[Any] | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Return one image (C, *size), or several (n, C, *size); zeros where absent, 8 bits widened by 257."""
        if isinstance(key, (int, np.integer)):
            image: np.ndarray = self[np.array([key])][0]
            return image
        rows = self._rows(key)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, number, slot in self._places(rows):
            image = out[place]
            if number < 0:
                image[...] = 0
            elif self._shards[number].dtype == self.dtype:
                image[...] = self._shards[number][slot]
            else:
                np.multiply(self._shards[number][slot], np.uint16(257), out=image, dtype=np.uint16)
        return out

    def unit(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the images of ``rows`` as float32 in [0, 1], (n, C, *size); zeros where absent.

        A row below zero is an absent image too.
        """
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(rows), *self.shape[1:]), np.float32)
        highest = [np.float32(np.iinfo(array.dtype).max) for array in self._shards]
        for place, number, slot in self._places(rows):
            image = out[place]
            if number < 0:
                image[...] = 0
            else:
                # Image by image, so that the second step finds it in the processor's cache.
                image[...] = self._shards[number][slot]
                np.divide(image, highest[number], out=image)
        return out

    def take(self, rows: np.ndarray) -> ShardedImages:
        """Return the images of some rows, without reading them."""
        return ShardedImages(self._shards, self._shard[rows], self._slot[rows], self.shape[1:])

    def _rows(self, key: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        if isinstance(key, slice):
            return np.arange(*key.indices(len(self)))
        rows = np.asarray(key)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask must have the shape ({len(self)},), got {rows.shape}")
            return np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise IndexError(f"rows are one axis of whole numbers, got {rows.dtype} of the shape {rows.shape}")
        rows = rows.astype(np.int64)
        return np.where(rows < 0, np.where(rows < -len(self), len(self), rows + len(self)), rows)

    def _places(self, rows: np.ndarray) -> list[tuple[int, int, int]]:
        """Return (place in the result, shard, slot) of rows, shard by shard, so that neighbours are read together."""
        shard = np.where(rows < 0, -1, self._shard[rows])
        slot = self._slot[rows]
        order = np.lexsort((slot, shard))
        return list(zip(order.tolist(), shard[order].tolist(), slot[order].tolist(), strict=True))


Images: TypeAlias = np.ndarray | ShardedImages
