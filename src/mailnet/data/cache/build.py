"""Finds the prepared images of a modality in the cache, and decodes those that it lacks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mailnet.data.cache.images import ShardedImages
from mailnet.data.cache.keys import Locations, find_keys, locations_at
from mailnet.data.cache.limit import make_room
from mailnet.data.cache.processes import MOST, Outcome, Processes, profiting
from mailnet.data.cache.shards import KEY, Shard, cache_folder, list_shards, make_shelf, shelf_of
from mailnet.data.cache.threads import decode_in_threads
from mailnet.data.cache.writer import ShardWriter
from mailnet.data.config import PixelConfig
from mailnet.data.locations import Locator
from mailnet.data.progress import progress
from mailnet.errors import DataError, RunError

ATTEMPTS = 3
PART = 4096
PROBED = 8  # images that are decoded here, to see how long all take
PATIENCE_SECONDS = 15.0  # of work for which no further process is started


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
        with progress(f"Decoding {label}", len(rows)) as advance:
            for row, error in self._decoded(shelf, rows, locations, keys, section):
                advance(1)
                if error is not None:
                    failed[row] = error
        if not failed:
            return {}
        # Rows of the same image share its error.
        errors = [failed.get(row) for row in missing[first].tolist()]
        shared = own.ravel().tolist()
        return {row: error for row, number in zip(missing.tolist(), shared, strict=True) if (error := errors[number])}

    def _decoded(
        self, shelf: Path, rows: np.ndarray, locations: Locations, keys: np.ndarray, section: PixelConfig
    ) -> Iterator[Outcome]:
        """Decode rows and yield each with its error: in threads, or, where it takes long and profits, in processes."""
        writer = ShardWriter(shelf, (section.inputs, *section.size), len(rows), self._in_use)
        slow = _profiting(rows, locations)
        probe, rest, quick = rows[slow][:PROBED], rows[slow][PROBED:], rows[~slow]
        start = time.monotonic()
        yield from self._in_threads(writer, probe, locations, keys, section)
        seconds = (time.monotonic() - start) / max(len(probe), 1) * len(rest)
        count = min(MOST, os.cpu_count() or 1, int(2 * seconds / PATIENCE_SECONDS))
        if count < 2:
            yield from self._in_threads(writer, np.concatenate([rest, quick]), locations, keys, section)
            writer.write_all()
            return
        writer.skip(len(rest))
        yield from self._in_threads(writer, quick, locations, keys, section)
        writer.write_all()
        make_room(self.place, len(rest) * writer.item_bytes, self._in_use)
        done = np.zeros(len(keys), bool)
        for row, error in Processes(count, shelf, section, self._in_use).decode(rest, locations, keys):
            done[row] = True
            yield row, error
        # Where no process can be started.
        rest = rest[~done[rest]]
        writer = ShardWriter(shelf, writer.item, len(rest), self._in_use)
        yield from self._in_threads(writer, rest, locations, keys, section)
        writer.write_all()

    def _in_threads(
        self, writer: ShardWriter, rows: np.ndarray, locations: Locations, keys: np.ndarray, section: PixelConfig
    ) -> Iterator[Outcome]:
        try:
            for row, image in decode_in_threads(rows, locations, section):
                if isinstance(image, DataError):
                    writer.skip()
                    yield row, image
                else:
                    writer.add(keys[row], image)
                    yield row, None
        except (KeyboardInterrupt, GeneratorExit):
            # After Ctrl-C what is decoded is kept.
            writer.write_all()
            raise


def _profiting(rows: np.ndarray, locations: Locations) -> np.ndarray:
    parts = [rows[start : start + PART] for start in range(0, len(rows), PART)]
    return np.concatenate([profiting(locations_at(locations, part)) for part in parts])
