"""What ``mailnet certify`` promises, as a section of a run's report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailnet.errors import RunError
from mailnet.files import read_json
from mailnet.report import words
from mailnet.report.check import template
from mailnet.report.panels import DASHES, Axis, Line, panel, share_axis

if TYPE_CHECKING:
    from markupsafe import Markup

FORMAT = 1
ROWS = 5
ENDS = ("value", "low", "high")


def render_certificate(run: Path) -> Markup | None:
    """Return the section as HTML; None where the run has no ``certificate.json``.

    Raises:
        RunError: The file is damaged or of a newer mailnet.
    """
    from markupsafe import Markup

    path = run / "certificate.json"
    if not path.is_file():
        return None
    found = read_json(path)
    if int(found.get("format", FORMAT)) > FORMAT:
        remedy = "Update mailnet, or give 'mailnet certify' again"
        raise RunError(f"was written by a newer mailnet, {found.get('mailnet')}", file=path, remedy=remedy)
    tasks = {name: task for name, task in found["tasks"].items() if task["curve"]}
    view = {
        "certificate": found,
        "tasks": {
            name: task | {"rows": task["curve"][:: max(len(task["curve"]) // ROWS, 1)]} for name, task in tasks.items()
        },
        "chart": _chart(found, tasks),
        "dashes": DASHES,
        "nothing": words.listing(found["promises_nothing_about"]),
        "number": words.number,
        "count": words.count,
        "interval": lambda raw: words.interval(words.estimate(raw), percent=True),
    }
    return Markup(template("certificate.html").render(view))


def _chart(found: Mapping[str, Any], tasks: Mapping[str, Any]) -> Markup:
    deviations = list(found["settings"]["sigma"].values())
    # Of equal deviations the radius is a length of all images' changes together.
    alike = len(set(deviations)) == 1
    factor = deviations[0] if alike else 1.0
    name = "l2 radius, images in [0, 1]" if alike else "radius in deviations of the noise"
    lines = [
        Line([(at["radius"] * factor, *(at[end] for end in ENDS if end in at)) for at in task["curve"]], k)
        for k, task in enumerate(tasks.values())
    ]
    most = max((line.points[-1][0] for line in lines), default=1.0)
    x = Axis(0, most, _ticks(most), name)
    alt = f"Certified accuracy against the radius, up to {most:.2g}"
    return panel(lines, x, share_axis([0.0], "certified accuracy"), width=430, height=290, alt=alt)


def _ticks(most: float) -> list[tuple[float, str]]:
    """Return three to six round places from 0 to ``most``.

    >>> [text for _, text in _ticks(0.38)]
    ['0', '0.1', '0.2', '0.3']
    """
    if most <= 0:
        return [(0.0, "0")]
    ten = 10.0 ** math.floor(math.log10(most))
    step = next(ten * part for part in (0.2, 0.5, 1.0, 2.0) if most / (ten * part) < 6)
    return [(step * k, f"{step * k:.3g}") for k in range(int(most / step + 1e-9) + 1)]
