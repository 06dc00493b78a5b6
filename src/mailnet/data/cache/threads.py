"""Decodes images in threads of this process, which most decoders of pictures let run beside each other."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from mailnet.data.cache.keys import THREADS, Locations, locations_at
from mailnet.data.config import PixelConfig
from mailnet.data.images import load_image
from mailnet.errors import DataError

CHUNK = 64  # images that a thread decodes before it hands them over
CHUNK_BYTES = 2**22

Decoded: TypeAlias = "tuple[int, np.ndarray | DataError]"


def decode_in_threads(rows: np.ndarray, locations: Locations, section: PixelConfig) -> Iterator[Decoded]:
    """Yield the images of rows, or what is wrong with them, in the order of the rows."""
    waiting: deque[Future[list[Decoded]]] = deque()
    # So many that what waits stays small, volumes included, and that every thread has some.
    fitting = CHUNK_BYTES // (2 * section.inputs * math.prod(section.size))
    chunk = max(1, min(CHUNK, fitting, len(rows) // (8 * THREADS)))
    with ThreadPoolExecutor(THREADS, thread_name_prefix="decode") as pool:
        try:
            for start in range(0, len(rows), chunk):
                waiting.append(pool.submit(_decode_chunk, rows[start : start + chunk], locations, section))
                if len(waiting) > 4 * THREADS:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def decode(location: str, section: PixelConfig) -> np.ndarray | DataError:
    """Return an image, or what is wrong with it, without the frames of a traceback, which hold the file's content."""
    try:
        return load_image(location, section)
    except DataError as error:
        return DataError(error.message, file=error.file or location, remedy=error.remedy)


def _decode_chunk(rows: np.ndarray, locations: Locations, section: PixelConfig) -> list[Decoded]:
    several = zip(rows.tolist(), locations_at(locations, rows), strict=True)
    return [(row, decode(location, section)) for row, location in several]
