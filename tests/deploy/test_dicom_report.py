"""The Structured Report of a prediction, read back as others read it."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import highdicom as hd
import pydicom
import pytest
from arrived import FACTS, PREDICTION, send, study_uid
from pydicom.dataset import Dataset

from dicom_files import PATIENT, SECRETS
from mailnet.deploy.dicom import Results, results_of
from mailnet.deploy.dicom.facts import RESEARCH
from mailnet.errors import DataError

Items = list[tuple[str, Any]]  # meaning of the name, value


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, list[Path]]:
    return {"left": [send(tmp_path, 1), send(tmp_path, 1, image=1)], "right": [send(tmp_path, 1, "right")]}


def made_of(files: dict[str, list[Path]], prediction: dict[str, Any] = PREDICTION) -> Results:
    return results_of(prediction, FACTS, files)


def report_of(files: dict[str, list[Path]], prediction: dict[str, Any] = PREDICTION) -> Dataset:
    return pydicom.dcmread(io.BytesIO(dict(made_of(files, prediction))["report.dcm"]))


def items(container: Any) -> Items:
    found: Items = []
    for item in container.ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "CODE":
            found.append((name, item.ConceptCodeSequence[0].CodeMeaning))
        elif item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            found.append((name, (float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue)))
        elif item.ValueType == "TEXT":
            found.append((name, item.TextValue))
    return found


def groups(report: Dataset) -> dict[str, Items]:
    measured = next(
        item for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    )  # fmt: skip
    listed = [items(group) for group in measured.ContentSequence]
    return {str(dict(one)["Tracking Identifier"]): one for one in listed}


def test_it_belongs_to_the_patients_study(sources: dict[str, list[Path]]) -> None:
    report = report_of(sources)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyTime",
                    "StudyID", "ReferringPhysicianName"):  # fmt: skip
        assert str(report[keyword].value) == PATIENT[keyword]
    assert (report.StudyInstanceUID, report.PatientSex, report.Modality) == (study_uid(1), "F", "SR")
    source = pydicom.dcmread(sources["left"][0])
    assert report.SeriesInstanceUID != source.SeriesInstanceUID
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    names = {item.ReferencedSOPInstanceUID for series in evidence for item in series.ReferencedSOPSequence}
    assert names == {pydicom.dcmread(file).SOPInstanceUID for files in sources.values() for file in files}


def test_it_is_a_measurement_report_to_other_readers(sources: dict[str, list[Path]], tmp_path: Path) -> None:
    (tmp_path / "report.dcm").write_bytes(dict(made_of(sources))["report.dcm"])
    read = hd.sr.srread(tmp_path / "report.dcm")
    assert isinstance(read, hd.sr.ComprehensiveSR)
    assert (read.CompletionFlag, read.VerificationFlag, read.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    content = hd.sr.MeasurementReport.from_sequence([hd.sr.ContentItem._from_dataset_base(read)])
    found = content.get_image_measurement_groups()
    assert len(found) == 3


def test_probabilities_sets_and_abstention(sources: dict[str, list[Path]]) -> None:
    task = groups(report_of(sources))["mailnet: pathology"]
    assert ("Probability of benign", (12.7, "%")) in task
    assert ("Probability of malignant", (87.3, "%")) in task
    assert ("Most probable class", "malignant") in task
    assert [value for name, value in task if name == "Member of the prediction set"] == ["malignant"]
    assert ("Model sure enough to answer", "No") in task


def test_labels_of_a_multilabel_task(sources: dict[str, list[Path]]) -> None:
    task = groups(report_of(sources))["mailnet: signs"]
    assert ("mass", "Present") in task
    assert ("Verkalkung, größer", "Absent") in task
    assert ("Undecided by the prediction set", "Verkalkung, größer") in task


def test_an_empty_set_is_said(sources: dict[str, list[Path]]) -> None:
    prediction = copy.deepcopy(PREDICTION)
    prediction["tasks"]["pathology"]["set"] = []
    task = groups(report_of(sources, prediction))["mailnet: pathology"]
    assert ("Member of the prediction set", "None of the classes") in task


def test_inputs_absent_and_foreign(sources: dict[str, list[Path]]) -> None:
    given = groups(report_of(sources))["mailnet: inputs"]
    assert ("Input clinical", "Absent") in given
    assert ("Input left unlike the training data", "Yes") in given
    assert ("Input right unlike the training data", "No") in given
    assert ("p-value of input left being like training data", (0.003, "1")) in given


def test_the_model_is_named_and_use_limited(sources: dict[str, list[Path]]) -> None:
    report = report_of(sources)
    task = groups(report)["mailnet: pathology"]
    assert ("Algorithm Name", "breast (mail)") in task
    assert ("Algorithm Version", "0.1.0") in task
    assert ("Algorithm Parameters", f"weights SHA-256 {FACTS.weights}") in task
    assert ("Algorithm Parameters", "noise mode mean, draws 10, seed 0") in task
    texts = [value for name, value in items(report) if name == "Comment"]
    assert texts[0] == RESEARCH
    assert any("not sure enough" in text for text in texts)


def test_made_twice_it_is_the_same_object(sources: dict[str, list[Path]]) -> None:
    first, again = report_of(sources), report_of(sources)
    other = copy.deepcopy(PREDICTION)
    other["tasks"]["pathology"]["probabilities"] = {"benign": 0.2, "malignant": 0.8}
    changed = report_of(sources, other)
    assert first.SOPInstanceUID == again.SOPInstanceUID != changed.SOPInstanceUID
    assert first.SeriesInstanceUID == changed.SeriesInstanceUID
    assert first.SOPInstanceUID.is_valid


def test_names_in_another_alphabet_survive(tmp_path: Path) -> None:
    path = send(tmp_path, 1, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    assert str(report_of({"left": [path]}).PatientName) == "Müller^Jürgen"
    path = send(tmp_path, 2, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎")
    assert str(report_of({"left": [path]}).PatientName) == "Yamada^Tarou=山田^太郎"


@pytest.mark.parametrize("keyword", ["PatientBirthDate", "StudyDate", "StudyTime", "PatientSex", "AccessionNumber"])
def test_what_a_source_lacks_is_empty(tmp_path: Path, keyword: str) -> None:
    tags: dict[str, Any] = {keyword: None}
    assert str(report_of({"left": [send(tmp_path, 1, **tags)]})[keyword].value or "") == ""


def test_broken_values_are_left_out(tmp_path: Path) -> None:
    path = send(tmp_path, 1, PatientSex="X")
    content = path.read_bytes().replace(b"19370423", b"1937-4-2").replace(b"20190817", b"yestrday")
    path.write_bytes(content)
    report = report_of({"left": [path]})
    assert (report.PatientSex or "", report.PatientBirthDate or "", report.StudyDate or "") == ("", "", "")


def test_long_names_of_classes_fit_their_elements(sources: dict[str, list[Path]]) -> None:
    report = report_of(sources)
    for element in report.iterall():
        if element.keyword in ("CodeMeaning", "CodeValue"):
            assert len(element.value) <= (64 if element.keyword == "CodeMeaning" else 16)


def test_files_of_two_studies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of 2 studies"):
        made_of({"left": [send(tmp_path, 1)], "right": [send(tmp_path, 2, "right")]})


def test_an_error_names_no_patient(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no SeriesInstanceUID") as raised:
        made_of({"left": [send(tmp_path, 1, SeriesInstanceUID=None)]})
    assert not any(secret in str(raised.value) for secret in SECRETS)


def test_json_says_the_same(sources: dict[str, list[Path]]) -> None:
    said = json.loads(dict(made_of(sources))["prediction.json"])
    assert said["study"]["tasks"] == PREDICTION["tasks"]
    assert (said["StudyInstanceUID"], said["model"]["weights"], said["files"]) == (
        study_uid(1), FACTS.weights, ["report.dcm"],
    )  # fmt: skip
