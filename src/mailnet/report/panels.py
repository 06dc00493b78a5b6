"""Small line charts as inline SVG, drawn by hand: many of them stand beside one another in one section."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

# SVG dash patterns beside the colours, as the page's legend has them.
DASHES = ("none", "6 3", "2 3", "7 2.5 2 2.5", "11 4", "3.5 2.5", "8 2 2 2 2 2", "2 4")
LEFT, TOP, RIGHT, BOTTOM = 34, 8, 8, 18
TITLE = 14  # height of an axis' name


@dataclass(frozen=True)
class Line:
    """A line with what is known of its uncertainty.

    Args:
        points: (x, y), or (x, y, low, high) with an interval, from left to right.
        series: Number of its colour and dashes, from 0.
        level: A height that is marked by a thin dashed line in its colour.
    """

    points: Sequence[tuple[float, ...]]
    series: int = 0
    level: float | None = None


@dataclass(frozen=True)
class Axis:
    """One axis: its ends, what is written where, and its name."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    name: str = ""


def share_axis(values: Sequence[float], name: str = "") -> Axis:
    """Return an axis of shares from the tenth below the lowest value to 100%.

    >>> share_axis([0.57, 0.9]).ticks
    ((0.5, '50%'), (0.75, '75%'), (1.0, '100%'))
    """
    low = min(max(math.floor(min(values, default=0.0) * 10) / 10, 0.0), 0.9)
    return Axis(low, 1.0, tuple((at, f"{100 * at:.0f}%") for at in (low, (low + 1) / 2, 1.0)), name)


def panel(lines: Sequence[Line], x: Axis, y: Axis, *, width: int, height: int, alt: str) -> Markup:
    """Return a chart.

    Args:
        lines: What is drawn.
        x: The horizontal axis.
        y: The vertical axis.
        width: In pixels.
        height: In pixels.
        alt: Text for those who do not see the chart.
    """
    from markupsafe import Markup, escape

    bottom = height - BOTTOM - (TITLE if x.name else 0)
    top = TOP + (TITLE if y.name else 0)

    def place(at: float, value: float) -> str:
        across = LEFT + (at - x.low) / (x.high - x.low) * (width - LEFT - RIGHT)
        value = min(max(value, y.low), y.high)
        return f"{across:.1f},{bottom - (value - y.low) / (y.high - y.low) * (bottom - top):.1f}"

    def text(at: str, words: str, anchor: str, down: int, left: int = 0) -> str:
        across, height = at.split(",")
        return (
            f'<text x="{float(across) - left:.1f}" y="{float(height) + down:.1f}" text-anchor="{anchor}" '
            f'font-size="10" fill="var(--muted)">{escape(words)}</text>'
        )

    parts = []
    for value, words in y.ticks:
        parts.append(f'<path d="M{place(x.low, value)}L{place(x.high, value)}" stroke="var(--line)"/>')
        parts.append(text(place(x.low, value), words, "end", 3, 4))
    parts += [text(place(at, y.low), words, "middle", 13) for at, words in x.ticks]
    if x.name:
        parts.append(text(place((x.low + x.high) / 2, y.low), x.name, "middle", 13 + TITLE))
    if y.name:
        parts.append(text(f"2,{TITLE - 4}", y.name, "start", 0))
    for line in lines:
        colour = f"var(--c{line.series % 8 + 1})"
        banded = [point for point in line.points if len(point) == 4]
        if len(banded) > 1:
            around = [place(p[0], p[3]) for p in banded] + [place(p[0], p[2]) for p in reversed(banded)]
            parts.append(f'<path d="M{"L".join(around)}Z" fill="{colour}" fill-opacity="0.15"/>')
        if line.level is not None:
            ends = f"M{place(x.low, line.level)}L{place(x.high, line.level)}"
            parts.append(
                f'<path d="{ends}" fill="none" stroke="{colour}" stroke-dasharray="2 2" stroke-opacity="0.8"/>'
            )
        path = "L".join(place(p[0], p[1]) for p in line.points)
        dashes = DASHES[line.series % 8]
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dashes}"/>'
        )
    # Everything but the escaped words is ours and numbers.
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">{"".join(parts)}</svg>')
