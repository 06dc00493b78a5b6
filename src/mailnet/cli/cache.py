"""``mailnet cache``: what decoded images take, and how much they may."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from mailnet.cli.output import print_table
from mailnet.data.cache import (
    cache_folder,
    cache_limit,
    clear_cache,
    format_bytes,
    list_cache,
    parse_bytes,
    set_cache_limit,
)


def manage_cache(folder: Path | None, limit: str | None, clear: bool) -> dict[str, Any]:
    """Clear the cache or set its limit, where asked, and return what it holds as plain values.

    Raises:
        ConfigError: The limit is no size.
        RunError: The folder cannot be written, or its settings cannot be read.
    """
    if limit is not None:
        set_cache_limit(parse_bytes(limit), folder)
    freed = clear_cache(folder) if clear else 0
    entries = list_cache(folder)
    return {
        "folder": str(cache_folder(folder)),
        "limit": cache_limit(folder),
        "bytes": sum(entry.size for entry in entries),
        "freed": freed,
        "entries": [
            {
                "preparation": entry.preparation,
                "images": entry.images,
                "bytes": entry.size,
                "used": datetime.fromtimestamp(entry.used).astimezone().isoformat(timespec="seconds"),
            }
            for entry in entries
        ],
    }


def print_cache(cache: dict[str, Any]) -> None:
    """Print what the cache holds for people."""
    rows = []
    for entry in cache["entries"]:
        prepared = dict(entry["preparation"])
        head = f"{prepared.pop('kind')} {' x '.join(str(n) for n in [prepared.pop('channels'), *prepared.pop('size')])}"
        words = ", ".join([head, *(f"{key} {value}" for key, value in prepared.items())])
        rows.append([words, f"{entry['images']:,}", format_bytes(entry["bytes"]), entry["used"].replace("T", " ")[:16]])
    if rows:
        print_table("", ["prepared as", "images", "size", "last use"], rows)
    if cache["freed"]:
        print(f"Freed {format_bytes(cache['freed'])}")
    print(f"{format_bytes(cache['bytes'])} of at most {format_bytes(cache['limit'])} in {cache['folder']}")
