"""Every combination of modalities present and absent, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mailnet.report.results import SMALL_GROUP, TaskResult
from mailnet.report.words import Estimate, Metric, estimate, listing


@dataclass(frozen=True)
class Combination:
    """One row: which modalities are there, and the headline metric where they are.

    Args:
        present: One a modality.
        n: Labelled studies that have at least these.
        value: On these studies; None where there are none.
        same: On the studies that have every modality.
        small: Whether n is too small for a conclusion.
        heat: From 0, the lowest value of the table, to 1, the highest; None without a value.
        same_heat: Likewise of ``same``.
    """

    present: list[bool]
    n: int
    value: Estimate | None
    same: Estimate | None
    small: bool
    heat: float | None
    same_heat: float | None


@dataclass(frozen=True)
class AbsentTable:
    """The table of one task."""

    task: str
    metric: Metric
    rows: list[Combination]


@dataclass(frozen=True)
class AbsentView:
    """The section: what occurs in the data, and a table a task."""

    modalities: list[str]
    sentence: str
    tables: list[AbsentTable]


def read_absent(evaluation: Mapping[str, Any], results: Sequence[TaskResult]) -> AbsentView | None:
    """Return what ``evaluate --absent`` measured, None where it was not asked."""
    absent = evaluation.get("absent")
    if absent is None:
        return None
    occurring = [f"{row['n']:,} with {listing(row['present'])}" for row in absent["occurring"]]
    sentence = f"Of the tested studies there are {'; '.join(occurring)}."
    if not absent["whole"]:
        sentence += " With so many modalities only all together, each left out and each alone were tried."
    tables = [AbsentTable(result.name, result.headline, _rows(absent, result)) for result in results]
    return AbsentView(list(absent["modalities"]), sentence, tables)


def _rows(absent: Mapping[str, Any], result: TaskResult) -> list[Combination]:
    found = []
    for row in absent["combinations"]:
        own, same = row["tasks"].get(result.name), row["same_studies"].get(result.name)
        found.append((row["present"], own, _value(own, result.headline), _value(same, result.headline)))
    values = [value.value for _, _, *pair in found for value in pair if value is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return [
        Combination(
            present=[name in present for name in absent["modalities"]],
            n=0 if own is None else int(own["n"]),
            value=value,
            same=same,
            small=own is None or int(own["n"]) < SMALL_GROUP,
            heat=_heat(value, low, high),
            same_heat=_heat(same, low, high),
        )
        for present, own, value, same in found
    ]


def _value(found: Mapping[str, Any] | None, metric: Metric) -> Estimate | None:
    return None if found is None else estimate(found["metrics"].get(metric.key))


def _heat(value: Estimate | None, low: float, high: float) -> float | None:
    if value is None:
        return None
    return (value.value - low) / (high - low) if high > low else 1.0
