"""Predictions in parts: each study once, whoever makes which part and whoever is killed when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from factory import Command
from mailnet.bundle import Predictor, load, parts, save_bundle
from mailnet.bundle.parts import digest_model, predict_parts
from mailnet.bundle.requests import read_studies
from mailnet.bundle.share import Share
from mailnet.data.config import load_config
from mailnet.data.study import load_study
from mailnet.errors import DataError, RunError
from mailnet.files import write_first_json
from mailnet.nn import create_model

STUDIES = 23


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle of a network of two columns, and its table without identifiers."""
    folder = tmp_path_factory.mktemp("parts")
    values = np.random.default_rng(0).normal(size=(STUDIES, 2))
    frame = pd.DataFrame(values, columns=["age", "dose"])
    frame["y"] = np.arange(STUDIES) % 2
    frame["split"] = ["train", "train", "val", "test"] * 5 + ["train"] * 3
    frame.to_csv(folder / "studies.csv", index=False)
    (folder / "study.yaml").write_text(
        "name: lab\nmanifest: studies.csv\nsplit: split\n"
        "modalities: {lab: {kind: tabular, numeric: [age, dose]}}\n"
        "tasks: {y: {kind: binary, classes: [0, 1]}}\n"
    )
    data = load_study(load_config(folder / "study.yaml"))
    torch.manual_seed(0)
    model = create_model("mail", data.modalities, data.tasks, width="nano")
    return save_bundle(folder / "bundle", model, "mail", {"width": "nano"}, data.config, data.tables), folder


@pytest.fixture
def predictor(made: tuple[Path, Path]) -> Predictor:
    return load(made[0])


def together(folder: Path) -> pd.DataFrame:
    """The folder as one data set, as any reader of Parquet sees it."""
    return pd.read_parquet(folder)


def test_shares_make_each_study_once_and_as_in_one_go(
    made: tuple[Path, Path], predictor: Predictor, tmp_path: Path
) -> None:
    table = read_studies(made[1] / "studies.csv")
    for index in (2, 0, 1):
        done = predict_parts(predictor, table, tmp_path / "out", model="m", size=4, share=Share(index, 3))
    assert (done.parts, done.there) == (6, 6)
    whole = predictor.predict(made[1] / "studies.csv").to_frame()
    pd.testing.assert_frame_equal(together(tmp_path / "out"), whole)


def test_what_is_missing_is_made_and_nothing_else(
    made: tuple[Path, Path], predictor: Predictor, tmp_path: Path
) -> None:
    table, out = read_studies(made[1] / "studies.csv"), tmp_path / "out"
    predict_parts(predictor, table, out, model="m", size=5)
    before = {file.name: file.stat().st_mtime_ns for file in out.glob("part-*")}
    (out / "part-000002.parquet").unlink()
    done = predict_parts(predictor, table, out, model="m", size=5)
    assert (done.made, done.there) == (1, 5)
    after = {file.name: file.stat().st_mtime_ns for file in out.glob("part-*")}
    assert [name for name in before if before[name] != after[name]] == ["part-000002.parquet"]


@pytest.mark.parametrize("change", ["model", "size", "table", "without"])
def test_parts_of_something_else_are_refused(
    change: str, made: tuple[Path, Path], predictor: Predictor, tmp_path: Path
) -> None:
    table = read_studies(made[1] / "studies.csv")
    predict_parts(predictor, table, tmp_path, model="m", size=8)
    other = table.take(range(1, STUDIES)) if change == "table" else table
    with pytest.raises(RunError, match="parts of another command"):
        predict_parts(
            predictor,
            other,
            tmp_path,
            model="n" if change == "model" else "m",
            size=9 if change == "size" else 8,
            without=["lab"] if change == "without" else [],
        )


