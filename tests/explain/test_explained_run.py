"""Studies of a run explained: pictures, and numbers that say what the network said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from factory import Command
from mailnet.bundle import load
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.evaluation.evaluate import evaluate
from mailnet.evaluation.reliability import Wanted
from mailnet.explain.choosing import choose_of_run
from mailnet.explain.run import explain_run
from runs import MakeRun

PICTURE = b"a picture"


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    return make_run(n=60, options={"width": "nano"})


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time, and have tests of their own."""
    monkeypatch.setattr("mailnet.explain.run.draw_explanation", lambda *args, **options: PICTURE)


def test_rows_without_any_modality_are_not_drawn(run: Path) -> None:
    file = next(iter(run.parent.glob("study of run/studies.csv")))
    table = pd.read_csv(file, dtype=str)
    table.loc[[2, 5], ["ct", "photo", "age", "site"]] = None
    table.to_csv(file, index=False)
    chosen = choose_of_run(load(run, "cpu"), run, (), "all", 60, None, 0)
    assert chosen.rows == [row for row in range(1, 61) if row not in (3, 6)]
    with pytest.raises(DataError, match="study s002: has no modality at all"):
        choose_of_run(load(run, "cpu"), run, ["s002"], "all", 60, None, 0)


@pytest.mark.usefixtures("undrawn")
def test_numbers_are_those_of_the_predictions(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = pd.read_csv(next(iter(run.parent.glob("study of run/studies.csv"))))
    names = [str(name) for name in table["study"].iloc[[7, 3]]]
    result = explain_run(run, out, studies=names, device="cpu")
    assert json.loads((out / "explanations.json").read_text()) == result
    predictions = load(run, "cpu").predict(run / "study.yaml")
    places = [predictions.ids.index(name) for name in names]
    assert [entry["row"] for entry in result["entries"]] == [8, 4, 8, 4]
    for entry, place in zip(result["entries"], places * 2, strict=True):
        task, spec = entry["task"], predictions.tasks[entry["task"]]
        expected = predictions.probabilities[task][place]
        assert list(entry["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert entry["target"] == spec.classes[expected.argmax()]
        assert entry["truth"] == str(table[task].iloc[entry["row"] - 1])
        assert set(entry["modalities"]) == {"ct", "photo", "clinical"} - set(entry["absent"])
        # Shapley values add up to the log-odds less those of equal probabilities of the classes.
        top, chance = expected.max(), 1 / len(spec.classes)
        gain = np.log(top / (1 - top)) - np.log(chance / (1 - chance))
        assert sum(entry["modalities"].values()) == pytest.approx(gain, abs=1e-3)
        assert entry["log_odds"] == pytest.approx(np.log(top / (1 - top)), abs=1e-3)
        assert set(entry["columns"].get("clinical", {"age": 0, "site": 0})) == {"age", "site"}
        assert (out / entry["picture"]).read_bytes() == PICTURE
    text = (out / "explanations.json").read_text()
    assert not any(name in text for name in names)


@pytest.mark.usefixtures("undrawn")
def test_worths_add_up_to_the_calibrated_answer(make_run: MakeRun, cache: Path) -> None:
    run = make_run(n=120, group=None, modalities={"photo": None}, options={"width": "nano"})
    evaluate(run, device="cpu", bootstrap=0, split="val", cache=cache, wanted=Wanted("temperature"))
    entry = explain_run(run, number=1, tasks=["finding"], device="cpu", method="gradient")["entries"][0]
    chance = 1 / len(entry["probabilities"])
    assert entry["log_odds"] == pytest.approx(
        sum(entry["modalities"].values()) + np.log(chance / (1 - chance)), abs=1e-4
    )
    assert entry["score"] != pytest.approx(entry["log_odds"], abs=1e-4), "the map is of the network before calibration"


@pytest.mark.usefixtures("undrawn")
def test_some_of_the_test_studies_are_chosen(run: Path, tmp_path: Path) -> None:
    result = explain_run(run, tmp_path / "a", number=3, tasks=["grade"], target="low", device="cpu", method="gradient")
    again = explain_run(run, number=3, tasks=["grade"], target="low", device="cpu", method="gradient")
    assert result["entries"] == again["entries"]
    assert len(result["entries"]) == 3
    assert again["split"] == "test"
    assert json.loads((run / "explanations" / "explanations.json").read_text()) == again
    fewer = explain_run(run, number=1, tasks=["grade"], device="cpu", method="gradient")
    left = {path.name for path in (run / "explanations").glob("*.png")}
    assert left == {entry["picture"] for entry in fewer["entries"]}, "earlier pictures are gone"
    assert {entry["target"] for entry in result["entries"]} == {"low"}
    assert all(entry["row"] in (*range(25, 31), *range(55, 61)) for entry in result["entries"])


@pytest.mark.usefixtures("undrawn")
def test_a_table_without_labels(run: Path, tmp_path: Path) -> None:
    table = pd.read_csv(next(iter(run.parent.glob("study of run/studies.csv")))).drop(columns=["grade", "finding"])
    path = run.parent / "study of run" / "new.csv"
    table.head(2).to_csv(path, index=False)
    result = explain_run(run / "bundle", tmp_path / "out", table=path, tasks=["grade"], device="cpu")
    assert [(entry["row"], entry["truth"]) for entry in result["entries"]] == [(1, None), (2, None)]
    table.to_csv(path, index=False)
    with pytest.raises(ConfigError, match="do not belong into the run"):
        explain_run(run, table=path, device="cpu")
    with pytest.raises(ConfigError, match="60 studies"):
        explain_run(run, tmp_path / "out", table=path, device="cpu")


@pytest.mark.usefixtures("undrawn")
def test_a_random_network_repeats_itself(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailnet.explain.run.DRAWS", 2)
    run = make_run(n=30, model="pni_mail", options={"width": "nano"})
    first, second = (explain_run(run, tmp_path / name, number=1, tasks=["grade"], device="cpu") for name in "ab")
    assert first["entries"] == second["entries"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tasks": ["age"]}, "no task 'age'"),
        ({"method": "tea_leaves"}, "tea_leaves"),
        ({"target": "high"}, "one task"),
        ({"target": "none", "tasks": ["grade"]}, "none"),
        ({"split": "half"}, "no split"),
        ({"method": "emcam"}, "EMCAM"),
    ],
)
def test_what_cannot_be_explained(run: Path, tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        explain_run(run, tmp_path / "out", device="cpu", **options)  # type: ignore[arg-type]


def test_unknown_studies_and_runs(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in the study's tables"):
        explain_run(run, tmp_path / "out", studies=["nobody"], device="cpu")
    (run / "study.yaml").unlink()
    with pytest.raises(RunError, match=r"no study\.yaml"):
        explain_run(run, tmp_path / "out", device="cpu")


def test_from_the_command_line(run: Path, tmp_path: Path, mailnet: Command) -> None:
    status, out, err = mailnet("explain", run, "-o", tmp_path / "out", "--number", 1, "--task", "grade")
    assert status == 0, err
    assert "worth of modalities" in out
    [picture] = (tmp_path / "out").glob("row-*-grade.png")
    assert min(Image.open(picture).size) > 300
    status, _, err = mailnet("explain", run, "-o", tmp_path / "out", "--method", "tea_leaves")
    assert status == 2
    assert "grad_cam" in err
