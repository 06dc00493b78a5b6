"""Models that can do less: exported folders, which explain nothing, and networks that need every modality."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from exported_folder import write_exported
from pydicom import dcmread
from served import client_of, colour, grey, refusal, run, table, write_run

from dicom_files import PATIENT, write
from mailnet.deploy.runtime import RuntimePredictor
from mailnet.deploy.service.schemas import ExplainAnswer, ModelsAnswer

__all__ = ["run"]


def test_an_exported_folder_is_served_without_its_run(run: Path, tmp_path: Path) -> None:
    folder = write_exported(run, tmp_path / "exported")
    predictor = RuntimePredictor(folder)
    (tmp_path / "photo.png").write_bytes(colour(2))
    study = {"photo": str(tmp_path / "photo.png"), "age": 61}
    with client_of(folder) as client:
        url = "/v1/predict?without=true"
        answer = client.post(url, files={"photo": colour(2)}, data=table(age=61)).json()
        expected, hidden = (predictor.predict(study, without=names).as_dicts()[0] for names in ((), ("photo",)))
        assert answer["study"] == json.loads(json.dumps(expected))
        probabilities = {task: said["probabilities"] for task, said in hidden["tasks"].items()}
        assert answer["without"]["photo"] == json.loads(json.dumps(probabilities))
        (info,) = ModelsAnswer.model_validate(client.get("/v1/models").json()).models
        assert (info.name, info.explains) == ("exported", [])
        refusal(client.post("/v1/explain", files={"ct": grey()}), 422)


def test_a_network_that_needs_all_modalities_says_so(tmp_path: Path) -> None:
    options = {"widths": [16, 32]}
    changes = {"modalities": {"clinical": None}, "model": {"name": "mail_reference", "options": None}}
    run = write_run(tmp_path, options, **changes)[0]
    both = {"ct": grey(), "photo": colour()}
    with client_of(run) as client:
        assert client.post("/v1/predict?without=true", files=both).json()["without"] == {}
        error = refusal(client.post("/v1/predict", files={"ct": grey()}), 422)
        assert "no photo, which this model cannot do without" in error["message"]
        found = ExplainAnswer.model_validate(client.post("/v1/explain?method=gradient", files=both).json())
        assert (found.shares, sorted(found.maps)) == ({}, ["ct", "photo"])


def test_dicom_files_are_answered_as_dicom_files(run: Path, tmp_path: Path) -> None:
    plane = np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)
    content = write(tmp_path / "ct.dcm", plane).read_bytes()
    with client_of(run) as client:
        answer = client.post("/v1/dicom", files={"ct": content, "photo": colour()}, data=table(age=61))
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            names = archive.namelist()
            report = dcmread(io.BytesIO(archive.read("report.dcm")))
        assert report.Modality == "SR"
        assert report.PatientID == PATIENT["PatientID"]
        assert len([name for name in names if name.startswith("heatmap-")]) == 2  # of each task
        plain = client.post("/v1/dicom?heatmap=none", files={"ct": content})
        assert len(plain.content) < len(answer.content)
        refusal(client.post("/v1/dicom?heatmap=x", files={"ct": content}), 422)
        refusal(client.post("/v1/dicom", files={"ct": grey()}), 422)
        refusal(client.post("/v1/dicom", files={"ct": content[:300]}), 422)
        assert not list(client.app.state.desk._root.iterdir())  # type: ignore[attr-defined]
