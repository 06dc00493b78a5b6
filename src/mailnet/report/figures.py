"""The curves of one task, each with a sentence that says what is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mailnet.metrics.curves import Curve, precision_recall_curve, reliability, roc_curve
from mailnet.metrics.values import Array
from mailnet.report.charts import precision_recall_chart, reliability_chart, roc_chart
from mailnet.report.results import TaskResult
from mailnet.report.words import number, plural

MOST_CLASSES = 8


@dataclass(frozen=True)
class Figure:
    """A chart as inline SVG with its title and one sentence."""

    title: str
    svg: str
    sentence: str


@dataclass(frozen=True)
class TaskFigures:
    """Charts of one task and the classes of their legend with the number of each one's series colour."""

    figures: list[Figure]
    classes: list[str]
    series: list[int]
    note: str


def task_figures(task: TaskResult, bins: int) -> TaskFigures | None:
    """Return ROC, precision-recall and reliability charts; None where no probabilities are known."""
    if task.labels is None or task.probabilities is None or not task.known.any():
        return None
    labels, probabilities = task.labels[task.known], task.probabilities[task.known]
    drawn = _drawn(task)
    roc = _curves(roc_curve, task, labels, probabilities, drawn)
    pr = _curves(precision_recall_curve, task, labels, probabilities, drawn)
    if task.kind == "multilabel":
        answered = np.isfinite(labels)
        right, confidence = labels[answered] == 1, probabilities[answered]
    else:
        right, confidence = probabilities.argmax(1) == labels, probabilities.max(1)
    ece = task.metrics.get("ece")
    gap = float(confidence.mean() - right.mean())
    lean = (
        "too sure of itself" if gap > 0.02 else "too cautious" if gap < -0.02 else "neither too sure nor too cautious"
    )
    names = [task.classes[k] for k in drawn]
    error = f"{number(ece.value if ece else None)}; on the whole the model is {lean}."
    figures = [
        Figure(
            "ROC",
            roc_chart(roc, _alt("ROC curve", task, names, "macro_auroc")),
            "Nearer the upper left corner is better; the dotted diagonal is guessing.",
        ),
        Figure(
            "Precision and recall",
            precision_recall_chart(pr, _alt("Precision-recall curve", task, names, "macro_auprc")),
            "How many of the alarms are right (up) when so many of the cases are found (right).",
        ),
        Figure(
            "Reliability",
            reliability_chart(reliability(right, confidence, bins), f"Reliability diagram; calibration error {error}"),
            "On the diagonal, “80% sure” is right in 80 of 100; below it the model is too sure. A larger point holds "
            f"more studies. Calibration error {error}",
        ),
    ]
    return TaskFigures(figures, names, list(range(len(names))), _note(task, drawn))


def _drawn(task: TaskResult) -> list[int]:
    """Return the classes that get a curve: the second of a binary task, else the eight largest that were tested."""
    if task.kind == "binary":
        return [1]
    tested = [k for k, c in enumerate(task.per_class) if c.n]
    return sorted(sorted(tested, key=lambda k: -task.per_class[k].n)[:MOST_CLASSES])


def _curves(
    curve: Callable[[Array, Array], Curve | None],
    task: TaskResult,
    labels: Array,
    probabilities: Array,
    drawn: Sequence[int],
) -> list[Curve | None]:
    found = []
    for k in drawn:
        truth = labels[:, k] if task.kind == "multilabel" else (labels == k).astype(float)
        known = np.isfinite(truth)
        found.append(curve(truth[known] == 1, probabilities[known, k]))
    return found


def _alt(what: str, task: TaskResult, names: Sequence[str], key: str) -> str:
    area = task.metrics.get(key)
    mean = f"; the mean area is {number(area.value)}" if area else ""
    return f"{what} of {task.name}, {plural(len(names), 'class', 'classes')} against the rest{mean}."


def _note(task: TaskResult, drawn: Sequence[int]) -> str:
    if task.kind == "binary":
        return f"The curves take “{task.classes[1]}” as the finding."
    tested = sum(1 for c in task.per_class if c.n)
    if tested > len(drawn):
        return f"Drawn are the {len(drawn)} classes with the most studies, of {tested}."
    return "Each class is drawn against all others."
