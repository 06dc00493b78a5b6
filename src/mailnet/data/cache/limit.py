"""How large the cache may become, and what has to go when it would become larger."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from mailnet.data.cache.shards import Shard, cache_folder, delete_leftovers, list_shards
from mailnet.errors import ConfigError, RunError
from mailnet.files import read_json, write_json

SETTINGS = "settings.json"
LARGEST_DEFAULT = 100 * 10**9
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def cache_limit(folder: str | Path | None = None) -> int:
    """Return how many bytes the cache may hold: what was set, else 100 GB or a tenth of the disk, the smaller of them.

    Raises:
        RunError: The settings cannot be read.
    """
    place = cache_folder(folder)
    if (place / SETTINGS).is_file():
        limit = read_json(place / SETTINGS).get("limit")
        if not isinstance(limit, int) or limit <= 0:
            remedy = "Set the limit again: mailnet cache --limit 20GB"
            raise RunError(f"holds no limit ({limit!r})", file=place / SETTINGS, remedy=remedy)
        return limit
    existing = next((path for path in (place, *place.absolute().parents) if path.is_dir()), Path("/"))
    return min(LARGEST_DEFAULT, shutil.disk_usage(existing).total // 10)


def set_cache_limit(limit: int, folder: str | Path | None = None) -> None:
    """Store how many bytes the cache may hold, and delete what is above it.

    Raises:
        RunError: The folder cannot be written.
    """
    place = cache_folder(folder)
    if not place.is_dir():
        # Made here, so that it is its owner's alone.
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            remedy = "Choose another folder with --cache"
            raise RunError(f"cannot be written ({error.strerror})", file=place, remedy=remedy) from error
    write_json(place / SETTINGS, {"limit": limit})
    make_room(place, 0, ())


def parse_bytes(text: str) -> int:
    """Return the bytes of a size such as ``20GB``, ``500 MB`` or ``1.5TB``, in powers of 1,000.

    Raises:
        ConfigError: It is no such size.

    >>> parse_bytes("20GB")
    20000000000
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", text, re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size <= 0:
        raise ConfigError(f"'{text}' is no size", remedy="Write it like 20GB")
    return size


def format_bytes(size: float) -> str:
    """Return a size for people.

    >>> format_bytes(20_000_000_000)
    '20.0 GB'
    """
    unit = next((unit for unit in "TGMK" if size >= _UNITS[unit]), "")
    return f"{size / _UNITS[unit]:.1f} {unit}B" if unit else f"{size:.0f} bytes"


def make_room(place: Path, needed: int, in_use: Collection[Shard]) -> None:
    """Delete the shards that were used longest ago until ``needed`` bytes fit below the limit, none of ``in_use``.

    Raises:
        RunError: What is in use and what is needed exceed the limit by themselves.
    """
    limit = cache_limit(place)
    own = sum(shard.stat()[0] for shard in in_use) + needed
    if in_use or needed:
        _check(own, limit, place)
    known = [(shard, *shard.stat()) for shard in list_shards(place)]
    total = sum(size for _, size, _ in known) + needed
    if total <= limit:
        return
    delete_leftovers(place)
    for shard, size, _ in sorted(known, key=lambda one: one[2]):
        if total <= limit:
            return
        if shard not in in_use:
            shard.delete()
            total -= size


def _check(own: int, limit: int, place: Path) -> None:
    if own > limit:
        # Rounded up to whole GB, or MB where these would be far too many.
        unit, name = (10**9, "GB") if own >= 10**9 else (10**6, "MB")
        raise RunError(
            f"the decoded images of this study need at least {format_bytes(own)}, the cache may hold "
            f"{format_bytes(limit)}",
            file=place,
            remedy=f"Raise its limit: mailnet cache --limit {-(-own * 11 // 10 // unit)}{name}, or choose a smaller "
            "'size' for the modalities",
        )
