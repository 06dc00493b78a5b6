"""Pieces of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def spread(found: Mapping[str, float | None] | None) -> str:
    """Return a mean and its standard deviation over seeds."""
    if found is None:
        return "-"
    return f"{found['mean']:.4f}" + ("" if found["sd"] is None else f" ± {found['sd']:.4f}")


def interval(found: Mapping[str, Any] | None) -> str:
    """Return a difference with its interval, bold where that excludes 0."""
    if found is None:
        return "-"
    text = f"{found['value']:+.4f}"
    if found["low"] is not None:
        text += f" ({found['low']:+.4f} to {found['high']:+.4f})"
    return f"**{text}**" if found["excludes_zero"] else text


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, its first column of words and the others of numbers."""
    head = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    return "\n".join([*head, *("| " + " | ".join(row) + " |" for row in rows)])
