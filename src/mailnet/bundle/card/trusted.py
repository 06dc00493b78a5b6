"""Sections of a card on how far its answers can be trusted: calibration, sets of answers, abstention, explanations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mailnet.bundle.card.facts import Facts
from mailnet.bundle.card.foreign import foreign
from mailnet.bundle.card.text import interval, number, percent, plain, table

MEASURES = (("ece", "ECE"), ("adaptive_ece", "Adaptive ECE"), ("brier", "Brier score"), ("nll", "Log loss"))


def reliability(facts: Facts) -> list[str]:
    """Return what was fitted on validation studies, and what it comes to on the test studies; empty without either."""
    measured = (facts.evaluation or {}).get("reliability") or {}
    lines = [*_calibration(facts, measured), *_sets(facts, measured), *_abstention(facts, measured)]
    curves = {task: one for task, one in (facts.evaluation or {}).get("selective", {}).items() if one}
    if curves:
        lines += ["### If it answered only where it is sure", ""]
        lines += ["Area under the curve of wrong answers against the share answered, the surest first (AURC), and how"]
        lines += ["far it lies above that of the best possible order; lower is better.", ""]
        rows = [[plain(task), number(one["aurc"]), number(one["excess"])] for task, one in curves.items()]
        lines += table(["Task", "AURC", "Above the best order"], rows)
    lines += [*_uncertainty(facts), *foreign(facts)]
    if not lines:
        return []
    split = {"val": "validation"}.get(facts.fitted.get("split", "val"), plain(facts.fitted.get("split")))
    head = f"What is fitted is fitted on {split} studies, which also chose the epoch, and measured on the test studies."
    return ["## Reliability", "", *([head, ""] if facts.fitted else []), *lines]


def _calibration(facts: Facts, measured: Mapping[str, Any]) -> Iterator[str]:
    fitted = facts.fitted.get("calibrators", {})
    if not fitted:
        return
    yield from ("### Calibration", "")
    for task, one in fitted.items():
        temperatures = [1 / value for value in one["scale"]] if one["method"] == "temperature" else []
        of = f" {', '.join(f'{value:.3f}' for value in temperatures)}" if temperatures else ""
        why = f": {plain(one['reason'])}" if one["reason"] else ""
        yield f"* {plain(task)}: {plain(one['method'])}{of}, fitted on {one['studies']:,} studies{why}."
    yield ""
    rows = [
        [f"{plain(task)}: {label}", number(one["before"][key]), interval(one["before"][key]),
         number(one["after"].get(key)), interval(one["after"].get(key))]
        for task, one in measured.get("calibration", {}).items()
        for key, label in MEASURES if one["before"].get(key) is not None
    ]  # fmt: skip
    if rows:
        yield from table(["Measure", "Before", "95% interval", "After", "95% interval"], rows)


def _sets(facts: Facts, measured: Mapping[str, Any]) -> Iterator[str]:
    if not any(facts.fitted.get("sets", {}).values()):
        return
    yield from ("### Sets of answers", "")
    known = {(task, *_kind(one)): one for task, several in measured.get("sets", {}).items() for one in several}
    rows, missing = [], False
    for task, several in facts.fitted["sets"].items():
        for one in several:
            found = known.get((task, *_kind(one)))
            missing |= found is None
            whole = {} if found is None else found["measured"]["overall"]
            each = ", a threshold a class" if one["by"] == "class" else ""
            found_here = (percent(whole.get("coverage")), number(whole.get("size")), percent(whole.get("single")))
            name = f"{plain(task)} ({plain(one['score'].upper())}{each})"
            rows.append([name, percent(1 - one["alpha"]), *found_here])
    yield "The promise is of patients like those of validation, on average over them, not of each class or subgroup."
    yield ""
    if missing:
        yield from ("Sets without a coverage were not measured on the test studies since they were fitted.", "")
    yield from table(["Task", "Promised", "Coverage", "Answers in a set", "Single answers"], rows)


def _kind(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["alpha"], one["score"], one["by"]


def _abstention(facts: Facts, measured: Mapping[str, Any]) -> Iterator[str]:
    fitted = facts.fitted.get("abstentions", {})
    if not fitted:
        return
    yield from ("### Abstention", "")
    for task, one in fitted.items():
        found = measured.get("abstention", {}).get(task)
        if one["threshold"] is None:
            yield f"* {plain(task)}: no threshold keeps a risk of {percent(one['risk'])}: {plain(one['reason'])}."
            continue
        # No confidence is below 0: a threshold that is lets every study through.
        when = (
            "always answers"
            if one["threshold"] < 0
            else f"answers where its confidence is above {one['threshold']:.3f}"
        )
        text = f"* {plain(task)}: {when}, for a risk of {percent(one['risk'])}"
        if found and found["measured"]["wrong"] is not None:
            text += (
                f". {plain(found['promise'], 400)}. Of the test studies {percent(found['measured']['coverage'])} are "
            )
            text += f"answered, {percent(found['measured']['wrong'])} of these wrongly"
        elif not found:
            text += "; not measured on the test studies since it was chosen"
        yield f"{text}."
    yield ""


def _uncertainty(facts: Facts) -> list[str]:
    found = (facts.evaluation or {}).get("uncertainty")
    if not found:
        return []
    rows = [
        [f"{plain(task)}: {plain(name.replace('_', ' '))}", number(raw), interval(raw)]
        for task, one in found["tasks"].items()
        for name, raw in one["auroc"].items()
    ]
    return [
        "### Uncertainty",
        "",
        f"From {found['draws']:,} predictions of each study ({plain(found['source'])}): the chance that a wrong answer "
        "has more of it than a right one (AUROC; 0.5 is guessing).",
        "",
        *table(["Measure", "AUROC", "95% interval"], rows),
    ]


def explanations(facts: Facts) -> list[str]:
    """Return by which method the model was explained; empty where it was not."""
    found = facts.explained
    if found is None or not found["entries"]:
        return []
    studies = len({one["row"] for one in found["entries"]})
    return [
        "## Explanations",
        "",
        f"Heat maps by {plain(found['method'].replace('_', ' '))} and the worth of each modality (Shapley values) of "
        f"{studies:,} {'study' if studies == 1 else 'studies'} are in the run's report. A heat map shows what the "
        "network used, not what is true, and may be wrong about that too.",
        "",
    ]
