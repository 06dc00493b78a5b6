"""An evaluation says what it measured, on which studies, and names none of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from factory import read_table, write_study, write_table
from mailnet.bundle import load
from mailnet.data.config import load_config
from mailnet.data.splits import digests
from mailnet.data.study import load_study
from mailnet.errors import ConfigError, DataError, MailnetError, RunError
from mailnet.evaluation import evaluate
from mailnet.files import write_json
from mailnet.metrics import measure
from mailnet.report import write_report

MakeRun = Callable[..., Path]


def test_paired_run(make_run: MakeRun, cache: Path) -> None:
    run = make_run(n=60)
    result = evaluate(run, cache=cache, device="cpu", bootstrap=50)
    assert json.loads((run / "evaluation.json").read_text()) == result
    assert result["split"] == "test"
    assert result["n"] == 12
    assert result["data"]["groups"] == 6
    assert result["model"]["macs"] * 2 == result["model"]["flops"]
    assert result["model"]["noise"] is None
    found = result["tasks"]["finding"]
    assert found["n"] == 12
    assert found["groups"] == 6
    assert np.sum(found["confusion"]) == 12
    assert set(found["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert set(found["curves"]["roc"]) == set(found["classes"])
    assert set(result["tasks"]["grade"]["curves"]["precision_recall"]) == {"high"}
    assert sum(found["curves"]["reliability"]["count"]) == 12
    sites = result["subgroups"]["site"]
    assert {value: of["finding"]["n"] for value, of in sites.items()} == {"north": 6, "south": 6}
    assert all(of["finding"]["small"] for of in sites.values())
    assert set(result["modalities"]["only"]) == set(result["modalities"]["without"]) == {"ct", "photo", "clinical"}


def test_table_of_predictions_gives_the_metrics(make_run: MakeRun, cache: Path) -> None:
    run = make_run(n=60)
    result = evaluate(run, cache=cache, device="cpu", bootstrap=0)
    table = pd.read_parquet(run / "predictions.parquet")
    assert table["row"].tolist() == [*range(25, 31), *range(55, 61)]  # the test blocks
    data = load_study(load_config(run / "study.yaml"), cache=cache, splits=["test"])
    assert table["id"].tolist() == data.frame["id"].tolist()
    for task, spec in data.tasks.items():
        probabilities = table[[f"prob:{task}:{name}" for name in spec.classes]].to_numpy()
        again = measure(probabilities, table[f"label:{task}"].to_numpy(), spec, bootstrap=0)
        assert again["metrics"] == result["tasks"][task]["metrics"]


def test_modality_alone_is_a_prediction_without_the_others(make_run: MakeRun, cache: Path) -> None:
    run = make_run(n=60)
    result = evaluate(run, cache=cache, device="cpu", bootstrap=0)
    predictor = load(run, "cpu")
    data = load_study(load_config(run / "study.yaml"), cache=cache, tables=predictor.tables, splits=["test"])
    rows = np.flatnonzero(data.present["ct"])
    alone = predictor.predict_data(data, rows, without=["photo", "clinical"])
    expected = measure(alone["grade"], data.labels["grade"][rows], data.tasks["grade"], bootstrap=0)
    assert result["modalities"]["only"]["ct"]["grade"]["metrics"] == expected["metrics"]


def test_two_modalities_are_not_told_twice(make_run: MakeRun, cache: Path) -> None:
    run = make_run(n=30, modalities={"clinical": None})
    modalities = evaluate(run, cache=cache, device="cpu", bootstrap=0)["modalities"]
    assert set(modalities["only"]) == {"ct", "photo"}
    assert modalities["without"] == {}


def test_unpaired_run_has_its_modality_by_nature(make_run: MakeRun, cache: Path) -> None:
    run = make_run(regime="unpaired", n=60)
    result = evaluate(run, cache=cache, device="cpu", bootstrap=0)
    assert result["modalities"]["by_nature"]
    assert result["modalities"]["without"] == {}
    only = result["modalities"]["only"]
    assert {name: list(of) for name, of in only.items()} == {
        "ct": ["finding"],
        "photo": ["grade"],
        "clinical": ["risk"],
    }
    assert only["ct"]["finding"]["metrics"] == result["tasks"]["finding"]["metrics"]
    assert result["tasks"]["finding"]["n"] == 12


def test_no_identifier_in_the_evaluation(make_run: MakeRun, cache: Path) -> None:
    run = make_run(n=60)
    evaluate(run, cache=cache, device="cpu", bootstrap=10)
    text = (run / "evaluation.json").read_text()
    table = pd.read_parquet(run / "predictions.parquet")
    assert not [study for study in [*table["id"], *table["group"]] if study in text]


@pytest.mark.parametrize(("split", "n"), [("train", 36), ("val", 12), ("all", 60)])
def test_split(make_run: MakeRun, cache: Path, tmp_path: Path, split: str, n: int) -> None:
    out = tmp_path / "elsewhere"
    result = evaluate(make_run(n=60), split=split, out=out, cache=cache, device="cpu", bootstrap=0)
    assert (result["split"], result["n"]) == (split, n)
    assert (out / "evaluation.json").is_file()
    assert not (tmp_path / "run" / "evaluation.json").exists()


def test_random_network_says_its_mode(make_run: MakeRun, cache: Path) -> None:
    run = make_run(model="robust_mail", n=30, size=16, modalities={"photo": None, "clinical": None})
    result = evaluate(run, cache=cache, device="cpu", bootstrap=0)
    assert result["model"]["noise"]["mode"] == "mean"
    assert result["model"]["noise"]["draws"] > 1
    assert evaluate(run, cache=cache, device="cpu", bootstrap=0)["tasks"] == result["tasks"]


def test_moved_data_root(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    run = make_run(n=30)
    (tmp_path / "study of run").rename(tmp_path / "moved")
    with pytest.raises(MailnetError):
        evaluate(run, cache=cache, device="cpu", bootstrap=0)
    assert evaluate(run, data_root=tmp_path / "moved", cache=cache, device="cpu", bootstrap=0)["n"] == 6


def test_other_study(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    run = make_run(n=30)
    other = write_study(tmp_path / "other", n=36, size=48, seed=1, name="elsewhere", tasks={"grade": None})
    rows = [row | {"split": "test"} for row in read_table(tmp_path / "other" / "studies.csv")]
    write_table(tmp_path / "other" / "studies.csv", rows)
    result = evaluate(run, other, split="all", out=tmp_path / "out", cache=cache, device="cpu", bootstrap=0)
    assert (result["external"], result["study"], result["n"]) == (True, "elsewhere", 36)
    assert list(result["tasks"]) == ["finding"]
    assert result["model"]["trained_on"] == "made-up"


def test_other_study_does_not_replace_the_own_results(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--out"):
        evaluate(tmp_path / "run", tmp_path / "study.yaml")


def test_report_of_another_study_is_of_that_study(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    run, out = make_run(n=30), tmp_path / "out"
    other = write_study(tmp_path / "other", n=36, name="elsewhere", model={"name": "two_branch_resnet18"})
    evaluate(run, other, split="all", out=out, cache=cache, device="cpu", bootstrap=0)
    page = write_report(out, cache=cache).read_text()
    for words in (
        "<h1>elsewhere</h1>",
        "External evaluation",
        "trained on another study, “made-up”",
        "Network</dt><dd>mail<",
    ):
        assert words in page, words
    assert "which training has used" not in page
    assert page.count("data:image/jpeg") > 0
    assert not (run / "evaluation.json").exists()


def test_results_never_go_into_another_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(n=30)
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "run.json").write_text("{}")
    with pytest.raises(RunError, match="holds another run"):
        evaluate(run, split="val", out=tmp_path / "another")
    with pytest.raises(ConfigError, match="--out"):
        evaluate(run, tmp_path / "study.yaml", out=run)


def test_other_study_without_a_modality(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    other = write_study(tmp_path / "other", n=30, modalities={"photo": None})
    result = evaluate(make_run(n=30), other, out=tmp_path / "out", cache=cache, device="cpu", bootstrap=0)
    assert set(result["modalities"]["only"]) == {"ct", "clinical"}


def test_other_study_of_other_classes_is_refused(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    other = write_study(tmp_path / "other", n=30, tasks={"grade": {"classes": ["high", "low"]}})
    with pytest.raises(ConfigError, match=r"task grade.*low, high"):
        evaluate(make_run(n=30), other, out=tmp_path / "out", cache=cache, device="cpu")


def test_bad_image_is_left_out_where_asked(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    run = make_run(n=60)
    (tmp_path / "study of run" / "images" / "ct024.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="ct"):
        evaluate(run, cache=cache, device="cpu", bootstrap=0)
    result = evaluate(run, skip_bad=True, cache=cache, device="cpu", bootstrap=0)
    assert (result["n"], result["data"]["bad"]) == (11, 1)


def test_subgroup_without_a_value(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    run = make_run(n=60, modalities={"clinical": None})
    table = tmp_path / "study of run" / "studies.csv"
    write_table(table, [row | {"site": row["site"].replace("south", "")} for row in read_table(table)])
    result = evaluate(run, cache=cache, device="cpu", bootstrap=0)
    assert set(result["subgroups"]["site"]) == {"north", "(no value)"}


def test_subgroup_of_many_values_keeps_the_commonest(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    run = make_run(n=60, modalities={"clinical": None})
    table = tmp_path / "study of run" / "studies.csv"
    rows = read_table(table)
    write_table(table, [row | {"site": f"{min(i, 50):02d}"} for i, row in enumerate(rows)])
    result = evaluate(run, split="all", cache=cache, device="cpu", bootstrap=0)
    assert result["data"]["subgroups"] == {"site": 51}
    assert len(result["subgroups"]["site"]) == 20
    assert result["subgroups"]["site"]["50"]["finding"]["n"] == 10


def test_multilabel(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study of run", n=30)
    rows = read_table(tmp_path / "study of run" / "studies.csv")
    write_table(
        tmp_path / "study of run" / "studies.csv",
        [row | {"a": i % 2, "b": "" if i % 3 == 0 else i % 4 // 2} for i, row in enumerate(rows)],
    )
    values = yaml.safe_load(study.read_text())
    values["tasks"] = {"signs": {"kind": "multilabel", "classes": ["a", "b"]}}
    study.write_text(yaml.safe_dump(values))
    result = evaluate(make_run(), cache=cache, device="cpu", bootstrap=10)
    assert "confusion" not in result["tasks"]["signs"]
    table = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert table["label:signs:b"].isna().sum() == 2


def test_patients_of_training_are_no_test(make_run: MakeRun, cache: Path) -> None:
    run = make_run(split={"train": 0.6, "val": 0.2, "test": 0.2})
    data = load_study(load_config(run / "study.yaml"), cache=cache)
    units = data.frame["unit"].to_numpy()
    seen = {split: digests(units[data.rows(split)]) for split in ("train", "val")}
    write_json(run / "seen.json", seen)
    assert evaluate(run, cache=cache, bootstrap=0)["n"] == len(data.rows("test"))
    write_json(run / "seen.json", seen | {"train": digests(units[data.rows("test")[:3]])})
    with pytest.raises(DataError, match=r"study row \d+: \d+ test studies belong to patients.*--study"):
        evaluate(run, cache=cache)


def test_unknown_split_and_no_run(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'holdout' is no split"):
        evaluate(make_run(n=30), split="holdout", device="cpu")
    with pytest.raises(RunError):
        evaluate(tmp_path / "nothing", device="cpu")
    run = make_run("bare", n=30)
    with pytest.raises(RunError, match="--study"):
        evaluate(run / "bundle", device="cpu")
