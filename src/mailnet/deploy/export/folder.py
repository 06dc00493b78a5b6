"""An exported folder: a bundle whose weights are a graph."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailnet.deploy.layout import COPIED, FACTS
from mailnet.errors import ConfigError
from mailnet.files import write_json
from mailnet.folders import take_place


def refuse_folder(folder: Path, source: Path) -> None:
    """Refuse to replace a folder that is no export.

    Raises:
        ConfigError: It holds anything else, or is the run or the bundle itself.
    """
    if folder.resolve() in (source.resolve(), (source / "bundle").resolve()):
        raise ConfigError("is the model itself", file=folder, remedy="Choose another folder with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS).is_file():
        inside = [one for one in folder.iterdir() if not (one / FACTS).is_file()]
        if inside:
            raise ConfigError("holds something else", file=folder, remedy="Choose another folder with --out")


def publish(made: Path, bundle: Path, folder: Path, facts: Mapping[str, Any]) -> None:
    """Complete a folder that holds the graph, and give it its name, replacing an earlier export at once.

    Args:
        made: Holds the graph alone, in a workshop.
        bundle: What is copied from.
        folder: The name.
        facts: Of ``export.json``.

    Raises:
        RunError: The files cannot be written.
    """
    for name in COPIED:
        if (bundle / name).is_file():
            shutil.copyfile(bundle / name, made / name)
    write_json(made / FACTS, facts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    take_place(made, folder)


def clear_files(folder: Path) -> None:
    """Delete the files of an earlier export, so that folders of precisions can lie in its place."""
    for file in folder.iterdir():
        if file.is_file():
            file.unlink(missing_ok=True)  # another export may do the same
