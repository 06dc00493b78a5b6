from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mailnet.data.check import CheckReport, check_study
from mailnet.data.config import StudyConfig

Make = Callable[..., StudyConfig]
Rows = list[dict[str, str]]


def found(report: CheckReport, word: str) -> list[dict[str, str]]:
    """The problems whose message has ``word`` in it."""
    return [problem.as_dict() for problem in report.problems if word in problem.message]


def test_a_whole_study_has_no_problem_and_is_counted(study: Make) -> None:
    report = check_study(study())
    assert report.ok
    assert {finding.kind for finding in report.findings} <= {"few-of-a-class", "brightness"}
    assert report.leaks == []
    assert (report.studies, report.groups) == (60, 30)
    assert report.splits == {"train": 36, "val": 12, "test": 12}
    assert report.classes["finding"]["left"] == {"train": 12, "val": 4, "test": 4}
    assert report.present["clinical"] == report.splits
    assert report.sizes == {"ct": {"32 x 32": 60}, "photo": {"32 x 32": 60}}
    assert json.loads(json.dumps(report.as_dict()))["ok"] is True


def test_an_unpaired_study_is_counted_by_modality(study: Make) -> None:
    report = check_study(study(regime="unpaired", n=60))
    assert report.ok
    assert sum(report.present["ct"].values()) == 60
    assert sum(report.present["photo"].values()) == 30
    assert sum(count["train"] for count in report.classes["risk"].values()) == report.present["clinical"]["train"]


def spoil(rows: Rows) -> Rows:
    rows[0]["ct"] = "images/gone.png"
    rows[1]["ct"] = "../../outside.png"
    rows[2]["finding"] = "lefft"
    rows[3]["split"] = "test"
    return [row for row in rows if row["grade"] == "low" or row["split"] != "train"]


def test_all_that_is_wrong_is_found_in_one_pass(study: Make, tmp_path: Path) -> None:
    clinical = {"kind": "tabular", "numeric": ["age"], "categorical": ["site"], "required": ["age"]}
    config = study(spoil, modalities={"clinical": clinical}, subgroups=["place"])
    images = tmp_path / "study" / "images"
    whole = (images / "ct006.png").read_bytes()
    (images / "ct006.png").write_bytes(whole[: len(whole) // 2])
    (images / "ct007.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(images / "ct008.png")

    report = check_study(config)
    assert not report.ok
    (missing,) = found(report, "does not exist")
    assert (missing["study"], missing["modality"], Path(missing["file"]).name) == ("s000", "ct", "gone.png")
    assert found(report, "leaves the data root")[0]["study"] == "s001"
    assert {Path(p["file"]).name for p in found(report, "cannot be decoded")} == {"ct006.png", "ct007.png"}
    assert "3 channels" in found(report, "channel")[0]["message"]
    assert "left" in found(report, "is 'lefft', which is no class")[0]["remedy"]
    assert found(report, "the class 'high' has no training example")[0]["task"] == "grade"
    assert found(report, "group 'p001' is in the splits")
    assert found(report, "'age' is required and has no value")[0]["study"] == "s008"
    assert found(report, "names the column 'place'")
    assert all("remedy" in problem for problem in report.as_dict()["problems"])


def test_a_bad_image_does_not_hide_a_bad_table(study: Make, tmp_path: Path) -> None:
    def emptied(rows: Rows) -> None:
        for row in rows:
            row["age"] = ""

    config = study(emptied)
    (tmp_path / "study" / "images" / "ct000.png").unlink()
    messages = [problem["message"] for problem in check_study(config).as_dict()["problems"]]
    assert messages == ["the file does not exist", "'age' has no value in any training study"]


def test_values_outside_the_declared_range(study: Make) -> None:
    report = check_study(study(modalities={"ct": {"range": [0, 20]}}))
    assert len(found(report, "outside the declared range")) == 60


def test_an_empty_split(study: Make) -> None:
    def no_validation(rows: Rows) -> Rows:
        return [row for row in rows if row["split"] != "val"]

    assert found(check_study(study(no_validation)), "the split 'val' is empty")


def test_the_same_picture_in_two_splits_is_a_leak(study: Make, tmp_path: Path) -> None:
    config = study()
    images = tmp_path / "study" / "images"
    # Row 0 is training, row 18 validation; another file of the same pixels, and not a duplicate of row 1.
    Image.open(images / "ct000.png").save(images / "ct018.png", compress_level=0)
    (images / "ct001.png").write_bytes((images / "ct000.png").read_bytes())
    report = check_study(config)
    assert report.ok
    assert report.status == 1
    (leak,) = [leak for leak in report.leaks if leak.kind == "exact-duplicates"]
    assert (leak.modality, leak.numbers) == ("ct", {"pairs": 1, "val": 1})
    assert report.names(leak.places[0]) == ["s000 (train)", "s018 (val)"]
    (found,) = [leak for leak in report.as_dict()["leaks"] if leak["kind"] == "exact-duplicates"]
    assert (found["rows"], found["studies"]) == ([[1, 19]], [["s000", "s018"]])
    assert "studies" not in report.as_dict(named=False)["leaks"][0]


def test_a_table_that_is_not_there_is_the_only_problem(study: Make, tmp_path: Path) -> None:
    config = study()
    (tmp_path / "study" / "studies.csv").unlink()
    report = check_study(config)
    assert [problem.message for problem in report.problems] == ["the table does not exist"]
    assert report.studies == 0


@pytest.mark.parametrize("broken", ["nan", "inf"])
def test_float_images_of_no_number(study: Make, tmp_path: Path, broken: str) -> None:
    def use_npy(rows: Rows) -> None:
        rows[0]["ct"] = "images/float.npy"

    config = study(use_npy, modalities={"ct": {"range": [0, 255]}})
    np.save(tmp_path / "study" / "images" / "float.npy", np.full((8, 8), float(broken)))
    assert found(check_study(config), "NaN or infinite")[0]["study"] == "s000"
