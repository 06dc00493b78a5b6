"""A trained model as the bytes of its bundle, so that an estimator travels between processes without its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mailnet.bundle.facts import find_bundle
from mailnet.bundle.files import FILES, bundle_files


def pack_bundle(run: Path) -> dict[str, bytes]:
    """Return name -> content of the files of a run's bundle: safetensors, JSON and the model card.

    Raises:
        RunError: There is no bundle.
    """
    return {name: path.read_bytes() for name, path in bundle_files(find_bundle(run)).items()}


def unpack_bundle(files: Mapping[str, bytes], folder: Path) -> None:
    """Write what ``pack_bundle`` gave into an empty folder; a name that no bundle has is left out."""
    for name in FILES:
        if name in files:
            (folder / name).write_bytes(files[name])
