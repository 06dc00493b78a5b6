"""Section of a card on studies unlike those of training: by what they are known, and how often usual ones are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailnet.bundle.card.facts import Facts
from mailnet.bundle.card.text import percent, plain, table


def foreign(facts: Facts) -> list[str]:
    """Return what was learned of them, and what it comes to on the test studies; empty without either."""
    learned = facts.foreign or {}
    found = (facts.evaluation or {}).get("foreign")
    measured = found if found and found["study"]["studies"] else None
    judged = [_modality(name, one) for name, one in learned.get("modalities", {}).items()]
    judged += [_pair(one) for one in learned.get("pairs", ())]
    if measured is None and not judged:
        return []
    lines = ["### Studies unlike those of training", "", *judged, *([""] if judged else [])]
    if measured is None:
        return [*lines, "How often usual studies are called foreign was not measured on the test studies.", ""]
    whole = measured["study"]
    lines += [
        f"Of {whole['studies']:,} test studies, of the same origin as those of training, {percent(whole['share'])} "
        f"were called foreign; {percent(measured['rate'])} was aimed at. How many truly foreign studies are found is "
        "not part of this measurement.",
        "",
    ]
    rows = [
        [plain(name), f"{one['studies']:,}", percent(one["share"]), percent(one["stated"]), percent(one.get("high"))]
        for name, one in measured.get("modalities", {}).items()
    ]
    return lines + (
        table(["Judged", "Test studies", "Called foreign", "Aimed at", "By chance up to"], rows) if rows else []
    )


def _modality(name: str, one: Mapping[str, Any]) -> str:
    if "images" not in one:
        return f"* {plain(name)}: by the ranges that its columns had in training."
    by = "the picture and the network's first layers" if "features" in one else "the picture"
    return f"* {plain(name)}: by {by}, learned from {one['images']:,} training images."


def _pair(one: Mapping[str, Any]) -> str:
    return (
        f"* {plain(one['first'])} beside {plain(one['second'])}: whether they look as if of one patient. Of validation "
        f"studies given the {plain(one['second'])} of another, it tells {percent(one['told'])}."
    )
