"""Puts a card together, and writes it anew without losing what its owner has added."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mailnet.bundle.card import attacked, described, results, trusted
from mailnet.bundle.card.facts import CARD, CONFIG, Facts, gather
from mailnet.bundle.card.front import front_matter
from mailnet.errors import RunError
from mailnet.files import write_text

# No name of a study can hold this: its angle brackets would be escaped.
MARKER = "<!-- Written by mailnet, anew at every evaluation. What stands below this line is yours and stays. -->"


def model_card(facts: Facts, old: str = "") -> str:
    """Return the card as Markdown with metadata.

    Args:
        facts: Of the model.
        old: The card before. What its owner wrote below the marker stays, as do licence and other metadata.
    """
    sections = (
        described.heading(facts),
        described.intended_use(facts),
        described.takes(facts),
        described.data(facts),
        results.results(facts),
        trusted.reliability(facts),
        attacked.robustness(facts),
        attacked.damage(facts),
        attacked.certificate(facts),
        trusted.explanations(facts),
        attacked.not_measured(facts),
        described.use(),
    )
    body = "\n".join(line for section in sections for line in section)
    _, _, theirs = old.partition(MARKER)
    return f"{front_matter(facts, _metadata(old))}\n{body}\n{MARKER}{theirs or chr(10)}"


def write_card(run: str | Path) -> Path | None:
    """Write the card of a run's bundle anew, from the files that the run holds now.

    Of these only what was measured on the run's own test studies is used, so no evaluation of another study or split
    comes to stand in the card.

    Args:
        run: The run.

    Returns:
        The card; None where the run has no bundle.

    Raises:
        RunError: A file of the run is damaged or cannot be understood, or the card cannot be written.
        ConfigError: The study.yaml is damaged.
    """
    bundle = Path(run) / "bundle"
    if not (bundle / CONFIG).is_file():
        return None
    path = bundle / CARD
    old = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    try:
        new = model_card(gather(Path(run)), old)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        remedy = "Restore the run's JSON files, or measure again what wrote them"
        raise RunError(f"cannot be written: a file of the run cannot be understood ({error!r})", file=path,
                       remedy=remedy) from error  # fmt: skip
    if new != old:
        write_text(path, new)
    return path


def _metadata(card: str) -> Mapping[str, Any]:
    head, _, rest = card.partition("---\n")
    if head or not rest:
        return {}
    try:
        found = yaml.safe_load(rest.split("\n---", 1)[0])
    except yaml.YAMLError:
        return {}  # what cannot be read cannot be kept
    return found if isinstance(found, dict) else {}
