from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from factory import write_study
from mailnet import MAILClassifier
from mailnet.errors import ConfigError, RunError

PARAMETERS = {
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
