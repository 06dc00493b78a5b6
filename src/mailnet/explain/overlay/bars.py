"""Columns of a table and whole modalities as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mailnet.explain.explanation import Explanation
from mailnet.explain.overlay.colours import AGAINST, FOR
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec

MOST = 12  # columns of a table that get a bar of their own
LONGEST = 26  # characters of a name


def find_bars(
    batch: Batch,
    explanation: Explanation,
    row: int,
    modalities: Mapping[str, ModalitySpec],
    columns: Mapping[str, Sequence[str]],
    shares: Mapping[str, float] | None,
) -> list[tuple[str, dict[str, float]]]:
    """Return heading and bars of every chart, the longest bars first; a chart without bars is of an absent table.

    Args:
        batch: The studies.
        explanation: Of them.
        row: Which of them.
        modalities: Of the network; of these, tables have a chart each.
        columns: Table -> names of its features.
        shares: Modality -> what it is worth, in a chart of its own.
    """
    charts: list[tuple[str, dict[str, float]]] = []
    for name, spec in modalities.items():
        if spec.kind != "tabular":
            continue
        if name not in batch.inputs or not bool(batch.present[name][row]):
            charts.append((f"{name}: absent", {}))
            continue
        if name not in explanation.columns:
            charts.append((f"{name}: not explained", {}))
            continue
        values = explanation.columns[name][row].detach().cpu().tolist()
        names = columns.get(name) or [f"column {k + 1}" for k in range(len(values))]
        charts.append((name, _longest(dict(zip(names, values, strict=True)))))
    if shares is not None:
        charts.append(("modalities", dict(shares)))
    return charts


def draw_bars(axes: Any, heading: str, values: Mapping[str, float], unit: str, rows: int) -> None:
    """Draw horizontal bars from zero, in the colours of the signed scale; as thick as if there were ``rows``."""
    axes.set_title(heading)
    if not values:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    names = [_shortened(name) for name in values]
    places = np.arange(len(values))[::-1]
    sizes = np.array(list(values.values()))
    axes.barh(places, sizes, color=[FOR if size >= 0 else AGAINST for size in sizes], height=0.7)
    axes.set_yticks(places, names)
    axes.set_ylim(len(values) - rows - 0.6, len(values) - 0.4)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(axis="both", labelsize=8, length=2)
    axes.locator_params(axis="x", nbins=4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _longest(values: dict[str, float]) -> dict[str, float]:
    order = sorted(values, key=lambda name: -abs(values[name]))
    if len(order) <= MOST:
        return {name: values[name] for name in order}
    rest = order[MOST - 1 :]
    kept = {name: values[name] for name in order[: MOST - 1]}
    return kept | {f"{len(rest)} others": sum(values[name] for name in rest)}


def _shortened(name: str) -> str:
    # Names of one table often begin alike, so their ends are kept too.
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST // 2]}…{name[-(LONGEST - LONGEST // 2 - 1) :]}"
