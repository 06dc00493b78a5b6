"""Cells that training has not seen are told from missing ones, by columns and without values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dicom_files import SECRETS, write
from factory import Command
from mailnet.bundle import load
from mailnet.bundle.odd import Odd, odd_cells
from mailnet.data.numeric import NumericState
from mailnet.data.table import CategoricalState, TableState

MakeRun = Callable[..., Path]


def test_unseen_missing_and_far_are_three_things() -> None:
    numbers = NumericState(("age", "count"), (50.0, 2.0), (10.0, 1.0), (50.0, 2.0), ("age missing", ""), (False, False))
    state = TableState("lab", numbers, (CategoricalState("site", ("1", "b"), False),))
    texts = {"site": ["1.0", "", "c", "B", "b"]}
    features = np.zeros((5, len(state.features)), np.float32)
    features[3, 0], features[4, 2] = -10, 9.9
    features[:, 1] = 11  # a flag is no number
    assert odd_cells(state, texts, [*features[:4], None]) == [
        Odd(), Odd(), Odd(("site",)), Odd(("site",), ("age",)), Odd(),
    ]  # fmt: skip
    assert odd_cells(state, texts, list(features))[4] == Odd()


def test_it_is_said_in_words_of_ten_columns_at_most() -> None:
    both = Odd(("site",), ("age",))
    far = "age is 10 standard deviations or more from the mean of training"
    assert both.words(ranged=False) == ["site has a value that no training study had", far]
    assert both.words(ranged=True) == ["site has a value that no training study had"]
    many = Odd(far=tuple(f"gene{k}" for k in range(30))).words(ranged=False)
    assert len(many) == 11
    assert many[-1] == "20 more columns are unlike in training studies"


def test_predictions_warn_without_anything_fitted(make_run: MakeRun, tmp_path: Path, mailnet: Command) -> None:
    run = make_run()
    given = [
        {"age": 5000, "site": "Atlantis"},
        {"age": "", "site": "north", "ct": None},
        {"age": 50, "site": ""},
    ]
    predictor = load(run, "cpu")
    found = predictor.predict(given).warnings()
    known = predictor.tables["clinical"].categorical[0].values
    assert found[0] == [
        "clinical: site has a value that no training study had",
        "clinical: age is 10 standard deviations or more from the mean of training",
    ]
    assert found[1:] == [[] if "north" in known else ["clinical: site has a value that no training study had"], []]
    (tmp_path / "odd.csv").write_text("age,site\n5000,Atlantis\n50,\n")
    status, out, err = mailnet("predict", run, tmp_path / "odd.csv", "--device", "cpu", "--json")
    assert status == 0, err
    assert "Of 1 of 2 studies something is odd" in err
    assert "Atlantis" not in out + err
    assert [len(study["warnings"]) for study in json.loads(out)["predictions"]] == [2, 0]


def test_modalities_of_two_patients_are_told_without_a_name(make_run: MakeRun, tmp_path: Path) -> None:
    predictor = load(make_run(), "cpu")
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)

    def given(folder: str, **tags: str) -> dict[str, str]:
        ct = write(tmp_path / folder / "ct.dcm", picture[..., 0], Modality="OT")
        return {"ct": str(ct), "photo": str(write(tmp_path / folder / "photo.dcm", picture, Modality="OT", **tags))}

    studies = [given("same"), given("other", PatientID="OTHER1", PatientBirthDate="19500101"), {"age": "50"}]
    found = predictor.predict(studies)
    assert found.warnings() == [
        [],
        ["the DICOM headers of ct and photo are of different patients (PatientID, PatientBirthDate)"],
        [],
    ]
    assert not [secret for secret in [*SECRETS, "OTHER1", "19500101"] if secret in json.dumps(found.as_dicts())]
    assert predictor.predict(studies, without=["ct"]).warnings() == [[], [], []]
