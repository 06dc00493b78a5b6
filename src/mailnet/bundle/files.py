"""Which files a bundle consists of: what is copied, packed or shared of one is this and nothing else."""

from __future__ import annotations

from pathlib import Path

from mailnet.bundle import foreign_files, reliability
from mailnet.bundle.card import CARD, CONFIG
from mailnet.bundle.weights import WEIGHTS

FILES = (CONFIG, CARD, WEIGHTS, reliability.FILE, foreign_files.FILE, foreign_files.ARRAYS)


def bundle_files(folder: Path) -> dict[str, Path]:
    """Return name -> path of the files of a bundle that are there; links and whatever else lies beside are left out."""
    return {name: folder / name for name in FILES if (folder / name).is_file() and not (folder / name).is_symlink()}
