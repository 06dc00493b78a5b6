"""Columns of the tables that tell the label by themselves, by their values or by where they are empty."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mailnet.data.check.findings import Finding, Number
from mailnet.data.check.predictor import DISTINCT, Score, binned, chance, score
from mailnet.data.columns import distinct
from mailnet.data.values import ABSENT

Role = Literal["input", "subgroup", "unused"]

# What a column must reach to be reported, as an AUROC on patients left out. Set on public data: 0.95 is passed by
# copies of the label and not by a patient's history or a reader's description of a lesion (0.89 at most); results of
# readers and tests made for the diagnosis lie at 0.67 to 1, but are known by their names.
ALONE = 0.95
KNOWN_LATER = 0.6
NOTABLE = 0.8
MISSING = 0.65
ACQUISITION = (0.6, 0.7)
COPY = 0.999

LATER = re.compile(
    r"diagnos|patholog|histolog|histo_|biops|rads|verif|interpret|impression|conclusion|(?<![a-z])dx(?![a-z])|finding|"
    r"outcome|surviv|death|deceased|treat|therap|surger|(?<![a-z])icd|malignan|report|prognos|ground.?truth|label",
    re.IGNORECASE,
)
MACHINE = re.compile(
    r"device|scanner|manufactur|vendor|camera|site(?![a-z])|hospital|institut|cent(er|re)(?![a-z])|source|(?<![a-z])src|"
    r"orig.*(size|width|height|_w|_h)(?![a-z])|resolution|pixel.?(size|spacing)|format|model|batch|fold(er)?(?![a-z])",
    re.IGNORECASE,
)
# Where nearly every value is its own, a value says nothing of the next patient.
OWN = 0.5


@dataclass(frozen=True)
class Labels:
    """The labels of a task among the training rows.

    Args:
        task: Name.
        classes: Names of the classes.
        rows: (n,) positions of the labelled training rows.
        values: (n,) int, their labels.
        groups: (n,) int, their patients.
    """

    task: str
    classes: tuple[str, ...]
    rows: np.ndarray
    values: np.ndarray
    groups: np.ndarray

    def score(self, codes: np.ndarray, known: np.ndarray) -> Score | None:
        """Return how well the codes of the known rows tell the label."""
        if known.sum() < 2:
            return None
        return score(codes[known], self.values[known], self.groups[known], len(self.classes))


def judge_columns(columns: dict[str, tuple[Role, pd.Series]], tasks: list[Labels]) -> tuple[list[Finding], list[str]]:
    """Return what columns give away, and the columns of text that could not be tried.

    Args:
        columns: Name -> what the study uses it for, and its cells of all rows, as text.
        tasks: Labels that the columns must not tell.
    """
    least = chance(2 * len(columns) * max(len(tasks), 1))
    findings: list[Finding] = []
    unjudged: list[str] = []
    holes: dict[tuple[str, bytes], list[tuple[str, Role, Score]]] = defaultdict(list)
    for name, (role, cells) in columns.items():
        codes, values = distinct(cells)
        values = [*values, ""]
        absent = np.array([str(value).lower() in ABSENT for value in values], dtype=bool)
        empty = absent[codes]
        coded = _coded(codes, values, empty)
        if coded is None:
            unjudged.append(name)
            if role != "unused":
                findings.append(_free_text(name, int((~absent).sum()), int((~empty).sum())))
        for labels in tasks:
            here = empty[labels.rows]
            if coded is not None and (found := labels.score(coded[labels.rows], ~here)):
                findings.extend(_judged(name, role, found, labels, least))
            if here.any() and not here.all():
                found = labels.score(here.astype(np.int64), np.ones(len(here), bool))
                if found and found.z > least and found.auroc >= MISSING:
                    holes[labels.task, np.packbits(here).tobytes()].append((name, role, found))
    by_task = {labels.task: labels for labels in tasks}
    findings += [_missing(by_task[task], several, holes_of) for (task, holes_of), several in holes.items()]
    return findings, unjudged


def _coded(codes: np.ndarray, values: list[Any], empty: np.ndarray) -> np.ndarray | None:
    """Return values as small numbers, those of a numeric column in bins; None for free text."""
    filled = int((~empty).sum())
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    numeric = np.isfinite(numbers[codes[~empty]]).mean() > 0.95 if filled else False
    if numeric and len(values) > DISTINCT:
        cells = numbers[codes]
        bins = np.zeros(len(codes), np.int64)
        known = np.isfinite(cells)
        bins[known] = binned(cells[known]) + 1
        return bins
    if len(values) > DISTINCT and len(values) > OWN * filled:
        return None
    return np.where(codes < 0, len(values) - 1, codes).astype(np.int64)


def _judged(name: str, role: Role, found: Score, labels: Labels, least: float) -> Iterator[Finding]:
    later, machine = bool(LATER.search(name)), bool(MACHINE.search(name))
    # A column under suspicion by its name is not one of many that were tried.
    if found.z <= (chance(1) if later else least):
        return
    grave = KNOWN_LATER if later else ACQUISITION[1] if machine else ALONE
    notable = KNOWN_LATER if later else ACQUISITION[0] if machine else NOTABLE
    numbers: dict[str, Number] = {
        "auroc": round(found.auroc, 3),
        "class": labels.classes[found.label],
        "balanced_accuracy": round(found.balanced_accuracy, 3),
        "n": found.n,
        "role": role,
    }
    told = f"tells '{labels.classes[found.label]}' with an AUROC of {found.auroc:.2f} by itself"
    if found.auroc < notable or (role == "unused" and found.auroc < grave):
        return
    if machine and not later:
        remedy = "Check that classes come from the same devices and sources, or take them from each alike"
        severity: Literal["leak", "caution"] = "leak" if found.auroc >= grave else "caution"
        message = f"where the data come from {told}; a network can learn the source in place of the disease"
        yield Finding(severity, "confounded", message, remedy, task=labels.task, column=name, numbers=numbers)
        return
    what = "is a copy of the label" if found.auroc >= COPY and found.balanced_accuracy >= COPY else told
    if role == "unused":
        remedy = "The study does not use it; keep it so"
        yield Finding("caution", "label-column", what, remedy, task=labels.task, column=name, numbers=numbers)
        return
    remedy = "Keep it as an input only if it is known before the diagnosis is, and without it"
    severity = "leak" if found.auroc >= grave else "caution"
    named = "; its name says that it is known only with or after the diagnosis" if later else ""
    yield Finding(severity, "label-column", f"{what}{named}", remedy, task=labels.task, column=name, numbers=numbers)


def _missing(labels: Labels, several: list[tuple[str, Role, Score]], holes: bytes) -> Finding:
    names = [name for name, _, _ in several]
    used = any(role != "unused" for _, role, _ in several)
    found = several[0][2]
    count = int(np.unpackbits(np.frombuffer(holes, np.uint8))[: len(labels.rows)].sum())
    listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    empty = np.unpackbits(np.frombuffer(holes, np.uint8))[: len(labels.rows)].astype(bool)
    absent = set(range(len(labels.classes))) - set(np.unique(labels.values[empty]).tolist())
    never = [labels.classes[k] for k in sorted(absent) if (labels.values == k).any()]
    return Finding(
        "leak" if used else "caution",
        "label-missingness",
        f"{listed}: that {count} of {len(labels.rows)} training rows lack {'it' if len(names) == 1 else 'them'} tells "
        f"'{labels.classes[found.label]}' with an AUROC of {found.auroc:.2f} by itself"
        + (f"; none of these rows is {', '.join(never)}" if never else ""),
        "Leave such columns or rows out: a network sees which values are missing"
        if used
        else "The study does not use them; keep it so",
        task=labels.task,
        column=names[0] if len(names) == 1 else None,
        numbers={
            "auroc": round(found.auroc, 3),
            "class": labels.classes[found.label],
            "missing": count,
            "n": len(labels.rows),
            "columns": ", ".join(names),
        },
        places=labels.rows[empty][:, None],
    )


def _free_text(name: str, values: int, filled: int) -> Finding:
    return Finding(
        "caution",
        "free-text",
        f"has {values} different texts in {filled} rows: free text or an identifier, which nothing can be learnt from",
        "Take it out of 'categorical', or group its values",
        column=name,
        numbers={"values": values, "n": filled},
    )
