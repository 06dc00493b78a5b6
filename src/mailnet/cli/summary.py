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
    return tables + _absent_tables(evaluation) + _reliability_tables(evaluation)


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


def _reliability_tables(evaluation: Mapping[str, Any]) -> list[Rows]:
    found = evaluation.get("reliability") or {}
    tables: list[Rows] = []
    if calibration := found.get("calibration"):
        rows = [
            [task, one["method"], ", ".join(f"{value:.3g}" for value in one["temperature"]) or "-",
             *(cell(one[when].get(key)) for key in ("ece", "brier") for when in ("before", "after"))]
            for task, one in calibration.items()
        ]  # fmt: skip
        columns = ["", "method", "temperature", "ECE before", "after", "Brier before", "after"]
        tables.append((f"Calibration ({evaluation['split']} studies)", columns, rows))
    if sets := found.get("sets"):
        rows = [
            [task, f"{one['alpha']:g}", one["score"], f"{1 - one['alpha']:g}",
             f"{one['measured']['overall']['coverage']:.3f}", f"{one['measured']['overall']['size']:.2f}",
             f"{one['measured']['overall']['single']:.1%}"]
            for task, several in sets.items()
            for one in several
        ]  # fmt: skip
        columns = ["", "alpha", "score", "promised", "coverage", "answers in a set", "single answers"]
        tables.append((f"Prediction sets ({evaluation['split']} studies)", columns, rows))
    tables += _uncertainty_tables(evaluation)
    if foreign := evaluation.get("foreign"):
        rows = [
            [name, str(one["studies"]), str(one["alarms"]), *(_chance(one[key]) for key in ("share", "stated"))]
            for name, one in {"any modality": foreign["study"], **foreign["modalities"]}.items()
        ]
        columns = ["", "studies", "called foreign", "share", "stated"]
        tables.append((f"Foreign studies ({evaluation['split']} studies)", columns, rows))
    for column, of in evaluation.get("gaps", {}).items():
        rows = [
            [task, SHOWN[name], _gap(gap), gap["lowest"] or "-", gap["highest"] or "-", _chance(gap["chance"]),
             _chance(gap.get("corrected")), str(gap["smallest"])]
            for task, metrics in of.items()
            for name, gap in metrics.items()
        ]  # fmt: skip
        columns = ["", "metric", "gap", "lowest", "highest", "chance", "of all", "patients in the smallest"]
        tables.append((f"Gaps by {column}", columns, rows))
    return tables


def _uncertainty_tables(evaluation: Mapping[str, Any]) -> list[Rows]:
    found = evaluation.get("uncertainty")
    if not found:
        return []
    how = f"uncertainty by {found['draws']} {'members' if found['source'] == 'members' else 'draws'}"
    return [
        (
            f"{task}, {how} ({of['wrong']} of {of['studies']} answers wrong)",
            ["", "mean", "AUROC of wrong answers", "AURC"],
            [
                [name, cell(of["parts"].get(name)), cell(area), "-" if of["aurc"][name] is None
                 else f"{of['aurc'][name]:.3f}"]
                for name, area in of["auroc"].items()
            ],
        )
        for task, of in found["tasks"].items()
    ]  # fmt: skip


def reliability_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """Return what sets and thresholds promise, and what keeps them from it, a sentence a line."""
    found = evaluation.get("reliability") or {}
    lines = []
    for task, several in found.get("sets", {}).items():
        for one in several:
            lines += [f"{task}: {one['promise']}.", *(f"{task}: {note}." for note in one["notes"])]
    for task, one in found.get("abstention", {}).items():
        measured = one["measured"]
        reached = ""
        if one["threshold"] is not None and measured["wrong"] is not None:
            reached = f" Here {measured['coverage']:.1%} are answered, {measured['wrong']:.1%} of them wrongly."
        lines.append(f"{task}: {one['promise']}.{reached}")
    for task, one in found.get("calibration", {}).items():
        if one["reason"]:
            lines.append(f"{task}: not calibrated: {one['reason']}.")
    for name, one in (evaluation.get("foreign") or {"modalities": {}})["modalities"].items():
        if one["reason"]:
            lines.append(f"{name}: can hardly be called foreign: {one['reason']}.")
    return lines


def _gap(gap: Mapping[str, Any]) -> str:
    return cell({key: gap[key] for key in ("value", "low", "high")})


def _chance(chance: float | None) -> str:
    return "-" if chance is None else f"{chance:.3f}"
