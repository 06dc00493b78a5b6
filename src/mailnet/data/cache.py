"""Decoded images, kept once as one memory-mapped array a modality, found again by content and preprocessing."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mailnet.data.archives import identity
from mailnet.data.config import PixelConfig
from mailnet.data.images import load_image
from mailnet.data.locations import Locator
from mailnet.data.progress import progress
from mailnet.errors import DataError
from mailnet.files import read_json, replacing, write_json

# Raised when preprocessing or the layout changes, so that older arrays are not taken for current ones.
VERSION = 1
CHUNK = 16

Decoded = tuple[int, "np.ndarray | DataError"]


@dataclass(frozen=True)
class CacheEntry:
    """An array in the cache: its file, its size on disk in bytes and the time of its last use (seconds)."""

    path: Path
    size: int
    used: float


def cache_folder(given: str | Path | None = None) -> Path:
    """Return where decoded images lie: ``given``, else ``MAILNET_CACHE``, else the user's cache folder."""
    if given is not None:
        return Path(given)
    if chosen := os.environ.get("MAILNET_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mailnet"


def list_cache(folder: str | Path | None = None) -> list[CacheEntry]:
    """Return the arrays in the cache, the one used last first."""
    entries = []
    for path in cache_folder(folder).glob("[!.]*.npy"):
        stat = path.stat()
        # Rows of absent images are holes in the file: count the blocks, where the system tells them.
        size = stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
        entries.append(CacheEntry(path, size, stat.st_mtime))
    return sorted(entries, key=lambda entry: -entry.used)


def clear_cache(folder: str | Path | None = None) -> int:
    """Delete the arrays in the cache, also what killed builds left, and return the number of bytes freed."""
    freed = sum(entry.size for entry in list_cache(folder))
    place = cache_folder(folder)
    for pattern in ("[!.]*.npy", "*.bad.json", ".*.npy"):
        for path in place.glob(pattern):
            path.unlink(missing_ok=True)
    return freed


def cached_images(
    locations: Sequence[str],
    config: PixelConfig,
    locator: Locator,
    *,
    folder: str | Path | None = None,
    label: str = "images",
) -> tuple[np.ndarray, dict[int, DataError]]:
    """Return the prepared images of a modality, decoding only what the cache does not have.

    Args:
        locations: Of every row, as ``read_image`` takes it; empty where the image is absent.
        config: The modality; its ``preparation()`` is part of the key.
        locator: Of the data root, which the key leaves out.
        folder: Of the cache, see ``cache_folder``.
        label: Name of the work, for the progress bar.

    Returns:
        (N, C, H, W) uint8 or uint16, zeros where absent, and the errors by row. Where there is an error the array is
        all zeros: leave the rows out and ask again.

    Raises:
        RunError: The cache cannot be written, for example on a full disk.
    """
    rows = [row for row, location in enumerate(locations) if location]
    shape = (len(locations), config.inputs, *config.size)
    nothing = np.broadcast_to(np.uint8(0), shape)
    if not rows:
        return nothing, {}
    place = cache_folder(folder)
    key = _key(locations, config, locator)
    target, bad_list = place / f"{key}.npy", place / f"{key}.bad.json"
    array = _opened(target, shape)
    if array is not None:
        return array, {}
    if bad_list.exists():
        # Only what failed is tried again: permissions or an installed decoder may have mended it.
        again = dict(_decode_chunk([row for row in read_json(bad_list) if row < len(locations)], locations, config))
        if again and all(isinstance(result, DataError) for result in again.values()):
            return nothing, {row: error for row, error in again.items() if isinstance(error, DataError)}
    problems = _build(target, shape, rows, locations, config, label)
    if problems:
        write_json(bad_list, sorted(problems))
        return nothing, problems
    array = _opened(target, shape)
    assert array is not None
    return array, {}


def _key(locations: Sequence[str], config: PixelConfig, locator: Locator) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, config.preparation()], sort_keys=True).encode())
    for location in locations:
        digest.update(b"\0" + (identity(location, locator.relative(location)) if location else "-").encode())
    return digest.hexdigest()[:32]


def _opened(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        os.utime(path)
    except (OSError, ValueError):
        return None
    return array if array.shape == shape else None


class _Abandoned(Exception):
    """Ends the writing of an array and leaves the old file in place."""


def _build(
    target: Path, shape: tuple[int, ...], rows: Sequence[int], locations: Sequence[str], config: PixelConfig, label: str
) -> dict[int, DataError]:
    # Patients' images: a new folder is its owner's alone. An error here comes again below, where it is explained.
    with suppress(OSError):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    deep = False
    while True:
        problems: dict[int, DataError] = {}
        try:
            with progress(f"Decoding {label}", len(rows)) as advance, replacing(target) as temporary:
                _write(temporary, shape, deep, _decode(rows, locations, config), problems, advance)
        except _Abandoned:
            if not problems:
                deep = True
                continue
        return problems


def _write(
    path: Path,
    shape: tuple[int, ...],
    deep: bool,
    decoded: Iterator[Decoded],
    problems: dict[int, DataError],
    advance: Callable[[int], None],
) -> None:
    # Written with ordinary calls: through a memory map a full disk would kill the process.
    with path.open("wb") as file:
        dtype = np.dtype(np.uint16) if deep else None
        start = _write_header(file, shape, dtype) if dtype else 0
        for row, image in decoded:
            advance(1)
            if isinstance(image, DataError):
                problems[row] = image
                continue
            if dtype is None:
                dtype = image.dtype
                start = _write_header(file, shape, dtype)
            if image.dtype.itemsize > dtype.itemsize:
                # After a problem nothing is kept, and reading goes on only to find the others.
                if problems:
                    continue
                raise _Abandoned
            file.seek(start + row * image.size * dtype.itemsize)
            file.write((image if image.dtype == dtype else image.astype(dtype) * dtype.type(257)).tobytes())
        if problems or dtype is None:
            raise _Abandoned
        file.truncate(start + math.prod(shape) * dtype.itemsize)


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    return file.tell()


def _decode(rows: Sequence[int], locations: Sequence[str], config: PixelConfig) -> Iterator[Decoded]:
    workers = min(8, os.cpu_count() or 1)
    waiting: deque[Future[list[Decoded]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for start in range(0, len(rows), CHUNK):
                waiting.append(pool.submit(_decode_chunk, rows[start : start + CHUNK], locations, config))
                if len(waiting) > 4 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _decode_chunk(rows: Sequence[int], locations: Sequence[str], config: PixelConfig) -> list[Decoded]:
    decoded: list[Decoded] = []
    for row in rows:
        try:
            decoded.append((row, load_image(locations[row], config)))
        except DataError as error:
            file = error.file or locations[row]
            decoded.append((row, DataError(error.message, file=file, remedy=error.remedy)))
    return decoded
