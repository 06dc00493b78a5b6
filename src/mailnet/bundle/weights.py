"""A name of a model's weights, by which results know whether they are of the model as it is now."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

WEIGHTS = "model.safetensors"


def weights_digest(run: Path) -> str:
    """Return the SHA-256 of the weights of a run or bundle.

    Raises:
        OSError: It has none.
    """
    bundle = run / "bundle" if (run / "bundle").is_dir() else run
    found = sha256()
    with (bundle / WEIGHTS).open("rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()
