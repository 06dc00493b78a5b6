"""What the report warns of, each caution from the smallest result that calls for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mailnet.data.config import StudyConfig, parse_config
from mailnet.report.cautions import find_cautions
from mailnet.report.history import History
from mailnet.report.page import _fusion_sentence
from mailnet.report.results import ClassResult, Row, TaskResult
from mailnet.report.words import Estimate

GOOD = Estimate(0.9, 0.85, 0.95)
TASK = TaskResult(
    name="finding",
    kind="multiclass",
    classes=["a", "b"],
    n=200,
    metrics={"accuracy": GOOD, "balanced_accuracy": GOOD, "macro_auroc": GOOD, "ece": Estimate(0.02)},
    per_class=[ClassResult("a", 120, {}), ClassResult("b", 80, {})],
    confusion=None,
    fusion=[],
    subgroups={},
    labels=None,
    probabilities=None,
)
HISTORY = History(
    epochs=np.arange(1, 6),
    train_loss=np.array([0.9, 0.7, 0.5, 0.4, 0.3]),
    val_loss=np.array([0.9, 0.8, 0.6, 0.7, 0.8]),
    score=np.array([0.5, 0.6, 0.8, 0.7, 0.7]),
    monitor="balanced_accuracy",
    best=3,
    planned=5,
)


def config(**changes: Any) -> StudyConfig:
    values = {"name": "s", "manifest": "s.csv", "group": "patient", "modalities": {"ct": None},
              "tasks": {"finding": {"classes": ["a", "b"]}}}  # fmt: skip
    return parse_config(values | changes)


def cautions(task: TaskResult = TASK, history: History | None = HISTORY, split: str = "test", **data: Any) -> list[str]:
    return find_cautions(config(), split, data, [task], history)


def one(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


def row(label: str, value: float, kind: str = "", n: int = 200) -> Row:
    return Row(label, n, Estimate(value, value - 0.02, value + 0.02), None, kind=kind, small=n < 30)


def test_a_good_result_has_none() -> None:
    assert cautions() == []


def test_results_on_a_split_that_training_used() -> None:
    assert "on the split “val”, which training has used" in one(cautions(split="val"))


def test_rows_without_patients() -> None:
    found = find_cautions(config(group=None), "test", {}, [TASK], HISTORY)
    assert "names no column of patients" in one(found)


def test_no_better_than_the_majority() -> None:
    poor = replace(TASK, metrics=TASK.metrics | {"accuracy": Estimate(0.65, 0.58, 0.7)})
    assert "not shown to beat always answering “a”, which is right in 60.0%" in one(cautions(poor))


def test_no_mistake_is_not_no_risk() -> None:
    flawless = replace(TASK, metrics=TASK.metrics | {"accuracy": Estimate(1.0, 1.0, 1.0)})
    assert "up to 1.5% of new studies may still be wrong" in one(cautions(flawless))


def test_no_better_than_guessing() -> None:
    poor = replace(TASK, metrics=TASK.metrics | {"macro_auroc": Estimate(0.54, 0.47, 0.6)})
    assert "not shown to be better than guessing" in one(cautions(poor))


def test_fusion_that_adds_nothing() -> None:
    rows = [row("all modalities", 0.8, "all"), row("ct alone", 0.82, "only"), row("mri alone", 0.6, "only")]
    assert "ct alone does as well as all modalities" in one(cautions(replace(TASK, fusion=rows)))
    assert "fusion gives nothing here" in _fusion_sentence(replace(TASK, fusion=rows))
    rows[1] = row("ct alone", 0.7, "only")
    assert cautions(replace(TASK, fusion=rows)) == []
    assert _fusion_sentence(replace(TASK, fusion=rows)).endswith("10.0 points more, and the intervals do not overlap.")
    rows[1] = row("ct alone", 0.79, "only")
    assert _fusion_sentence(replace(TASK, fusion=rows)).endswith("1.0 points more, but the intervals overlap.")


def test_classes_that_were_not_or_hardly_tested() -> None:
    classes = [*TASK.per_class, ClassResult("c", 0, {}), ClassResult("d", 4, {})]
    absent, rare = cautions(replace(TASK, per_class=classes))
    assert "“c” has no tested study" in absent
    assert "fewer than 10 tested studies of “d” (4)" in rare


def test_poor_calibration() -> None:
    assert "calibration error is 0.150" in one(cautions(replace(TASK, metrics=TASK.metrics | {"ece": Estimate(0.15)})))


def test_small_and_worse_subgroups() -> None:
    groups = {"sex": [row("f", 0.7), row("m", 0.92), row("other", 0.5, n=8)]}
    small, worse = cautions(replace(TASK, subgroups=groups))
    assert "fewer than 30 studies in the subgroups sex other (8)" in small
    assert "clearly lower for sex f than" in worse


def test_training_that_stopped_too_early_or_learnt_by_heart() -> None:
    assert "best epoch was the last one" in cautions(history=replace(HISTORY, best=5))[0]
    assert "2.7 times the training loss" in cautions(history=replace(HISTORY, best=5))[1]


def test_images_left_out() -> None:
    assert "2 images could not be used" in one(cautions(bad=[{"modality": "ct"}, {"modality": "ct"}]))
    images, rows = cautions(bad=[{"modality": "ct"}, {"row": 3}])
    assert "1 image could not be used, and its study was left out" in images
    assert "1 row of the tables has no modality at all and was left out" in rows
