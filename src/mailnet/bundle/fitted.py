"""Names of what was fitted after training, by which results know whether they are of the model as it is now."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from mailnet.bundle.foreign_files import FILE as FOREIGN
from mailnet.bundle.reliability import FILE as RELIABILITY


def fitted_digests(bundle: Path) -> dict[str, str]:
    """Return file -> its SHA-256, of ``calibration.json`` and ``foreign.json``; a file that is not there is left out.

    Args:
        bundle: The folder of a bundle.

    Raises:
        OSError: A file cannot be read.
    """
    paths = [bundle / name for name in (RELIABILITY, FOREIGN)]
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}