def test_a_folder_with_other_things_is_refused(made: tuple[Path, Path], predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else"):
        predict_parts(predictor, read_studies(made[1] / "studies.csv"), tmp_path, model="m")


def test_bad_studies_stop_or_are_listed(made: tuple[Path, Path], predictor: Predictor, tmp_path: Path) -> None:
    frame = pd.read_csv(made[1] / "studies.csv", dtype=str)
    frame.loc[9, "age"] = "much"
    frame.to_csv(tmp_path / "bad.csv", index=False)
    table = read_studies(tmp_path / "bad.csv")
    with pytest.raises(DataError, match="row 10"):
        predict_parts(predictor, table, tmp_path / "stopped", model="m", size=4)
    assert len(list((tmp_path / "stopped").glob("part-*"))) == 2
    done = predict_parts(predictor, table, tmp_path / "out", model="m", size=4, skip_bad=True)
    assert done.bad == 1
    assert json.loads((tmp_path / "out" / "_bad-000002.json").read_text())[0]["study"] == "row 10"
    assert "row 10" not in set(together(tmp_path / "out")["id"])
    assert len(together(tmp_path / "out")) == STUDIES - 1


def test_a_part_without_a_study_that_can_be_read_leaves_the_others_as_they_are(
    made: tuple[Path, Path], predictor: Predictor, tmp_path: Path
) -> None:
    frame = pd.read_csv(made[1] / "studies.csv", dtype=str)
    frame.loc[:3, "age"] = "much"
    frame.to_csv(tmp_path / "bad.csv", index=False)
    table, out = read_studies(tmp_path / "bad.csv"), tmp_path / "out"
    done = predict_parts(predictor, table, out, model="m", size=4, skip_bad=True)
    assert (done.parts, done.there, done.made, done.bad) == (6, 6, 6, 4)
    whole = predictor.predict(tmp_path / "bad.csv", skip_bad=True).to_frame()
    pd.testing.assert_frame_equal(together(out), whole)
    assert predict_parts(predictor, table, out, model="m", size=4, skip_bad=True).made == 0


def test_of_two_that_begin_at_once_with_different_plans_one_is_refused(
    made: tuple[Path, Path], predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_studies(made[1] / "studies.csv")

    def late(file: Path, plan: dict[str, Any]) -> Any:
        write_first_json(file, {**plan, "model": "other"})  # of the other, who comes first by a moment
        return write_first_json(file, plan)

    monkeypatch.setattr(parts, "write_first_json", late)
    with pytest.raises(RunError, match="its model differs"):
        predict_parts(predictor, table, tmp_path / "out", model="m", size=4)
    assert [file.name for file in (tmp_path / "out").iterdir()] == [parts.PLAN]


def test_what_a_killed_process_could_not_read_is_forgotten_once_it_can_be(
    made: tuple[Path, Path], predictor: Predictor, tmp_path: Path
) -> None:
    table = read_studies(made[1] / "studies.csv")
    tmp_path.joinpath(".before").touch()
    predict_parts(predictor, table, tmp_path, model="m", size=8, share=Share(0, 3), skip_bad=True)
    (tmp_path / "_bad-000001.json").write_text('[{"message": "no number"}]')
    done = predict_parts(predictor, table, tmp_path, model="m", size=8, skip_bad=True)
    assert (done.bad, list(tmp_path.glob("_bad-*"))) == (0, [])


def test_a_model_is_known_by_its_files(made: tuple[Path, Path], tmp_path: Path) -> None:
    assert digest_model(made[0]) == digest_model(made[0])
    for file in made[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "README.md").write_text("said otherwise")
    assert digest_model(tmp_path) == digest_model(made[0])
    (tmp_path / "calibration.json").write_text("{}")
    assert digest_model(tmp_path) != digest_model(made[0])


@pytest.mark.parametrize("share", ["4/4", "-1/4", "1", "a/b", "1/0"])
def test_a_share_that_is_none_is_refused(share: str, made: tuple[Path, Path], tmp_path: Path, mailnet: Command) -> None:
    table = made[1] / "studies.csv"
    code, _, said = mailnet("predict", made[0], table, "--out", tmp_path / "o", "--parts", 4, "--share", share)
    assert code == 2
    assert "I/N" in said
    assert not (tmp_path / "o").exists()


def test_the_command_counts(made: tuple[Path, Path], tmp_path: Path, mailnet: Command) -> None:
    command = ["predict", made[0], made[1] / "studies.csv", "--out", tmp_path / "o"]
    code, out, _ = mailnet(*command, "--parts", 4, "--share", "1/2", "--json")
    assert code == 0
    assert json.loads(out) == {
        "out": str(tmp_path / "o"), "rows": STUDIES, "parts": 6, "there": 3, "made": 3, "bad": 0,
    }  # fmt: skip
    assert mailnet(*command, "--share", "1/2")[0] == 2  # without --parts
    assert mailnet(*command[:-1], tmp_path / "o.csv", "--parts", 4)[0] == 2
    assert not (tmp_path / "o.csv").exists()


def test_killed_and_begun_again_each_study_is_there_once(made: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A model that needs no torch, so that the processes start quickly; what is asked of it here is the same.
    script = (
        "import sys, time\n"
        "from mailnet.bundle.parts import predict_parts\n"
        "from mailnet.bundle.share import Share\n"
        "from mailnet.bundle.requests import gather, read_studies\n"
        "from mailnet.data.config import load_config\n"
        "class Model:\n"
        "    modalities = {}\n"
        "    def predict(self, table, **asked):\n"
        "        ids = gather(table, load_config(sys.argv[1]).modalities).ids\n"
        "        class Said(list):\n"
        "            bad = []\n"
        "            def to_frame(self):\n"
        "                import pandas\n"
        "                return pandas.DataFrame({'id': ids})\n"
        "        return Said(ids)\n"
        "predict_parts(Model(), read_studies(sys.argv[2]), sys.argv[3], model='m', size=1,\n"
        "              share=Share(int(sys.argv[4]), 2), say=lambda text: time.sleep(0.02))\n"
    )

    def start(index: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", script, *(str(made[1] / name) for name in ("study.yaml", "studies.csv"))]
        return subprocess.Popen([*command, str(out), str(index)])

    one, other = start(0), start(1)
    while not list(out.glob("part-*")) and one.poll() is None:
        time.sleep(0.01)
    os.kill(one.pid, signal.SIGKILL)
    one.wait()
    assert start(0).wait() == other.wait() == 0
    assert sorted(together(out)["id"]) == sorted(f"row {n}" for n in range(1, STUDIES + 1))
