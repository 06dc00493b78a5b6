"""Decoded images, each kept once, found again by what its file holds and how it was prepared.

A folder a preparation; in it immutable shards, each two plain npy files: the images, and their keys. Several processes
may write at once: each writes shards of its own, and a shard is there only once both of its files are whole.
"""

from mailnet.data.cache.build import ImageCache
from mailnet.data.cache.images import Images, ShardedImages
from mailnet.data.cache.limit import cache_limit, format_bytes, parse_bytes, set_cache_limit
from mailnet.data.cache.shards import CacheEntry, cache_folder, clear_cache, list_cache

__all__ = [
    "CacheEntry",
    "ImageCache",
    "Images",
    "ShardedImages",
    "cache_folder",
    "cache_limit",
    "clear_cache",
    "format_bytes",
    "list_cache",
    "parse_bytes",
    "set_cache_limit",
]
