"""The results of an evaluation, read from evaluation.json and predictions.parquet into what the report shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mailnet.metrics.values import Array
from mailnet.report.words import BY_KEY, EXACT, METRICS, Estimate, Metric, estimate

if TYPE_CHECKING:
    import pandas as pd

SMALL_GROUP = 30


@dataclass(frozen=True)
class ClassResult:
    """One class of one task: studies that have it, and its measures by key."""

    name: str
    n: int
    measures: dict[str, Estimate | None]


@dataclass(frozen=True)
class Row:
    """One line of a comparison: the headline metric of a set of modalities or of a subgroup."""

    label: str
    n: int
    value: Estimate | None
    second: Estimate | None
    small: bool = False
    strong: bool = False
    kind: str = ""


@dataclass(frozen=True)
class TaskResult:
    """One task of the evaluation.

    Args:
        name: Name of the task.
        kind: Kind of the task.
        classes: Class names in label order.
        n: Labelled studies.
        metrics: Metric key -> estimate.
        per_class: One a class.
        confusion: (K, K) counts, rows true and columns predicted; None for multilabel.
        fusion: All modalities, each alone, each left out.
        subgroups: Column -> its values.
        labels: (N,) labels, -1 unknown, or (N, K) with NaN for multilabel; None without predictions.
        probabilities: (N, K); None without predictions.
    """

    name: str
    kind: str
    classes: list[str]
    n: int
    metrics: dict[str, Estimate]
    per_class: list[ClassResult]
    confusion: Array | None
    fusion: list[Row]
    subgroups: dict[str, list[Row]]
    labels: Array | None
    probabilities: Array | None

    @property
    def headline(self) -> Metric:
        """The metric shown first: balanced accuracy; macro AUROC for multilabel, where accuracy flatters."""
        return _headline(self.kind)[0]

    @property
    def second(self) -> Metric:
        """The metric shown beside it."""
        return _headline(self.kind)[1]

    @property
    def shown(self) -> list[Metric]:
        """The metrics that this task has, in the order of the report."""
        first = [self.headline, self.second]
        rest = [EXACT if self.kind == "multilabel" and m.key == EXACT.key else m for m in METRICS if m not in first]
        return [m for m in [*first, *rest] if m.key in self.metrics]

    @property
    def known(self) -> Array:
        """(N,) bool, the study's label is known."""
        assert self.labels is not None
        return np.asarray(np.isfinite(self.labels).any(1) if self.kind == "multilabel" else self.labels >= 0)

    @property
    def majority(self) -> tuple[str, float] | None:
        """The commonest class of the tested studies and its share; None for multilabel."""
        if self.kind == "multilabel" or not self.n:
            return None
        largest = max(self.per_class, key=lambda c: c.n)
        return largest.name, largest.n / max(1, sum(c.n for c in self.per_class))


def read_results(evaluation: Mapping[str, Any], predictions: pd.DataFrame | None) -> list[TaskResult]:
    """Return the results of every task, in the order of evaluation.json."""
    return [_task(name, raw, evaluation, predictions) for name, raw in evaluation["tasks"].items()]


def _headline(kind: str) -> tuple[Metric, Metric]:
    first, second = ("macro_auroc", "macro_auprc") if kind == "multilabel" else ("balanced_accuracy", "macro_auroc")
    return BY_KEY[first], BY_KEY[second]


def _task(name: str, raw: Mapping[str, Any], evaluation: Mapping[str, Any], frame: pd.DataFrame | None) -> TaskResult:
    classes, kind = [str(c) for c in raw["classes"]], str(raw["kind"])
    confusion = raw.get("confusion")
    labels, probabilities = _columns(frame, name, kind, classes)
    return TaskResult(
        name=name,
        kind=kind,
        classes=classes,
        n=int(raw["n"]),
        metrics=_estimates(raw["metrics"]),
        per_class=[_class(c, raw.get("per_class", {}).get(c, {})) for c in classes],
        confusion=None if confusion is None else np.asarray(confusion, dtype=int),
        fusion=list(_fusion(name, kind, raw, evaluation)),
        subgroups={
            column: [_row(value, of[name], kind) for value, of in values.items() if name in of]
            for column, values in evaluation.get("subgroups", {}).items()
        },
        labels=labels,
        probabilities=probabilities,
    )


def _class(name: str, raw: Mapping[str, Any]) -> ClassResult:
    return ClassResult(name, int(raw.get("n", 0)), {key: estimate(value) for key, value in raw.items() if key != "n"})


def _fusion(task: str, kind: str, raw: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Iterator[Row]:
    sets = evaluation.get("modalities", {})
    yield _row("all modalities", raw, kind, "all")
    for group, label in (("only", "{} alone"), ("without", "without {}")):
        for modality, of in sets.get(group, {}).items():
            if task in of:
                yield _row(label.format(modality), of[task], kind, group)


def _row(label: str, raw: Mapping[str, Any], kind: str, group: str = "") -> Row:
    first, second = _headline(kind)
    n, metrics = int(raw["n"]), _estimates(raw["metrics"])
    return Row(
        label=label,
        n=n,
        value=metrics.get(first.key),
        second=metrics.get(second.key),
        small=bool(raw.get("small", n < SMALL_GROUP)),
        strong=group == "all",
        kind=group,
    )


def _estimates(raw: Mapping[str, Any]) -> dict[str, Estimate]:
    return {key: value for key, given in raw.items() if (value := estimate(given)) is not None}


def _columns(frame: pd.DataFrame | None, task: str, kind: str, classes: list[str]) -> tuple[Array | None, Array | None]:
    """Return labels and probabilities of a task from the table of predictions."""
    columns = [f"prob:{task}:{c}" for c in classes]
    labels = [f"label:{task}:{c}" for c in classes] if kind == "multilabel" else [f"label:{task}"]
    if frame is None or not set(columns + labels) <= set(frame.columns):
        return None, None
    probabilities = frame[columns].to_numpy(dtype=float)
    truth = frame[labels].to_numpy(dtype=float)
    return (truth if kind == "multilabel" else np.nan_to_num(truth[:, 0], nan=-1).astype(int)), probabilities
