from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from factory import write_study
from mailnet import MAILClassifier
from mailnet.errors import ConfigError, RunError

PARAMETERS: dict[str, Any] = {
    "modalities": {
        "ct": {"size": 32},
        "photo": {"size": 32, "channels": 3},
        "clinical": {"kind": "tabular", "numeric": ["age"]},
    },
    "tasks": {"grade": {"kind": "binary", "classes": ["low", "high"]}},
    "model_options": {"width": "nano"},
    "train": {"epochs": 2, "batch_size": 12},
    "group": "patient",
}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MAILNET_CACHE", str(tmp_path / "cache"))
    return write_study(tmp_path / "study").parent / "studies.csv"


def test_fit_and_predict_from_a_file_and_from_memory(table: Path) -> None:
    frame = pd.read_csv(table)
    from_file = MAILClassifier(**PARAMETERS).fit(table)
    from_memory = MAILClassifier(**PARAMETERS, data_root=table.parent).fit(frame)
    assert list(from_file.classes_) == ["low", "high"]
    assert len(from_file.history_) == 2
    found = from_file.predict_proba(table)
    assert found.shape == (len(frame), 2)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(found, from_memory.predict_proba(frame), atol=1e-6)
    assert set(from_file.predict(frame.assign(**absolute(frame, table)))) <= {"low", "high"}


def absolute(frame: pd.DataFrame, table: Path) -> dict[str, list[str]]:
    return {name: [str(table.parent / path) for path in frame[name]] for name in ("ct", "photo")}


def test_several_tasks_give_dicts(table: Path) -> None:
    tasks = {**PARAMETERS["tasks"], "finding": {"classes": ["none", "left", "right"]}}
    fitted = MAILClassifier(**{**PARAMETERS, "tasks": tasks}, run=table.parent / "run").fit(table)
    assert {name: values.shape[1] for name, values in fitted.predict_proba(table).items()} == {"grade": 2, "finding": 3}
    assert set(fitted.classes_) == {"grade", "finding"}
    assert (table.parent / "run" / "bundle").is_dir()
    # Other studies must not get the network of these.
    with pytest.raises(RunError, match="holds a run already"):
        fitted.fit(table)


def test_it_clones_and_names_a_wrong_parameter(table: Path) -> None:
    estimator = clone(MAILClassifier(**PARAMETERS))
    assert estimator.get_params()["group"] == "patient"
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        estimator.set_params(train={"epoch": 1}).fit(table)


SMALL: dict[str, Any] = {
    "model_options": {"width": "nano"},
    "train": {"epochs": 3, "batch_size": 32, "learning_rate": 0.01},
}


@pytest.fixture
def frame(table: Path) -> pd.DataFrame:
    """Half of the studies."""
    return pd.read_csv(table).iloc[:30]


@pytest.fixture
def quick(table: Path) -> dict[str, Any]:
    """Parameters of an estimator of one small image."""
    one = {"modalities": {"photo": {"size": 8, "channels": 3}}, "train": {"epochs": 1, "batch_size": 12}}
    return {**PARAMETERS, **one, "data_root": table.parent}


def test_labels_beside_studies_replace_their_column(frame: pd.DataFrame, quick: dict[str, Any]) -> None:
    with_column = MAILClassifier(**quick).fit(frame)
    beside = MAILClassifier(**quick).fit(frame.drop(columns="grade"), frame["grade"])
    np.testing.assert_array_equal(beside.predict_proba(frame), with_column.predict_proba(frame))
    assert beside.score(frame, frame["grade"]) == with_column.score(frame)
    with pytest.raises(ValueError, match="30 studies and y 3 labels"):
        with_column.fit(frame, ["low", "high", "low"])
    with pytest.raises(ConfigError, match="column of it"):
        with_column.fit("studies.csv", frame["grade"])
    with pytest.raises(ConfigError, match="nothing to learn"):
        MAILClassifier(**{**quick, "tasks": None}).fit(frame)


@pytest.mark.parametrize("declared", [None, {"grade": {"kind": "binary", "classes": {"low": 0, "high": 1}}}])
def test_classes_are_those_of_the_labels(
    frame: pd.DataFrame, quick: dict[str, Any], declared: dict[str, Any] | None
) -> None:
    numbers = frame["grade"].map({"low": 0, "high": 1}).to_numpy()
    fitted = MAILClassifier(**{**quick, "tasks": declared}).fit(frame, numbers)
    assert fitted.classes_.tolist() == [0, 1]
    assert fitted.predict(frame).dtype == numbers.dtype
    assert fitted.score(frame, numbers) == np.mean(fitted.predict(frame) == numbers)
    spec = next(iter(fitted.predictor_.tasks.values()))
    assert spec.classes == (("0", "1") if declared is None else ("low", "high"))


def test_it_is_cross_validated_and_searched_on_studies(frame: pd.DataFrame, quick: dict[str, Any]) -> None:
    folds = {"cv": GroupKFold(2), "groups": frame["patient"]}
    assert np.isfinite(cross_val_score(MAILClassifier(**quick), frame, frame["grade"], **folds)).all()
    # Without labels beside them they are those of the column.
    search = GridSearchCV(MAILClassifier(**quick), {"train": [{"epochs": 1}, {"epochs": 2}]}, cv=2).fit(frame)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert set(search.predict(frame)) <= {"low", "high"}


def test_several_tasks_have_no_single_score(frame: pd.DataFrame, quick: dict[str, Any]) -> None:
    several = MAILClassifier(**quick).set_params(
        tasks={**PARAMETERS["tasks"], "finding": {"classes": ["none", "left", "right"]}}
    )
    with pytest.raises(ConfigError, match="one task, there are 2"):
        several.fit(frame, frame["grade"])
    with pytest.raises(ConfigError, match="of one task"):
        several.fit(frame).score(frame)


def test_an_array_with_gaps_in_a_pipeline() -> None:
    values, classes = make_blobs(120, 4, centers=3, random_state=0)
    values[::7, 1] = np.nan
    named = pd.DataFrame(values, columns=["age", "crp", "label", "weight"])
    labels = np.array(["a", "b", "c"])[classes]
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), MAILClassifier(**SMALL))
    assert pipeline.fit(named, labels).score(named, labels) > 0.9
    assert pipeline[-1].feature_names_in_.tolist() == list(named)
    assert pipeline[-1].predictor_.tables["table"].features == ["age", "crp", "crp missing", "label", "weight"]
    with pytest.raises(ValueError, match="one class"):
        MAILClassifier(**SMALL).fit(values, np.zeros(120, int))
    with pytest.raises(ConfigError, match="names a column"):
        MAILClassifier(**SMALL, group="age").fit(named, labels)


def test_a_pickle_carries_the_bundle_and_no_study(frame: pd.DataFrame, quick: dict[str, Any]) -> None:
    fitted = MAILClassifier(**quick).fit(frame)
    content, expected, run = pickle.dumps(fitted), fitted.predict_proba(frame), fitted.run_
    del fitted
    assert not run.exists()
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.predict_proba(frame), expected)
    assert again.get_params() == MAILClassifier(**quick).get_params()
    assert b"p000" not in content
