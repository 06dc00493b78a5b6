"""Line charts as inline SVG whose colours are variables of the page, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mailnet.metrics.curves import Curve, Reliability
from mailnet.metrics.values import Array

# Written by matplotlib as they are, then replaced by the page's variables.
INK, GRID, MUTED = "#0a0b01", "#0a0b02", "#0a0b03"
SERIES = tuple(f"#0a0c0{k}" for k in range(1, 9))
_VARIABLES = {INK: "--ink", GRID: "--line", MUTED: "--muted"} | {c: f"--c{k}" for k, c in enumerate(SERIES, 1)}

# Dashes double the colour, for readers who see no difference between two hues and for print without colour.
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 3)), (0, (3, 2)),
                           (0, (8, 2, 2, 2, 2, 2)), (0, (2, 3)))  # fmt: skip

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mailnet",
    "text.parse_math": False,
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "xtick.bottom": False,
    "ytick.left": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
}


def roc_chart(curves: Sequence[Curve | None], alt: str) -> str:
    """Return ROC curves, one a class in the order of the legend."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        _curves(axes, curves)
        _unit(axes, "false-positive rate (1 - specificity)", "sensitivity")

    return _square(draw, alt)


def precision_recall_chart(curves: Sequence[Curve | None], alt: str) -> str:
    """Return precision-recall curves, one a class in the order of the legend."""

    def draw(axes: Any) -> None:
        _curves(axes, curves)
        _unit(axes, "recall (sensitivity)", "precision (positive predictive value)")

    return _square(draw, alt)


def reliability_chart(points: Reliability, alt: str) -> str:
    """Return the reliability diagram; the area of a point grows with its number of studies."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        size = 14 + 160 * np.asarray(points.count) / max(1, int(points.count.max()))
        axes.plot(points.confidence, points.accuracy, color=SERIES[0], linewidth=1.2)
        axes.scatter(points.confidence, points.accuracy, s=size, color=SERIES[0], alpha=0.75, linewidths=0)
        _unit(axes, "probability given", "share that was right")

    return _square(draw, alt)


def training_chart(
    epochs: Array, lines: Sequence[tuple[Array, int]], best: float | None, label: str, alt: str, unit: bool
) -> str:
    """Return lines over epochs with the best epoch marked.

    Args:
        epochs: (E,) epoch numbers.
        lines: Pairs of (E,) values (NaN where there is none) and the number of the series colour.
        best: Epoch to mark.
        label: Name of the vertical axis.
        alt: Text for those who do not see the chart.
        unit: The values lie in [0, 1].
    """

    def draw(axes: Any) -> None:
        for values, series in lines:
            marker = "o" if len(epochs) < 3 else None
            axes.plot(epochs, values, color=SERIES[series], linestyle=DASHES[series], marker=marker, markersize=4)
        if best is not None:
            axes.axvline(best, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if unit:
            axes.set_ylim(top=1.0)

    return _svg(draw, (4.3, 3.0), alt)


def _curves(axes: Any, curves: Sequence[Curve | None]) -> None:
    for k, curve in enumerate(curves):
        if curve is not None:
            axes.plot(curve.x, curve.y, color=SERIES[k % 8], linestyle=DASHES[k % 8])


def _unit(axes: Any, across: str, up: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=across, ylabel=up, aspect="equal")


def _square(draw: Any, alt: str) -> str:
    return _svg(draw, (3.7, 3.6), alt)


def _svg(draw: Any, size: tuple[float, float], alt: str) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        for artist in figure.findobj(include_self=False):
            artist.set_clip_on(False)
        figure.patch.set_visible(False)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        stream = io.StringIO()
        canvas.print_svg(  # type: ignore[no-untyped-call]
            stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _for_page(stream.getvalue(), alt)


def _for_page(svg: str, alt: str) -> str:
    """Strip what only a stand-alone SVG needs (addresses of name spaces among it) and put the page's colours in.

    The text of a chart is ours alone: names of classes stand in the page's legend, so none is marked as safe here.
    """
    from markupsafe import Markup, escape

    view = re.search(r'viewBox="([\d. -]+)"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' id="(?!m[0-9a-f]{8,})[^"]*"', "", body).replace("xlink:href", "href")
    body = re.sub(r" ?font-family: [^;\"]*;", "", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    box = view.group(1) if view else "0 0 300 300"
    return Markup(f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">{body.strip()}')
