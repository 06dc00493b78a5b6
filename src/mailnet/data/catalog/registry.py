"""Finds the entries: a YAML file each, and one for all of MedMNIST."""

from __future__ import annotations

import difflib
import re
from functools import cache
from importlib import resources
from typing import Any

import yaml

from mailnet.data.catalog.entry import Entry
from mailnet.errors import ConfigError

FAMILY = "medmnist"


def list_datasets() -> list[Entry]:
    """Return every entry, by name; data sets of several sizes once, see ``Entry.sizes``."""
    return [_entries()[name] for name in sorted(_entries())]


def get_dataset(name: str) -> Entry:
    """Return one entry.

    Args:
        name: Of the data set; with ``_64``, ``_128`` or ``_224`` behind it the larger images of a MedMNIST set.

    Raises:
        ConfigError: There is none of this name; the nearest are named.
    """
    entries = _entries()
    if name in entries:
        return entries[name]
    base, _, size = name.rpartition("_")
    if base in entries and size.isdigit() and int(size) in entries[base].sizes:
        return _family()[base, int(size)]
    near = difflib.get_close_matches(name, entries, n=3, cutoff=0.4)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    raise ConfigError(f"the catalogue has no data set '{name}'", remedy=f"{hint}'mailnet data list' shows all")


@cache
def _entries() -> dict[str, Entry]:
    folder = resources.files("mailnet.data.catalog") / "entries"
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml") and file.name != f"{FAMILY}.yaml"]
    read = [Entry.model_validate(yaml.safe_load(file.read_text("utf-8"))) for file in files]
    smallest = [entry for (_, size), entry in _family().items() if size == entry.sizes[0]]
    return {entry.name: entry for entry in read + smallest}


@cache
def _family() -> dict[tuple[str, int], Entry]:
    """Every MedMNIST set in every size, from what they share and what each is."""
    file = resources.files("mailnet.data.catalog") / "entries" / f"{FAMILY}.yaml"
    family = yaml.safe_load(file.read_text("utf-8"))
    return {
        (name, size): Entry.model_validate(_member(name, size, own, family["shared"]))
        for name, own in family["sets"].items()
        for size in own.get("sizes", family["shared"]["sizes"])
    }


def _member(name: str, size: int, own: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    volume = name.endswith("3d")
    sizes = own.get("sizes", shared["sizes"])
    file = name if size == sizes[0] else f"{name}_{size}"
    section: dict[str, Any] = {"column": "file", "channels": own.get("channels", 1), "size": size}
    section |= {"kind": "volume"} if volume else {"augment": own["augment"]} if "augment" in own else {}
    task: dict[str, Any] = {"kind": own["kind"], "counts": own.get("counts", {})}
    columns = [f"label.{k}" for k in range(len(own["classes"]))] if own["kind"] == "multilabel" else None
    task["classes"] = dict(zip(own["classes"], columns or range(len(own["classes"])), strict=True))
    if columns is None:
        task["column"] = "label"
    pixels = " x ".join([str(size)] * (3 if volume else 2))
    splits = dict(zip(("train", "val", "test"), own["splits"], strict=True))
    larger = shared["larger"] if size != sizes[0] else []
    return {
        "name": file,
        "title": f"{own['title']} at {pixels}",
        "modality": own["modality"],
        "size": f"{pixels}, {'colour' if own.get('channels') == 3 else 'grey'}",
        "images": sum(own["splits"]),
        "splits": splits,
        "group_key": own.get("group_key", shared["group_key"]),
        "traps": own.get("traps", []) + shared["traps"] + larger,
        "verified": own.get("verified", False) and size == sizes[0],
        "verified_on": own["verified_on"] if "verified_on" in own and size == sizes[0] else shared["verified_on"],
        "licence": own.get("licence", shared["licence"]),
        "sizes": sizes,
        "layout": [{"name": "file", "path": f"{file}.npz", "holds": shared["holds"]}],
        "prepare": {"identical": ["file"]},
        "split": {"column": "split"},
        "modalities": {re.sub(r"\W", "_", own["input"]): section},
        "tasks": {own["task"]: task},
    } | {key: shared[key] for key in ("citation", "doi", "url")}
