"""Sections of a card on what was measured on the test studies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mailnet.bundle.card.facts import Facts
from mailnet.bundle.card.front import METRICS
from mailnet.bundle.card.text import interval, number, percent, plain, table, value_of

MEASURES = (("sensitivity", "Sensitivity"), ("specificity", "Specificity"), ("precision", "Precision"),
            ("auroc", "AUROC"))  # fmt: skip
FEW = 30  # labelled studies below which a subgroup supports no conclusion
LEAST = 5  # below these a number may be that of a patient, and a card travels further than a report


def results(facts: Facts) -> list[str]:
    """Return the results of every task, with each modality alone and left out, and by subgroup."""
    found = facts.evaluation
    if found is None:
        why = (
            "The test studies were measured before the model was trained, or calibrated, as it is now. "
            if facts.outdated
            else "The model has not been measured on its test studies. "
        )
        return ["## Results", "", f"{why}`mailnet evaluate RUN` measures it.", ""]
    draws = found.get("settings", {}).get("bootstrap", 0)
    patients = found.get("data", {}).get("groups")
    of = "" if patients is None else f" of {patients:,} patients"
    how = f" Intervals are 95% bootstrap intervals from {draws:,} redraws of patients." if draws else ""
    noise = found.get("model", {}).get("noise")
    drawn = f" Noise of the network: {noise['mode']}, {noise['draws']} draws." if noise else ""
    lines = ["## Results", "", f"On {found['n']:,} test studies{of}, none of which training has used.{how}{drawn}", ""]
    if draws and any(value_of(one["metrics"].get("ece")) is not None for one in found["tasks"].values()):
        lines[-1:] = [
            "Of calibration errors (ECE) an interval may lie above the value, since redraws bias it upwards.",
            "",
        ]
    for task, one in found["tasks"].items():
        lines += [f"### {plain(task)}", "", *_task(one)]
    return [*lines, *_modalities(found), *_subgroups(found), *_gaps(found)]


def headline(kind: str) -> str:
    """Return the metric by which a task is compared: multilabel accuracy flatters, so there it is the macro AUROC."""
    return "macro_auroc" if kind == "multilabel" else "balanced_accuracy"


def _task(one: Mapping[str, Any]) -> Iterator[str]:
    yield f"{one['n']:,} labelled studies."
    yield ""
    rows = [
        [label, number(one["metrics"][key]), interval(one["metrics"][key])]
        for key, (_, label) in METRICS.items()
        if value_of(one["metrics"].get(key)) is not None
    ]
    yield from table(["Measure", "Value", "95% interval"], rows)
    columns = [
        (key, label) for key, label in MEASURES if any(value_of(of.get(key)) for of in one["per_class"].values())
    ]
    classes = [
        [plain(name), f"{of['n']:,}", *(_with_interval(of.get(key)) for key, _ in columns)]
        for name, of in one["per_class"].items()
    ]
    yield from table(["Class", "n", *(label for _, label in columns)], classes)


def _with_interval(raw: Any) -> str:
    return number(raw) if interval(raw) == "-" else f"{number(raw)} ({interval(raw)})"


def _modalities(found: Mapping[str, Any]) -> Iterator[str]:
    several = found.get("modalities", {})
    rows = []
    for group, words in (("only", "{} alone"), ("without", "without {}")):
        for name, tasks in several.get(group, {}).items():
            rows += [
                [f"{plain(task)}: {words.format(plain(name))}", *_line(of, found["tasks"][task]["kind"])]
                for task, of in tasks.items()
            ]
    if not rows:
        return
    yield from ("### Each modality alone and left out", "")
    if several.get("by_nature"):
        yield "Every study has one modality, so these are its plain results."
    else:
        yield "The same network on the same studies, with modalities hidden from it; n are those that have it."
    yield ""
    rows += [[f"{plain(task)}: all modalities", *_line(of, of["kind"])] for task, of in found["tasks"].items()]
    yield from table(["Given", "n", "Measure", "Value", "95% interval"], rows)


def _line(of: Mapping[str, Any], kind: str) -> list[str]:
    key = headline(kind)
    raw = of["metrics"].get(key)
    return [f"{of['n']:,}", METRICS[key][1], number(raw), interval(raw)]


def _subgroups(found: Mapping[str, Any]) -> Iterator[str]:
    for column, values in found.get("subgroups", {}).items():
        rows, hidden = [], set()
        for task in found["tasks"]:
            for value, of in values.items():
                if task in of and of[task]["n"] < LEAST:
                    hidden.add(value)
                elif task in of:
                    few = " (few studies)" if of[task]["n"] < FEW else ""
                    kind = found["tasks"][task]["kind"]
                    rows.append([f"{plain(task)}: {plain(value)}{few}", *_line(of[task], kind)])
        if rows:
            yield from (f"### By {plain(column)}", "")
            yield from table(["Subgroup", "n", "Measure", "Value", "95% interval"], rows)
            if hidden:
                yield from (f"Subgroups of fewer than {LEAST} labelled studies are not shown ({len(hidden)}).", "")


def _gaps(found: Mapping[str, Any]) -> Iterator[str]:
    for column, tasks in found.get("gaps", {}).items():
        rows: list[list[str]] = []
        left_out: dict[str, str] = {}
        for task, metrics in tasks.items():
            for key, gap in metrics.items():
                rows.append([f"{plain(task)}: {METRICS[key][1]}", number(gap), interval(gap),
                             plain(gap["lowest"] or "-"), plain(gap["highest"] or "-"), percent(gap["chance"]),
                             percent(gap.get("corrected")), f"{gap['smallest']:,}"])  # fmt: skip
                left_out |= gap["left_out"]
        if not rows:
            continue
        yield from (f"### Gaps by {plain(column)}", "")
        yield "Highest less lowest subgroup; chance is how often patients dealt at random would lie as far apart,"
        yield "“of all” the same corrected for all gaps that were looked at (Holm)."
        yield ""
        yield from table(
            ["Measure", "Gap", "95% interval", "Lowest", "Highest", "Chance", "Of all", "Patients in the smallest"],
            rows,
        )
        if left_out:
            yield "Not judged: " + ", ".join(f"{plain(name)} ({plain(why)})" for name, why in left_out.items()) + "."
            yield ""
