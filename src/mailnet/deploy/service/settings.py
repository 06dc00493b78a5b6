"""What whoever runs the service decides."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 2**20
# How many times its size an upload may unpack to, and how many of the largest uploads may lie on the disk at once.
EXPANSION, STORED = 4, 4
MAX_TEXT = 4 * MEGABYTE  # of a field that is no file, such as a table with tens of thousands of genes


@dataclass(frozen=True)
class Settings:
    """Limits and addresses of a service.

    Args:
        host: Address that it listens on.
        port: Port, 0 for any that is free.
        token: What requests have to bring as ``Authorization: Bearer``; None for none.
        hosts: Further names that it may be called by, as by a reverse proxy in front of it.
        max_upload: Bytes of a request.
        max_files: Files of a request, and of a zip.
        max_pixels: Pixels of a plane; a modality's own limit holds where it is lower.
        max_voxels: Voxels of a file, likewise.
        timeout: Seconds that a request may take to arrive, and again to be answered.
        queue: Requests that are being received or answered at once; others are told to come again.
        batch: Studies that are predicted together at most.
        keep: Folder for a copy of every prediction, as JSON without the images; None to keep nothing.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    hosts: tuple[str, ...] = ()
    max_upload: int = 512 * MEGABYTE
    max_files: int = 4000
    max_pixels: int = 2**26
    max_voxels: int = 2**28
    timeout: float = 60.0
    queue: int = 256
    batch: int = 32
    keep: Path | None = None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    @property
    def max_unpacked(self) -> int:
        """Bytes that the zips of a request may unpack to."""
        return EXPANSION * self.max_upload


def is_loopback(host: str) -> bool:
    """Return whether an address leads to this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
