"""The text of a study.yaml, with comments for who goes on with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mailnet.data.init.draft import Draft


def render_study(draft: Draft, table: str, data_root: str) -> str:
    """Return study.yaml.

    Args:
        draft: The study, its sections complete.
        table: Location of the table from the data root.
        data_root: The data root from the file.
    """
    lines = [
        "# Written by 'mailnet init'. Read it through, correct it, then run 'mailnet check'.",
        *(f"# - {note}" for note in draft.notes),
        f"name: {_value(draft.name)}",
        "# Paths are relative to the table, and nothing outside this folder is read (--data-root replaces it).",
        f"data_root: {_value(data_root)}",
        f"manifest: {_value(table)}",
    ]
    if draft.study_id:
        lines.append(f"id: {_value(draft.study_id)}")
    if draft.group:
        lines += ["# Rows of one patient stay on one side of every split.", f"group: {_value(draft.group)}"]
    else:
        lines += ["# Name the column of patients, so that no patient is on two sides of a split.", "# group: patient"]
    lines.append(f"split: {_value(draft.split)}")
    if words := draft.aside.get("categorical"):
        lines += ["# Report results also by these columns:", f"# subgroups: {_value(words)}"]
    lines += ["", "# What goes into the network: images and tables, any number of each.", "modalities:"]
    for name, keys in draft.sections.items():
        lines.append(f"  {name}: {_value(keys)}")
    if draft.aside:
        lines += ["  # Take only columns that are known before the diagnosis:"]
        lines += [f"  # table: {_value(draft.aside)}"]
    lines += [
        "",
        "# What it is asked. kind: binary, multiclass, ordinal (classes in rising order) or multilabel.",
        "tasks:",
    ]
    lines += [f"  {name}: {_value(keys)}" for name, keys in draft.tasks.items()]
    lines += ["", "model: {name: mail, options: {width: tiny}}", "train: {epochs: 30, batch_size: 64}", ""]
    return "\n".join(lines)


def _value(value: str | Sequence[Any] | Mapping[str, Any]) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
