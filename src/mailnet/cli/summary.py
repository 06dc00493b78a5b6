"""The main numbers of an evaluation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rows = tuple[str, list[str], list[list[str]]]
SHOWN = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_auroc": "AUROC",
    "ece": "ECE",
}


def summary_tables(evaluation: Mapping[str, Any]) -> list[Rows]:
    """Return title, columns and rows of each table: one a task, one row a choice of modalities."""
    tables: list[Rows] = []
    # In the unpaired regime every study has one modality: "alone" would say the same again.
    modalities = {} if evaluation["modalities"]["by_nature"] else evaluation["modalities"]
    for task, found in evaluation["tasks"].items():
        rows = [["all modalities", *_row(found)]]
        for label, group in (("{} alone", "only"), ("without {}", "without")):
            rows += [
                [label.format(name), *_row(measured[task])]
                for name, measured in modalities.get(group, {}).items()
                if task in measured
            ]
        tables.append((f"{task} ({evaluation['split']} studies)", ["", "n", *SHOWN.values()], rows))
    return tables + _absent_tables(evaluation)


def _absent_tables(evaluation: Mapping[str, Any]) -> list[Rows]:
    if "absent" not in evaluation:
        return []
    names = evaluation["absent"]["modalities"]
    return [
        (
            f"{task}, absent modalities (each row: the studies that have at least these, the others hidden)",
            [*names, "n", *SHOWN.values()],
            [
                [*("yes" if name in row["present"] else "-" for name in names), *_row(row["tasks"][task])]
                for row in evaluation["absent"]["combinations"]
                if task in row["tasks"]
            ],
        )
        for task in evaluation["tasks"]
    ]


def _row(found: Mapping[str, Any]) -> list[str]:
    return [str(found["n"]), *(cell(found["metrics"].get(key)) for key in SHOWN)]


def cell(estimate: Mapping[str, Any] | None) -> str:
    """Return a value with its interval as text, a hyphen where there is none."""
    if not estimate or estimate.get("value") is None:
        return "-"
    text = f"{estimate['value']:.3f}"
    if estimate.get("low") is None or estimate.get("high") is None:
        return text
    return f"{text} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
