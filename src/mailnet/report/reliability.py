"""Calibration, prediction sets, abstention, foreign studies and gaps, as a section of a run's report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mailnet.report import words
from mailnet.report.check import template
from mailnet.report.panels import DASHES, Axis, Line, panel

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT = 430, 290
LEAST = 5  # tested studies of a subgroup below which a number may be that of a patient, as in the model card
MEASURES = (("ece", "ECE"), ("adaptive_ece", "Adaptive ECE"), ("brier", "Brier score"), ("nll", "Log loss"))


def render_reliability(evaluation: Mapping[str, Any]) -> Markup | None:
    """Return the section as HTML; None where the evaluation, of an older mailnet, has nothing of it.

    Args:
        evaluation: Contents of ``evaluation.json``.
    """
    from markupsafe import Markup

    curves = {task: curve for task, curve in evaluation.get("selective", {}).items() if curve is not None}
    if not curves:
        return None
    found = evaluation.get("reliability") or {"split": "", "calibration": {}, "sets": {}, "abstention": {}}
    view = {
        "fitted": found,
        "measures": MEASURES,
        "sets": {task: [_sets(one) for one in several] for task, several in found["sets"].items()},
        "chart": _chart(curves, found["abstention"]),
        "curves": curves,
        "dashes": DASHES,
        "uncertainty": evaluation.get("uncertainty"),
        "least": LEAST,
        "gaps": evaluation.get("gaps", {}),
        "corrected": _corrected(evaluation.get("gaps", {})),
        "foreign": _foreign(evaluation.get("foreign")),
        "label": words.BY_KEY,
        "number": words.number,
        "count": words.count,
        "interval": lambda raw, percent: words.interval(words.estimate(raw), percent=percent),
    }
    return Markup(template("reliability.html").render(view))


def _sets(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return one alpha's sets: a row for all studies, each label, class, and subgroup."""
    measured, every, by_class = one["measured"], one["divisions"]["all"], one["divisions"]["class"]
    rows = [{"name": "all", "here": measured["overall"], "every": every["overall"], "by_class": by_class["overall"]}]
    for key, title in (("labels", "{}"), ("classes", "{}")):
        rows += [
            {"name": title.format(name), "here": cell, "every": every[key].get(name),
             "by_class": by_class[key].get(name)}
            for name, cell in measured[key].items()
        ]  # fmt: skip
    hidden = 0
    for column, values in measured["subgroups"].items():
        hidden += sum(0 < cell["tested"] < LEAST for cell in values.values())
        rows += [
            {"name": f"{column}: {name or 'no value'}", "here": cell, "by_class": None,
             "every": every["subgroups"].get(column, {}).get(name)}
            for name, cell in values.items()
            if cell["tested"] >= LEAST
        ]  # fmt: skip
    return {**one, "rows": rows, "hidden": hidden, "promised": 1 - one["alpha"]}


def _corrected(gaps: Mapping[str, Any]) -> int:
    """Return of how many gaps together chances were corrected; 0 in the evaluation of an older mailnet."""
    every = [gap for tasks in gaps.values() for metrics in tasks.values() for gap in metrics.values()]
    return sum(gap.get("corrected") is not None for gap in every)


def _foreign(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    paired = [name for name, one in found["modalities"].items() if one["kinds"] == ["pair"]]
    return {**found, "paired": paired}


def _chart(curves: Mapping[str, Any], abstentions: Mapping[str, Any]) -> Markup:
    # Of the few surest studies one more or less decides, which is not worth the height.
    worst = max(curve["risk"][-1] for curve in curves.values())
    top = min(math.ceil(10 * max(1.1 * worst, 0.05)) / 10, 1.0)
    lines = [
        Line([(at, min(risk, top)) for at, risk in zip(curve["coverage"], curve["risk"], strict=True)], k,
             abstentions[task]["risk"] if task in abstentions and abstentions[task]["risk"] <= top else None)
        for k, (task, curve) in enumerate(curves.items())
    ]  # fmt: skip
    x = Axis(0, 1, [(at, f"{100 * at:.0f}%") for at in (0, 0.25, 0.5, 0.75, 1)], "share of studies answered")
    y = Axis(0, top, [(at, f"{100 * at:.0f}%") for at in (0, top / 2, top)], "share of these that is wrong")
    alt = "Share of wrong answers against the share of studies answered, the surest first"
    return panel(lines, x, y, width=WIDTH, height=HEIGHT, alt=alt)
