"""What 'mailnet certify' reads and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mailnet.cli.output import print_table, say
from mailnet.cli.summary import cell
from mailnet.data.config.base import read_length
from mailnet.errors import ConfigError

SHOWN = 6


def parse_sigma(given: Sequence[str]) -> dict[str | None, float]:
    """Return modality -> deviation from ``0.25`` or ``64/255`` (None: every image) and ``NAME=0.25``.

    Raises:
        ConfigError: It is neither, not positive, or a modality is named twice.

    >>> parse_sigma(["0.25", "flair=0.1"])
    {None: 0.25, 'flair': 0.1}
    """
    found: dict[str | None, float] = {}
    for text in given:
        name, equals, number = text.rpartition("=")
        key = name if equals else None
        if key in found:
            raise ConfigError(f"--sigma is given twice for {key or 'every image'}", remedy="Give it once")
        try:
            found[key] = read_length(number)
        except ValueError as error:
            raise ConfigError(f"--sigma {text} {error}", remedy="Give --sigma 0.25 or --sigma NAME=0.25") from None
    return found


def print_certificate(result: Mapping[str, Any], folder: Path) -> None:
    """Print certified accuracy against the radius of each task, and where it was written."""
    sigma = result["settings"]["sigma"]
    for name, found in result["tasks"].items():
        rows = [
            ["without noise", cell(found["plain_accuracy"])],
            ["smoothed", cell(found["smoothed_accuracy"])],
            ["abstained", cell(found["abstained"])],
        ]
        print_table(f"{name} ({found['n']} {result['settings']['split']} studies)", ["", "accuracy"], rows)
        curve = found["curve"]
        chosen = curve[:: max(len(curve) // SHOWN, 1)]
        columns = ["radius in deviations", *(f"l2 of {each} alone" for each in sigma), "certified accuracy"]
        print_table("", columns, [
            [f"{at['radius']:.2f}", *(f"{at['l2'][each]:.3f}" for each in sigma), cell(at)] for at in chosen
        ])  # fmt: skip
    if nothing := result["promises_nothing_about"]:
        say(f"Nothing is promised where {', '.join(nothing)} changes: no noise was added there.")
    if result["left_out"]:
        say(f"{result['left_out']} studies have none of the images that get noise and were left out.")
    say(f"Written: {folder / 'certificate.json'}")
