"""What ``mailnet attack`` measured, as a section of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailnet.data.config import StudyConfig
from mailnet.data.config.base import radius_text
from mailnet.errors import RunError
from mailnet.files import read_json
from mailnet.report import words
from mailnet.report.attacked import read_attacked
from mailnet.report.check import template
from mailnet.report.panels import DASHES, Axis, Line, panel, share_axis

if TYPE_CHECKING:
    from markupsafe import Markup

FORMAT = 1
WIDTH, HEIGHT = 400, 260
WAYS = {
    "single": "one draw",
    "mean": "mean probability of all draws",
    "majority": "majority of draws",
    "worst": "every draw right",
}
NOISE = (None, "sample", "off", "known seed")
METRICS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
AT_ONCE, ANY = "All tasks at once", "any answer right"
Cells = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Bar:
    """One row of a comparison at the middle radius: places in percent of the axis."""

    label: str
    value: words.Estimate
    dot: float
    low: float
    length: float
    n: int


@dataclass(frozen=True)
class TaskView:
    """One task.

    Args:
        name: Of the task.
        chart: Accuracy against the radius.
        series: What its lines are.
        columns: Heads of ``rows``.
        rows: Radius and an estimate a column.
        bars: What else was measured at the middle radius.
        steps: Radius, what stands before, and what each attack left, with its cost.
        note: What must be known to read it.
    """

    name: str
    chart: Markup
    series: list[str]
    columns: list[str]
    rows: list[tuple[str, list[words.Estimate | None]]]
    bars: list[Bar]
    steps: list[tuple[str, Mapping[str, Any]]]
    note: str = ""


def render_robustness(run: Path, config: StudyConfig) -> Markup | None:
    """Return the section as HTML; None where the run has no ``robustness.json``.

    Args:
        run: Folder of the results.
        config: Its study, by which images are shown.

    Raises:
        RunError: The file is damaged or of a newer mailnet.
    """
    from markupsafe import Markup

    path = run / "robustness.json"
    if not path.is_file():
        return None
    card = read_json(path)
    if int(card.get("format", FORMAT)) > FORMAT:
        remedy = "Update mailnet, or give 'mailnet attack' again"
        raise RunError(f"was written by a newer mailnet, {card.get('mailnet')}", file=path, remedy=remedy)
    examples, factor = read_attacked(run, card, config)
    view = {
        "card": card,
        "tasks": [*(_task(name, card) for name in card["tasks"]), *_at_once(card)],
        "held": words.listing(list(card["threat"]["levels"][card["threat"]["middle"]])),
        "middle": _radius(card["threat"]["levels"][card["threat"]["middle"]], card),
        "together": len({len(cell["tasks"]) for cell in card["cells"]}) > 1,
        "examples": examples,
        "factor": factor,
        "draws": max((cell["draws"] for cell in card["cells"] if cell["noise"] == "sample"), default=1),
        "figure": _figure,
        "dashes": DASHES,
        "number": words.number,
        "count": words.count,
        "interval": lambda value: words.interval(value, percent=True),
    }
    return Markup(template("robustness.html").render(view))


def _task(name: str, card: Mapping[str, Any]) -> TaskView:
    every = [cell for cell in card["cells"] if name in cell["figures"]]
    # A study's own attacker where there is one; several tasks at once else.
    least = min(len(cell["tasks"]) for cell in every)
    own = [cell for cell in every if len(cell["tasks"]) == least]
    whole = card["threat"]["levels"][card["threat"]["middle"]]
    curve = [cell for cell in own if cell["noise"] in (None, "sample") and cell["eps"] in card["threat"]["levels"]]
    radii = [max(_images(cell["eps"], card).values()) for cell in curve]  # where a level is drawn
    lines, series = _lines(name, curve, radii, card["random"])
    unit = 255 if card["threat"]["norm"] == "linf" else 1
    ticks = [(0.0, "0"), *((radius, f"{unit * radius:.3g}") for radius in radii)]
    axis = Axis(0.0, max(radii), ticks, f"radius in {card['threat']['norm']}" + (" (255ths)" if unit == 255 else ""))
    values = [value for line in lines for point in line.points for value in point[1:]]
    chart = panel(
        lines, axis, share_axis(values), width=WIDTH, height=HEIGHT, alt=f"{name}: accuracy against the radius"
    )
    columns, rows = _rows(name, curve, card)
    return TaskView(name, chart, series, columns, rows, _bars(name, every, whole),
                    [(_radius(cell["eps"], card), cell["standing"]) for cell in curve])  # fmt: skip


def _at_once(card: Mapping[str, Any]) -> list[TaskView]:
    """All tasks as if they were one, which stands while any answer is right; nothing where no attacker wants that."""
    cells = [
        {**cell, "figures": {AT_ONCE: {"n": found["n"], "ways": None, **{
            point: {"balanced_accuracy": None, **found[point]} for point in ("clean", "robust")
        }}}}
        for cell in card["cells"] if (found := cell.get("at_once"))
    ]  # fmt: skip
    if not cells:
        return []
    note = "The attacker of all tasks has broken a study where every answer is wrong; it counts while any is right."
    return [replace(_task(AT_ONCE, {**card, "cells": cells}), series=[ANY], columns=[ANY], note=note)]


def _picked(found: Mapping[str, Any], random: bool) -> list[tuple[str, Mapping[str, Any], str]]:
    """Name, clean and robust figures, and metric of each line and column."""
    if random and found["ways"] is not None:
        ways = {"single": found, **found["ways"]}
        return [(WAYS[way], ways[way], "accuracy") for way in WAYS]
    return [(label, found, metric) for metric, label in METRICS.items() if found["robust"][metric] is not None]


def _lines(name: str, curve: Cells, radii: Sequence[float], random: bool) -> tuple[list[Line], list[str]]:
    lines: list[Line] = []
    series: list[str] = []
    for k, (label, _, _) in enumerate(_picked(curve[0]["figures"][name], random)):
        points = []
        for place, cell in enumerate(curve):
            _, figures, metric = _picked(cell["figures"][name], random)[k]
            clean = [(0.0, figures["clean"][metric])] if place == 0 else []
            for radius, raw in [*clean, (radii[place], figures["robust"][metric])]:
                value = words.estimate(raw)
                if value is not None:
                    ends = () if value.low is None or value.high is None else (value.low, value.high)
                    points.append((radius, value.value, *ends))
        if points:
            lines.append(Line(points, len(series)))
            series.append(label)
    return lines, series


def _rows(
    name: str, curve: Cells, card: Mapping[str, Any]
) -> tuple[list[str], list[tuple[str, list[words.Estimate | None]]]]:
    picked = [_picked(cell["figures"][name], card["random"]) for cell in curve]
    if card["random"]:  # the balanced accuracy is not in the chart, whose lines are ways of counting
        for cell, several in zip(curve, picked, strict=True):
            found = cell["figures"][name]
            if found["robust"]["balanced_accuracy"] is not None:
                several.insert(1, (f"{WAYS['single']}, balanced", found, "balanced_accuracy"))
    rows = [("none", [words.estimate(figures["clean"][metric]) for _, figures, metric in picked[0]])]
    for cell, several in zip(curve, picked, strict=True):
        left = [words.estimate(figures["robust"][metric]) for _, figures, metric in several]
        rows.append((_radius(cell["eps"], card), left))
    return [label for label, _, _ in picked[0]], rows


def _bars(name: str, every: Cells, whole: Mapping[str, float]) -> list[Bar]:
    """What was measured with the radii of the middle level, in one way or another; nothing where that is one."""
    alike = [cell for cell in every if all(whole.get(held) == radius for held, radius in cell["eps"].items())]
    if len(alike) < 2:
        return []
    bars = []
    for cell in sorted(alike, key=lambda cell: (len(cell["tasks"]), -len(cell["eps"]), NOISE.index(cell["noise"]))):
        value = words.estimate(cell["figures"][name]["robust"]["accuracy"])
        if value is not None:
            low, high = (value.value if end is None else end for end in (value.low, value.high))
            bars.append(Bar(_spoken(name, cell, whole), value, round(100 * value.value, 2), round(100 * low, 2),
                            round(100 * (high - low), 2), cell["figures"][name]["n"]))  # fmt: skip
    return bars


def _spoken(name: str, cell: Mapping[str, Any], whole: Mapping[str, float]) -> str:
    parts = []
    if len(whole) > 1:
        parts.append(
            "all modalities" if set(cell["eps"]) == set(whole) else f"{words.listing(list(cell['eps']))} alone"
        )
    # Where a study has one label only, one attacker serves for all tasks, and each study is attacked through its own.
    if len(cell["tasks"]) > 1 and cell["n"] == cell["figures"][name]["n"]:
        parts.append("all tasks at once")
    if cell["noise"] is not None:
        parts.append(
            {"sample": "fresh noise", "off": "noise off", "known seed": "seed known to the attacker"}[cell["noise"]]
        )
    return ", ".join(parts) or words.listing(list(whole))


def _images(radii: Mapping[str, float], card: Mapping[str, Any]) -> Mapping[str, float]:
    """The radii of images, where there are any; those of tables are the same at every level, and said once."""
    return {name: radius for name, radius in radii.items() if name not in card["threat"]["tables"]} or radii


def _radius(radii: Mapping[str, float], card: Mapping[str, Any]) -> str:
    return radius_text(_images(radii, card), card["threat"]["norm"], card["threat"]["tables"])


def _figure(figure: Mapping[str, Any]) -> str:
    """What a check found, as text; what is empty is left away.

    >>> _figure({"white_box_at_0.25": 0.5, "hidden": [], "saturated": True, "by": {"ct": 0.125}})
    'white box at 0.25: 0.5, saturated, by: ct 0.125'
    """
    parts = []
    for key, value in figure.items():
        if value is None or value is False or (isinstance(value, list | dict) and not value):
            continue
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        if isinstance(value, list):
            text = ", ".join(str(each) for each in value)
        if isinstance(value, dict):
            text = ", ".join(f"{name} {each:.3g}" if isinstance(each, float) else f"{name} {each}"
                             for name, each in value.items())  # fmt: skip
        parts.append(key.replace("_", " ") if value is True else f"{key.replace('_', ' ')}: {text}")
    return ", ".join(parts)
