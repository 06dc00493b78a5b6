"""The plots of a suite, SVG files that come out the same for the same cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from mailnet.benchmark.ranks import cliques
from mailnet.benchmark.results import Results
from mailnet.files import replacing

FOLDER = "plots"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mailnet",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
# Beside ten colours: networks of one colour differ in their line.
DASHES = ("-", "--", ":", "-.")


def write_plots(summary: Mapping[str, Any], results: Results, out: Path) -> list[str]:
    """Write the plots for which there are numbers; return their names from ``out``.

    Args:
        summary: Of ``summarise``.
        results: The cells, for the learning curves.
        out: The benchmark's folder.
    """
    wanted: dict[str, Figure] = {}
    with rc_context(_STYLE):
        if summary["ranks"] is not None:
            ranks = summary["ranks"]
            wanted["critical-difference"] = critical_difference_diagram(
                ranks["networks"], ranks["mean_ranks"], ranks["critical_difference"]
            )
            for name, label, cost in (
                ("score-macs", "MACs for one study (geometric mean over data sets)", lambda found: found["macs"]),
                ("score-latency", "ms for one study (geometric mean over data sets)", _latency),
            ):
                points = _costs(summary, cost)
                if points:
                    wanted[name] = _scatter(points, label, f"mean {summary['metric'].replace('_', ' ')}")
        for study, networks in results.cells.items():
            curves = {name: _curves(cells) for name, cells in networks.items() if cells[0]["history"]["monitor"]}
            if curves:
                wanted[f"curves-{study}"] = _learning(curves, study)
        names = []
        for name, figure in wanted.items():
            names.append(f"{FOLDER}/{name}.svg")
            with replacing(out / names[-1]) as temporary:
                figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None})
    return names


def critical_difference_diagram(names: Sequence[str], ranks: Sequence[float], difference: float) -> Figure:
    """Return a diagram of mean ranks in which a bar joins networks that do not differ (Demsar 2006, figure 1).

    Args:
        names: Networks, the best first.
        ranks: Their mean ranks, rising.
        difference: The critical difference.
    """
    count = len(names)
    runs = cliques(np.array(ranks), difference)
    rows = -(-count // 2)
    figure = Figure(figsize=(9, 1.4 + 0.16 * len(runs) + 0.26 * rows))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(1 - 0.3 * count, count + 0.3 * count)
    axes.set_ylim(-(1.2 + 0.5 * len(runs) + rows), 2.2)
    axes.plot([1, count], [0, 0], color="black", linewidth=1)
    for place in range(1, count + 1):
        axes.plot([place, place], [0, 0.25], color="black", linewidth=1)
        axes.text(place, 0.4, str(place), ha="center", va="bottom", fontsize=9)
    axes.plot([1, min(1 + difference, count)], [1.5, 1.5], color="black", linewidth=2)
    axes.text(1, 1.65, f"critical difference {difference:.2f}", ha="left", va="bottom", fontsize=9)
    for number, (first, last) in enumerate(runs):
        height = -0.5 - 0.5 * number
        axes.plot([ranks[first] - 0.03, ranks[last] + 0.03], [height, height], color="black", linewidth=3)
    for number, (name, mean) in enumerate(zip(names, ranks, strict=True)):
        left = number < rows
        height = -(0.7 + 0.5 * len(runs)) - (number if left else count - 1 - number)
        end = 1 - 0.05 * count if left else count + 0.05 * count
        axes.plot([mean, mean, end], [0, height, height], color="grey", linewidth=0.8)
        text = f"{name}  {mean:.2f}" if left else f"{mean:.2f}  {name}"
        axes.text(end, height, f"{text} " if left else f" {text}", ha="right" if left else "left", va="center",
                  fontsize=9)  # fmt: skip
    return figure


def _latency(found: Mapping[str, Any]) -> float | None:
    return None if found["latency_ms"] is None else float(found["latency_ms"]["1"])


def _costs(
    summary: Mapping[str, Any], cost: Callable[[Mapping[str, Any]], float | None]
) -> dict[str, tuple[float, float]]:
    """Network -> geometric mean of a cost over data sets, and mean score, of those that have it on all."""
    ranks = summary["ranks"]
    points = {}
    for name, score in zip(ranks["networks"], ranks["mean_scores"], strict=True):
        costs = [cost(summary["studies"][study]["networks"][name]) for study in ranks["studies"]]
        if all(costs):
            points[name] = (math.exp(float(np.mean([math.log(value) for value in costs if value]))), float(score))
    return points


def _scatter(points: Mapping[str, tuple[float, float]], label: str, score: str) -> Figure:
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    for name, (cost, value) in points.items():
        axes.scatter([cost], [value], s=30)
        axes.annotate(name, (cost, value), xytext=(5, 4), textcoords="offset points", fontsize=8)
    _log_scale(axes)
    axes.set_xlabel(label)
    axes.set_ylabel(score)
    return figure


def _log_scale(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with plain numbers: its own labels are formulas, which are not set here."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _curves(cells: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Monitored value after each epoch, and training seconds until then, means over seeds that reached it."""
    longest = max(len(cell["history"]["monitor"]) for cell in cells)
    values, seconds = np.full((2, len(cells), longest), np.nan)
    for number, cell in enumerate(cells):
        history = cell["history"]
        length = len(history["monitor"])
        values[number, :length] = [np.nan if value is None else value for value in history["monitor"]]
        seconds[number, :length] = np.cumsum(history["seconds"])
    defined = np.isfinite(values).any(0)
    return np.nanmean(values[:, defined], axis=0).tolist(), np.nanmean(seconds[:, defined], axis=0).tolist()


def _learning(curves: Mapping[str, tuple[list[float], list[float]]], study: str) -> Figure:
    figure = Figure(figsize=(11, 4.5))
    by_epoch, by_seconds = figure.subplots(1, 2, sharey=True)
    for number, (name, (values, seconds)) in enumerate(curves.items()):
        style: Any = {"color": f"C{number % 10}", "linestyle": DASHES[number // 10 % len(DASHES)], "linewidth": 1.4}
        by_epoch.plot(range(1, len(values) + 1), values, label=name, **style)
        by_seconds.plot(seconds, values, **style)
    by_epoch.set_xlabel("epoch")
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_epoch.set_ylabel("monitored metric on the validation studies")
    by_epoch.set_title(study, loc="left", fontsize=10)
    by_seconds.set_xlabel("training seconds")
    _log_scale(by_seconds)
    figure.legend(loc="center left", bbox_to_anchor=(0.91, 0.5), fontsize=8, frameon=False)
    return figure
