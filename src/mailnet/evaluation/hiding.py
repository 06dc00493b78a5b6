"""What a model predicts with modalities hidden from it; each prediction is made once, whatever it is needed for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from mailnet.data.study import StudyData

Predict: TypeAlias = Callable[[np.ndarray, tuple[str, ...]], dict[str, np.ndarray]]
Answers: TypeAlias = Mapping[tuple[str, ...], Mapping[str, np.ndarray]]


class Hidden(NamedTuple):
    """Studies with some of their modalities hidden.

    Args:
        without: The hidden modalities, in the study's order.
        rows: (n,) row numbers.
    """

    without: tuple[str, ...]
    rows: np.ndarray


def show_only(data: StudyData, modalities: Collection[str]) -> Hidden:
    """Return the studies that have at least these modalities, with all others hidden."""
    rows = np.all([data.present[name] for name in modalities], axis=0)
    return Hidden(tuple(name for name in data.modalities if name not in modalities), np.flatnonzero(rows))


def leave_out(data: StudyData, modality: str) -> Hidden:
    """Return the studies that have a modality and at least one other, with the modality hidden."""
    several = np.sum(list(data.present.values()), axis=0) > 1
    return Hidden((modality,), np.flatnonzero(data.present[modality] & several))


def plan_predictions(data: StudyData, wanted: Iterable[Hidden]) -> list[Hidden]:
    """Return the predictions that answer all that is wanted: a set of hidden modalities, and a study in it, once.

    A study that has none of the hidden modalities is left out, since its plain prediction is the answer.
    """
    asked: dict[tuple[str, ...], np.ndarray] = {}
    for without, rows in wanted:
        if without:
            asked.setdefault(without, np.zeros(len(data), dtype=bool))[rows] = True
    plan = (
        Hidden(without, np.flatnonzero(rows & np.any([data.present[name] for name in without], axis=0)))
        for without, rows in asked.items()
    )
    return [hidden for hidden in plan if len(hidden.rows)]


def predict_hidden(plan: Iterable[Hidden], plain: Mapping[str, np.ndarray], predict: Predict) -> Answers:
    """Return the probabilities (N, K) of every task for each set of hidden modalities, () being none.

    Args:
        plan: From ``plan_predictions``; the answers hold for what it was planned for.
        plain: Task -> (N, K) with nothing hidden.
        predict: Row numbers (n,) and hidden modalities -> task -> (n, K).
    """
    answers: dict[tuple[str, ...], Mapping[str, np.ndarray]] = {(): plain}
    for without, rows in plan:
        found = predict(rows, without)
        answers[without] = {task: values.copy() for task, values in plain.items()}
        for task, values in answers[without].items():
            values[rows] = found[task]
    return answers
