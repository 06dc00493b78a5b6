"""``mailnet watch`` with a model: what it answers is what the model predicts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from arrived import name_of, send, study_uid

import mailnet as library
from dicom_files import SECRETS, write
from factory import Command
from mailnet.bundle.weights import weights_digest
from mailnet.deploy.dicom import Wanted, dicom_results, facts_of
from mailnet.errors import ConfigError, DataError
from runs import MakeRun

RULES = ["--match", "ct: Modality=US", "--match", "photo: Modality=XC", "--match", "age=PatientAge"]
PLANES: dict[str, Any] = {"modalities": {"ct": {"slice": "all"}, "photo": None, "clinical": None}}


def send_photo(inbox: Path, number: int) -> Path:
    pixels = np.random.default_rng(number).integers(0, 255, (40, 32, 3), np.uint8)
    return write(inbox / f"photo-{number}.dcm", pixels, StudyInstanceUID=study_uid(number), Modality="XC",
                 SeriesInstanceUID=f"{study_uid(number)}.7", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.4",
                 PatientAge="051Y", PatientSex="F")  # fmt: skip


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    return make_run()


def test_it_answers_what_the_model_predicts(run: Path, tmp_path: Path, mailnet: Command) -> None:
    inbox, out = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    ct, photo = send(inbox, 1, PatientAge="051Y"), send_photo(inbox, 1)
    alone = send(inbox, 2)
    status, stdout, stderr = mailnet("watch", run, "--watch", inbox, "--out", out, "--once", "--quiet", 0,
                                     "--heatmap", "both", "--task", "grade", "--json", *RULES)  # fmt: skip
    assert (status, json.loads(stdout)) == (0, {"done": 2, "failed": 0, "late": 0})
    assert not any(secret in stderr for secret in SECRETS)
    predictor = library.load(run)
    expected = predictor.predict([{"ct": str(ct), "photo": str(photo), "age": 51.0}, {"ct": str(alone)}]).as_dicts()
    for number, prediction in zip((1, 2), expected, strict=True):
        folder = out / name_of(number)
        said = json.loads((folder / "prediction.json").read_text())
        assert said["study"]["absent"] == prediction["absent"]
        for task, answer in prediction["tasks"].items():
            assert said["study"]["tasks"][task]["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)
        report = pydicom.dcmread(folder / "report.dcm")
        assert report.StudyInstanceUID == study_uid(number)
    files = sorted(path.name for path in (out / name_of(1)).iterdir())
    assert files == ["heatmap-1.dcm", "heatmap-2.dcm", "prediction.json", "report.dcm"]
    assert pydicom.dcmread(out / name_of(1) / "heatmap-2.dcm").pixel_array.shape == (40, 32, 3)
    status, stdout, _ = mailnet("watch", run, "--watch", inbox, "--out", out, "--once", "--quiet", 0, "--json", *RULES)
    assert (status, json.loads(stdout)) == (0, {"done": 0, "failed": 0, "late": 0})


def test_a_model_of_planes_answers_studies_of_one(make_run: MakeRun, tmp_path: Path, mailnet: Command) -> None:
    run = make_run(**PLANES)
    inbox, out = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    one = send(inbox, 1)
    for image in range(3):
        send(inbox, 2, image=image, ImagePositionPatient=[0, 0, image])
    status, stdout, stderr = mailnet("watch", run, "--watch", inbox, "--out", out, "--once", "--quiet", 0, "--json")
    assert (status, json.loads(stdout)) == (0, {"done": 1, "failed": 1, "late": 0})
    assert f"{name_of(2)}: modality ct: has 3 planes, which the model answers one by one" in stderr
    said = json.loads((out / name_of(1) / "prediction.json").read_text())["study"]["tasks"]
    expected = library.load(run).predict({"ct": str(one)}).as_dicts()[0]["tasks"]
    for task, answer in expected.items():
        assert said[task]["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)


def test_results_of_two_patients_are_not_made(run: Path, tmp_path: Path) -> None:
    predictor = library.load(run)
    ct, photo = send(tmp_path, 1), send_photo(tmp_path, 1)
    renamed = pydicom.dcmread(photo)
    renamed.PatientID = "another"
    renamed.save_as(photo)
    sources = {"ct": [str(ct)], "photo": [str(photo)]}
    with pytest.raises(DataError, match="different patients"):
        dicom_results(predictor, facts_of(predictor, run), {"ct": str(ct), "photo": str(photo)}, sources)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "which series is 'ct'"),
        ([*RULES, "--heatmap", "png"], "no heat map 'png'"),
        ([*RULES, "--heatmap", "sc", "--task", "gender"], "no task 'gender'"),
        ([*RULES, "--heatmap", "sc", "--method", "guess"], "no method 'guess'"),
        ([*RULES, "--dicom-port", "0", "--dicom-host", "0.0.0.0"], "nobody is named who may send"),
    ],
)
def test_wrong_options(run: Path, tmp_path: Path, mailnet: Command, options: list[str], said: str) -> None:
    status, _, stderr = mailnet("watch", run, "--watch", tmp_path, "--out", tmp_path.parent / "out", *options)
    assert status == 2
    assert said in stderr


def test_results_of_a_prediction_that_was_made_already(run: Path, tmp_path: Path) -> None:
    predictor = library.load(run)
    row: dict[str, Any] = {"ct": str(send(tmp_path, 1)), "age": 40, "site": "north"}
    prediction = predictor.predict(row).as_dicts()[0]
    facts = facts_of(predictor, run)
    assert facts.weights == weights_digest(run)
    given = dict(dicom_results(predictor, facts, row, {"ct": [row["ct"]]}, prediction=prediction))
    made = dict(dicom_results(predictor, facts, row, {"ct": [row["ct"]]}))
    names = [pydicom.dcmread(io.BytesIO(one["report.dcm"])).SOPInstanceUID for one in (given, made)]
    assert names[0] == names[1]
    assert json.loads(given["prediction.json"]) == json.loads(made["prediction.json"])


def test_what_cannot_be_made(run: Path, tmp_path: Path) -> None:
    predictor = library.load(run)
    facts = facts_of(predictor, run)
    row = {"ct": str(send(tmp_path, 1))}
    with pytest.raises(ConfigError, match="task"):
        dicom_results(predictor, facts, row, {"ct": [row["ct"]]}, wanted=Wanted("sc", ("gender",)))
    with pytest.raises(DataError, match="of one study"):
        dicom_results(predictor, facts, row, {})
