"""The files of the cache: writing, finding and deleting shards."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.data.config import PixelConfig
from mailnet.errors import RunError
from mailnet.files import read_json, replacing, write_json

# Raised when preprocessing or the layout changes, so that older images are not taken for current ones.
VERSION = 3
SHARD_BYTES = 2**26
ABANDONED_SECONDS = 3600.0
KEY = np.dtype("S16")
KEYS, IMAGES, ABOUT = ".keys.npy", ".images.npy", "about.json"
# Nothing else is ever touched in a folder that may hold other things too.
SHELVES = "[0-9a-f]" * 32


@dataclass(frozen=True)
class CacheEntry:
    """The images of one preparation.

    Args:
        folder: Where they lie.
        preparation: What was asked of them, see ``PixelConfig.preparation``.
        images: Number of them.
        size: Bytes on disk.
        used: Time of the last use, seconds.
    """

    folder: Path
    preparation: dict[str, Any]
    images: int
    size: int
    used: float


@dataclass(frozen=True)
class Shard:
    """Two files of one name; the time of the last use is that of the keys' file."""

    keys: Path

    @property
    def images(self) -> Path:
        """The file with the images."""
        return self.keys.with_name(self.keys.name.removesuffix(KEYS) + IMAGES)

    def read_keys(self) -> np.ndarray:
        """Return the keys (n,) of the images, in their order; none where the shard has been deleted or is damaged."""
        with suppress(OSError, ValueError, EOFError):
            keys: np.ndarray = np.load(self.keys, allow_pickle=False)
            if keys.dtype == KEY and keys.ndim == 1:
                return keys
        return np.zeros(0, KEY)

    def open(self, count: int, item: tuple[int, ...]) -> np.ndarray | None:
        """Return the images as a memory map (count, *item) and note the use; None where deleted or damaged.

        Raises:
            RunError: The system refuses, for example since too many files are open.
        """
        try:
            images: np.ndarray = np.load(self.images, mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        except OSError as error:
            remedy = "Allow the process more open files: ulimit -n 65536" if error.errno == errno.EMFILE else None
            remedy = remedy or "Restore the rights of the file, or choose another folder with --cache"
            raise RunError(f"cannot be read ({error.strerror})", file=self.images, remedy=remedy) from error
        # Of another user's cache only the time of the last use cannot be noted.
        with suppress(OSError):
            os.utime(self.keys)
        fits = images.shape == (count, *item) and images.dtype in (np.uint8, np.uint16)
        return images if fits else None

    def stat(self) -> tuple[int, float]:
        """Return the bytes on disk and the time of the last use; 0 where it has just been deleted."""
        try:
            keys = self.keys.stat()
            return keys.st_size + self.images.stat().st_size, keys.st_mtime
        except OSError:
            return 0, 0.0

    def delete(self) -> None:
        """Delete both files, the keys first, so that nobody looks for images that are gone."""
        self.keys.unlink(missing_ok=True)
        self.images.unlink(missing_ok=True)


def cache_folder(given: str | Path | None = None) -> Path:
    """Return where decoded images lie: ``given``, else ``MAILNET_CACHE``, else the user's cache folder."""
    if given is not None:
        return Path(given)
    if chosen := os.environ.get("MAILNET_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mailnet"


def shelf_of(place: Path, section: PixelConfig) -> Path:
    """Return the folder of the images that are prepared as ``section`` says."""
    preparation = [VERSION, section.preparation(), section.inputs, list(section.size)]
    return place / sha256(json.dumps(preparation, sort_keys=True).encode()).hexdigest()[:32]


def make_shelf(shelf: Path, section: PixelConfig) -> None:
    """Make the folder of a preparation.

    Raises:
        RunError: It cannot be written.
    """
    # Patients' images: a new folder is its owner's alone. An error here comes again below, where it is explained.
    with suppress(OSError):
        shelf.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shelf.mkdir(mode=0o700, exist_ok=True)
    if not (shelf / ABOUT).is_file():
        preparation = {"kind": section.kind, "channels": section.inputs, "size": list(section.size)}
        write_json(shelf / ABOUT, preparation | section.preparation())


def write_shard(shelf: Path, keys: np.ndarray, images: np.ndarray) -> Shard:
    """Write images (n, C, *size) with their keys (n,).

    Raises:
        RunError: The system refused, for example on a full disk.
    """
    shard = Shard(shelf / f"{uuid.uuid4().hex}{KEYS}")
    try:
        # Written with ordinary calls: through a memory map a full disk would kill the process.
        for path, array in ((shard.images, images), (shard.keys, keys)):
            with replacing(path) as temporary, temporary.open("wb") as file:
                header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
                np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(array).view(np.uint8).data)
    except RunError:
        with suppress(OSError):
            shard.delete()
        raise
    return shard


def list_shards(place: Path, shelf: str = SHELVES) -> list[Shard]:
    """Return the whole shards in the cache, or of one preparation, of whose folder ``shelf`` is the name."""
    return [Shard(path) for path in sorted(place.glob(f"{shelf}/[!.]*{KEYS}"))]


def list_cache(folder: str | Path | None = None) -> list[CacheEntry]:
    """Return the preparations of which the cache has images, the one used last first."""
    place = cache_folder(folder)
    entries = []
    for about in place.glob(f"{SHELVES}/{ABOUT}"):
        shards = list_shards(place, about.parent.name)
        stats = [shard.stat() for shard in shards]
        images = sum(len(shard.read_keys()) for shard in shards)
        with suppress(RunError):
            if shards:
                size, used = sum(size for size, _ in stats), max(used for _, used in stats)
                entries.append(CacheEntry(about.parent, dict(read_json(about)), images, size, used))
    return sorted(entries, key=lambda entry: -entry.used)


def clear_cache(folder: str | Path | None = None) -> int:
    """Delete the images in the cache, also what killed processes left, and return the number of bytes freed."""
    freed = 0
    for path in _leftovers(cache_folder(folder), 0.0):
        with suppress(OSError):
            freed += path.stat().st_size
            path.unlink()
    for shard in list_shards(cache_folder(folder)):
        freed += shard.stat()[0]
        shard.delete()
    for about in cache_folder(folder).glob(f"{SHELVES}/{ABOUT}"):
        about.unlink(missing_ok=True)
        # Another process may just have written into it.
        with suppress(OSError):
            about.parent.rmdir()
    return freed


def delete_leftovers(place: Path) -> None:
    """Delete what killed processes left behind more than an hour ago."""
    for path in _leftovers(place, ABANDONED_SECONDS):
        path.unlink(missing_ok=True)


def _leftovers(place: Path, age: float) -> Iterator[Path]:
    """Yield half-written files, and images without keys, that are older than ``age`` seconds."""
    for path in [*place.glob(f"{SHELVES}/.*"), *place.glob(f"{SHELVES}/[!.]*{IMAGES}")]:
        whole = path.with_name(path.name.removesuffix(IMAGES) + KEYS)
        with suppress(OSError):
            if (path.name.startswith(".") or not whole.exists()) and time.time() - path.stat().st_mtime >= age:
                yield path
