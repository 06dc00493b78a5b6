"""Every combination of modalities, each prediction made once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from factory import read_table, write_study, write_table
from mailnet.bundle import load
from mailnet.bundle.predictor import Predictor
from mailnet.cli.summary import summary_tables
from mailnet.data.config import load_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError
from mailnet.evaluation import absent as absent_module
from mailnet.evaluation import evaluate
from mailnet.metrics import measure
from mailnet.report import write_report

MakeRun = Callable[..., Path]
NAMES = ("ct", "photo", "clinical")


@pytest.fixture
def holed(make_run: MakeRun, tmp_path: Path) -> Path:
    """A run whose studies lack modalities: of the twelve tested, two have no photo and one has the photo alone."""
    study = tmp_path / "study of run"
    write_study(study, n=60)
    rows = read_table(study / "studies.csv")
    for k in (24, 25):
        rows[k]["photo"] = ""
    rows[26] |= {"ct": "", "age": "", "site": ""}
    write_table(study / "studies.csv", rows)
    return make_run()


def test_every_combination_on_the_studies_that_have_it(holed: Path, cache: Path) -> None:
    table = evaluate(holed, cache=cache, device="cpu", bootstrap=10, absent=True)["absent"]
    shown = [tuple(row["present"]) for row in table["combinations"]]
    assert shown == [names for size in (3, 2, 1) for names in combinations(NAMES, size)]
    assert (table["whole"], table["complete"]) == (True, 9)
    assert {tuple(row["present"]): row["n"] for row in table["combinations"]} == {
        NAMES: 9,
        ("ct", "photo"): 9,
        ("ct", "clinical"): 11,
        ("photo", "clinical"): 9,
        ("ct",): 11,
        ("photo",): 10,
        ("clinical",): 11,
    }
    assert [(row["present"], row["n"]) for row in table["occurring"]] == [
        (list(NAMES), 9),
        (["ct", "clinical"], 2),
        (["photo"], 1),
    ]
    for row in table["combinations"]:
        assert row["tasks"]["finding"]["n"] == row["n"]
        assert row["same_studies"]["finding"]["n"] == 9
        assert set(row["tasks"]["grade"]["metrics"]["accuracy"]) == {"value", "low", "high"}


def test_a_combination_is_a_prediction_with_the_others_hidden(holed: Path, cache: Path) -> None:
    result = evaluate(holed, cache=cache, device="cpu", bootstrap=0, absent=True)
    predictor = load(holed, "cpu")
    data = load_study(load_config(holed / "study.yaml"), cache=cache, tables=predictor.tables, splits=["test"])
    both = np.flatnonzero(data.present["ct"] & data.present["clinical"])
    found = predictor.predict_data(data, both, without=["photo"])["finding"]
    expected = measure(found, data.labels["finding"][both], data.tasks["finding"], bootstrap=0)["metrics"]
    rows = {tuple(row["present"]): row for row in result["absent"]["combinations"]}
    assert rows["ct", "clinical"]["tasks"]["finding"]["metrics"] == expected
    for name in NAMES:
        assert rows[(name,)]["tasks"]["grade"]["metrics"] == result["modalities"]["only"][name]["grade"]["metrics"]


def test_a_prediction_is_made_once(holed: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[str, ...], int]] = []
    predict = Predictor.predict_data

    def noted(self: Predictor, data: StudyData, rows: np.ndarray, *, without: tuple[str, ...] = ()) -> object:
        asked.extend((tuple(without), int(row)) for row in rows)
        return predict(self, data, rows, without=without)

    monkeypatch.setattr(Predictor, "predict_data", noted)
    evaluate(holed, cache=cache, device="cpu", bootstrap=0, absent=True)
    assert len(asked) == len(set(asked))
    # Twelve as they are; of the nine complete ones six combinations more; of the two without a photo one of each left.
    assert len(asked) == 12 + 9 * 6 + 2 * 4


def test_more_than_six_modalities(make_run: MakeRun, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absent_module, "MOST", 2)
    table = evaluate(make_run(n=30), cache=cache, device="cpu", bootstrap=0, absent=True)["absent"]
    assert [len(row["present"]) for row in table["combinations"]] == [3, 2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"regime": "unpaired", "n": 60}, "unpaired"), ({"modalities": {"ct": None, "clinical": None}}, "one modality")],
)
def test_nothing_can_be_absent(make_run: MakeRun, cache: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(make_run(**changes), cache=cache, device="cpu", bootstrap=0, absent=True)


def test_the_table_is_printed_and_reported(holed: Path, cache: Path) -> None:
    result = evaluate(holed, cache=cache, device="cpu", bootstrap=10, absent=True)
    title, columns, rows = summary_tables(result)[-1]
    assert "grade" in title
    assert columns[:4] == [*NAMES, "n"]
    assert rows[1][:4] == ["yes", "yes", "-", "9"]
    page = write_report(holed, cache=cache).read_text()
    assert "Absent modalities" in page
    assert "9 with ct, photo and clinical" in page
