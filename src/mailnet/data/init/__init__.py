"""Writes a study.yaml, and where needed a manifest, from data as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mailnet.data.archives import open_zip
from mailnet.data.config import parse_config
from mailnet.data.init.draft import Draft
from mailnet.data.init.folders import draft_from_folders
from mailnet.data.init.pictures import describe_images
from mailnet.data.init.render import render_study
from mailnet.data.init.tables import draft_from_table
from mailnet.data.locations import Locator, split_location
from mailnet.errors import ConfigError
from mailnet.files import write_text

__all__ = ["InitResult", "init_study"]

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".pq", ".xlsx", ".npz")


@dataclass(frozen=True)
class InitResult:
    """What was written.

    Args:
        study: The study.yaml.
        notes: What was guessed and why, a sentence each.
        manifest: The manifest, None where the data brought their own table.
    """

    study: Path
    notes: list[str] = field(default_factory=list)
    manifest: Path | None = None


def init_study(
    source: str | Path,
    out: str | Path = ".",
    *,
    labels: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
    group: str | None = None,
    split: str | None = None,
    size: int | None = None,
    force: bool = False,
) -> InitResult:
    """Write a study.yaml for a folder or zip of class folders, or for a CSV, Parquet, Excel or MedMNIST-style npz.

    Args:
        source: The data; a table inside a zip as ``set.zip!labels.csv``. A zip that holds a single table is read by it.
        out: Folder that is written to.
        labels: Columns of labels, where the guess is wrong; so are the next three. Only for tables.
        images: Columns of image paths.
        group: Column that names the patient.
        split: Column that says train, val or test.
        size: Pixels a side that images are brought to; default what they have, at most 128.
        force: Overwrite files that exist.

    Raises:
        ConfigError: A file exists, the source is of an unknown kind, or the guess needs your word.
        DataError: The data cannot be read.
    """
    study, manifest = Path(out) / "study.yaml", Path(out) / "manifest.csv"
    draft = _draft(source, labels, images, group, split)
    if Path(out).resolve() != Path.cwd():
        # The run lies in runs/NAME: the name that the user chose is the one to find there.
        draft.name = re.sub(r"\W+", "-", Path(out).resolve().name).strip("-") or draft.name
    for path in [study, *([manifest] if draft.manifest else [])]:
        if path.exists() and not force:
            raise ConfigError("exists already", file=path, remedy="Choose another --out, or overwrite with --force")
    root = _root(draft, Path(out))
    locator = Locator(root)
    pictures: dict[str, dict[str, Any]] = {}
    for name, column in draft.images.items():
        keys = {} if name == column else {"column": column}
        pictures[name] = keys | describe_images(draft, name, locator, size)
    draft.sections = pictures | draft.sections
    table = str(manifest.resolve()) if draft.table is None else draft.table
    data_root = os.path.relpath(root, Path(out).resolve()).replace(os.sep, "/")
    text = render_study(draft, locator.relative(table), data_root)
    parse_config(yaml.safe_load(text), study)
    if draft.manifest:
        frame = draft.frame.assign(
            image=[_from(cell, draft.folder, Path(out).resolve()) for cell in draft.frame["image"]]
        )
        write_text(manifest, frame.to_csv(index=False))
    write_text(study, text)
    return InitResult(study, draft.notes, manifest if draft.manifest else None)


def _draft(
    source: str | Path,
    labels: Sequence[str] | None,
    images: Sequence[str] | None,
    group: str | None,
    split: str | None,
) -> Draft:
    location = os.path.abspath(source)
    file, member = split_location(location)
    if not Path(file).exists():
        raise ConfigError("does not exist", file=source, remedy="Give a folder, a CSV, Parquet, Excel, npz or zip")
    if member is None and file.lower().endswith(".zip"):
        inside = [name for name in open_zip(file).namelist() if name.lower().endswith(TABLES[:-1])]
        inside = [name for name in inside if not name.startswith("__MACOSX")]
        if len(inside) == 1:
            location = f"{file}!{inside[0]}"
    if location.lower().endswith(TABLES):
        return draft_from_table(location, labels=labels, images=images, group=group, split=split)
    if not Path(file).is_dir() and not file.lower().endswith(".zip"):
        raise ConfigError(
            "is of an unknown kind", file=source, remedy="Give a folder, a CSV, Parquet, Excel, npz or zip"
        )
    for name, given in (("label", labels), ("image", images), ("group", group), ("split", split)):
        if given:
            raise ConfigError(f"--{name} names a column, but class folders have none", remedy="Leave it out")
    return draft_from_folders(Path(file))


def _root(draft: Draft, out: Path) -> str:
    """The folder that holds everything which the study reads."""
    if draft.table is not None:
        folder = os.path.dirname(split_location(draft.table)[0])
        base = os.path.dirname(draft.folder.split("!")[0]) if "!" in draft.folder else draft.folder
        cells = [cell for name in draft.images for cell in draft.paths(name) if cell.startswith(("../", "/"))]
        return os.path.commonpath([folder, *(os.path.dirname(os.path.abspath(os.path.join(base, c))) for c in cells)])
    try:
        root = os.path.commonpath([split_location(draft.folder)[0], out.resolve()])
    except ValueError:  # two drives of Windows
        root = os.path.sep
    if os.path.dirname(root) == root:
        raise ConfigError(
            "the data and --out have no folder in common", file=out, remedy="Choose an --out beside or above the data"
        )
    return os.path.dirname(root) if os.path.isfile(root) else root


def _from(cell: str, folder: str, out: Path) -> str:
    file, member = split_location(folder)
    if member is not None:
        inner = f"{member}/{cell}" if member else cell
        return f"{os.path.relpath(file, out)}!{inner}".replace(os.sep, "/")
    return os.path.relpath(os.path.join(folder, cell), out).replace(os.sep, "/")
