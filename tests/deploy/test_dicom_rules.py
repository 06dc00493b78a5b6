"""Which images are which modality, and what a folder holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from arrived import name_of, send

from dicom_files import SECRETS, dataset
from mailnet.data.config import ImageConfig, ModalityConfig, TabularConfig
from mailnet.deploy.dicom.inbox import Inbox
from mailnet.deploy.dicom.rules import Rules, rules_for, unselected
from mailnet.errors import ConfigError, DataError

ONE: dict[str, ModalityConfig] = {"us": ImageConfig()}
TWO: dict[str, ModalityConfig] = {
    "left": ImageConfig(),
    "right": ImageConfig(),
    "clinical": TabularConfig(kind="tabular", numeric=["age"], categorical=["sex"]),
}
VIEWS = ["left: SeriesDescription=*LEFT", "right: SeriesDescription=*right, Modality=US"]


def test_the_only_image_needs_no_rule() -> None:
    assert rules_for(ONE).modalities == {"us": {}}


def test_a_modality_is_known_by_its_own_select() -> None:
    own: dict[str, ModalityConfig] = {
        "t1": ImageConfig(select={"SeriesDescription": "*T1*"}),
        "t2": ImageConfig(select={"EchoTime": "9*"}),
    }
    assert rules_for(own).modalities["t2"] == {"EchoTime": "9*"}
    assert rules_for(own, ["t2: SeriesDescription=*T2*"]).modalities["t2"] == {"SeriesDescription": "*T2*"}
    assert unselected(own)["t1"] == ImageConfig()


def test_rules_of_a_file_and_of_options(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "modalities: {left: {ImageLaterality: L}, right: {ImageLaterality: R}}\ncolumns: {age: PatientAge}\n"
    )
    rules = rules_for(TWO, ["left: SeriesDescription=*L*", "sex=PatientSex"], file)
    assert rules.modalities == {"left": {"SeriesDescription": "*L*"}, "right": {"ImageLaterality": "R"}}
    assert rules.columns == {"age": "PatientAge", "sex": "PatientSex"}


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ([], "which series is 'left'"),
        (["left"], "is no rule"),
        (["left: SeriesDescription"], "is no rule"),
        (["lefd: Modality=US"], "no image 'lefd'"),
        ([*VIEWS, "left: SeriesDescripton=a"], "no DICOM keyword"),
        ([*VIEWS, "left: PatientName=a"], "may identify a patient"),
        ([*VIEWS, "weight=PatientWeight"], "no column 'weight'"),
        ([*VIEWS, "age=PatientAges"], "no DICOM keyword"),
    ],
)
def test_wrong_rules(match: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rules_for(TWO, match)


@pytest.mark.parametrize("text", ["- left", "modalitys: {}", "modalities: [left]", "a: ["])
def test_wrong_files_of_rules(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"rules\.yaml"):
        rules_for(TWO, VIEWS, file)


def test_models_that_no_study_fits() -> None:
    with pytest.raises(ConfigError, match="needs a mask of each image"):
        rules_for({"ct": ImageConfig(slice="largest", mask="mask")})
    assert rules_for({"ct": ImageConfig(slice="all")}).modalities == {"ct": {}}
    with pytest.raises(ConfigError, match="reads no image"):
        rules_for({"clinical": TWO["clinical"]})


@pytest.mark.parametrize(("age", "years"), [("043Y", 43), ("018M", 1.5), ("026W", 0.498), ("", None), ("43", "43")])
def test_columns_come_from_the_header(age: str, years: object) -> None:
    header = dataset(np.zeros((8, 8), np.uint8), PatientAge=age, PatientSex="F")
    values = Rules({"us": {}}, {"age": "PatientAge", "sex": "PatientSex"}).values(header)
    assert values == {"sex": "F", **({} if years is None else {"age": years})}


def test_studies_are_told_by_their_uids_and_views_by_rules(tmp_path: Path) -> None:
    rules = rules_for(TWO, VIEWS)
    for number in (1, 2):
        send(tmp_path, number)
        send(tmp_path, number, image=1)
    (tmp_path / "deeper").mkdir()
    send(tmp_path / "deeper", 2, "right")
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / ".hidden.dcm").write_bytes((tmp_path / "study-1-left-0.dcm").read_bytes())
    (tmp_path / "link.dcm").symlink_to(tmp_path / "study-1-left-0.dcm")
    (tmp_path / "twice.dcm").write_bytes((tmp_path / "study-1-left-0.dcm").read_bytes())
    found = Inbox(tmp_path, rules).scan()
    assert set(found) == {name_of(1), name_of(2)}
    assert {name: len(images) for name, images in found[name_of(1)].series(rules).items()} == {"left": 2}
    assert {name: len(images) for name, images in found[name_of(2)].series(rules).items()} == {"left": 2, "right": 1}


def test_a_study_that_does_not_fit_says_why(tmp_path: Path) -> None:
    rules = rules_for(TWO, VIEWS, complete=True)
    send(tmp_path, 1)
    send(tmp_path, 2, SeriesDescription="scout")
    send(tmp_path, 3)
    send(tmp_path, 3, "right", SeriesDescription="view left")
    found = Inbox(tmp_path, rules).scan()
    for number, said in {1: "lacks right", 2: "no image of any", 3: "2 series that may be 'left'"}.items():
        with pytest.raises(DataError, match=said):
            found[name_of(number)].series(rules)
    both = Rules({"left": {"Modality": "US"}, "right": {"Modality": "U*"}})
    with pytest.raises(DataError, match="of two modalities"):
        Inbox(tmp_path, both).scan()[name_of(1)].series(both)


def test_localizers_are_left_out(tmp_path: Path) -> None:
    send(tmp_path, 1)
    send(tmp_path, 1, "right", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    rules = rules_for(ONE)
    assert len(Inbox(tmp_path, rules).scan()[name_of(1)].series(rules)["us"]) == 1


def test_only_changed_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailnet.deploy.dicom import inbox as room

    read: list[str] = []

    def counted(path: str, pixels: bool) -> pydicom.Dataset:
        read.append(path)
        return pydicom.dcmread(path)

    monkeypatch.setattr(room, "open_file", counted)
    send(tmp_path, 1)
    inbox = Inbox(tmp_path, rules_for(ONE))
    first = inbox.scan()[name_of(1)].fingerprint
    assert inbox.scan()[name_of(1)].fingerprint == first
    assert len(read) == 1
    path = send(tmp_path, 1, StationName="changed")
    assert inbox.scan()[name_of(1)].fingerprint != first
    assert read == [str(path)] * 2


def test_a_broken_file_is_a_study_of_its_own(tmp_path: Path) -> None:
    path = send(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:180])
    (tmp_path / "named.dcm").write_bytes(b"not DICOM")
    found = Inbox(tmp_path, rules_for(ONE)).scan()
    assert len(found) == 2
    assert all(one.broken is not None for one in found.values())
    assert not any(secret in str(one.broken) for one in found.values() for secret in SECRETS)
