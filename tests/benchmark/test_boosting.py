"""Boosting on the table alone, against scikit-learn used directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score

from factory import write_study
from mailnet.benchmark.boosting import EVERY, run_boosting
from mailnet.benchmark.outcome import take
from mailnet.data.config import load_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError
from mailnet.specs import TaskSpec

OPTIONS = {"min_samples_leaf": 3, "max_iter": 20}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    """A paired study of 120, loaded."""
    folder = tmp_path_factory.mktemp("boosting")
    config = load_config(write_study(folder, n=120, size=16), ["train.balance=weights"])
    return load_study(config, cache=folder / "cache")


def changed(data: StudyData, **fields: Any) -> StudyData:
    """The study with other fields."""
    return StudyData(**{**vars(data), **fields})


def test_rounds_are_those_that_validate_best(data: StudyData) -> None:
    test = take(data, data.rows("test"))
    found = run_boosting(data.config, OPTIONS, data, test)
    features, labels = data.arrays["clinical"][np.arange(len(data))], data.labels["grade"]
    train, val = data.rows("train"), data.rows("val")
    counts = np.bincount(labels[train])
    weight = (counts.sum() / (2 * counts)).astype(np.float32)[labels[train]]
    direct = HistGradientBoostingClassifier(**OPTIONS, early_stopping=False, random_state=0)
    direct.fit(features[train], labels[train], sample_weight=weight)
    staged = list(direct.staged_predict_proba(features[data.rows("test")]))[EVERY - 1 :: EVERY]
    scores = [
        balanced_accuracy_score(labels[val], answer.argmax(1))
        for answer in list(direct.staged_predict_proba(features[val]))[EVERY - 1 :: EVERY]
    ]
    best = [answer for answer, score in zip(staged, scores, strict=True) if score == max(scores)]
    assert any(np.allclose(found.probabilities["grade"], answer) for answer in best)
    assert found.probabilities["finding"].sum(1) == pytest.approx(np.ones(len(test)))
    assert found.best["epoch"] in range(EVERY, OPTIONS["max_iter"] + 1, EVERY)


def test_several_labels_are_a_model_each_and_a_label_nobody_has_is_a_constant(data: StudyData) -> None:
    grade = data.labels["grade"].astype(np.float32)
    labels = np.stack([grade, 1 - grade, np.zeros_like(grade)], 1)
    labels[::7, 0] = np.nan
    tasks = {"signs": TaskSpec("signs", ("old", "young", "never"), "multilabel")}
    several = changed(data, tasks=tasks, labels={"signs": labels})
    found = run_boosting(data.config, OPTIONS, several, take(several, data.rows("test")))
    answers, truth = found.probabilities["signs"], labels[data.rows("test")]
    assert answers.shape == (24, 3)
    known = np.isfinite(truth[:, 0])
    assert ((answers[known, 0] > 0.5) == truth[known, 0]).mean() > 0.8
    assert ((answers[:, 1] > 0.5) == truth[:, 1]).mean() > 0.8
    assert (answers[:, 2] == 0).all()


def test_studies_without_a_table_are_answered_and_no_training_is_taken_from_them(data: StudyData) -> None:
    present = data.present["clinical"].copy()
    absent = np.r_[data.rows("train")[:20], data.rows("test")[:5]]
    present[absent] = False
    features = data.arrays["clinical"][np.arange(len(data))].copy()
    features[absent] = 1e6  # what stands there must not matter
    some = changed(data, arrays={**data.arrays, "clinical": features}, present={**data.present, "clinical": present})
    answers = run_boosting(data.config, OPTIONS, some, take(some, data.rows("test"))).probabilities["grade"]
    assert np.isfinite(answers).all()
    assert len(np.unique(answers[:5], axis=0)) == 1  # nothing is known of them
    features[absent] = -1e6
    again = run_boosting(data.config, OPTIONS, some, take(some, data.rows("test"))).probabilities["grade"]
    assert np.array_equal(answers, again)


def test_what_cannot_be_boosted_is_said(data: StudyData, tmp_path: Path) -> None:
    images = {name: spec for name, spec in data.modalities.items() if name != "clinical"}
    with pytest.raises(ConfigError, match="no table to boost on"):
        run_boosting(data.config, {}, changed(data, modalities=images), data)
    with pytest.raises(ConfigError, match="cannot be made"):
        run_boosting(data.config, {"depth": 3}, data, data)
    with pytest.raises(ConfigError, match="max_iter must be 5 or more"):
        run_boosting(data.config, {"max_iter": 2}, data, data)
    unknown = {task: np.full_like(labels, -1) for task, labels in data.labels.items()}
    with pytest.raises(ConfigError, match="no task has labels"):
        run_boosting(data.config, {}, changed(data, labels=unknown), data)
