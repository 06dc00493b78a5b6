"""Whose image a DICOM file is can be compared, and not read."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_files import SECRETS, dataset, write, write_series
from mailnet.data.config import ImageConfig
from mailnet.data.dicom.owner import ISSUER, PERSON, Owner, contradictions, owner_of
from mailnet.data.images import owner_of_image

PLANE = np.arange(48, dtype=np.uint16).reshape(6, 8)


def differing(**tags: Any) -> list[str]:
    """Return in what a header of the made-up patient and one with these tags differ."""
    return owner_of(dataset(PLANE), {}).differs(owner_of(dataset(PLANE, **tags), {}))


def test_two_patients_and_one_are_told() -> None:
    assert differing() == []
    assert differing(PatientID="OTHER1") == ["PatientID"]
    assert differing(PatientID="OTHER1", PatientBirthDate="19500101") == ["PatientID", "PatientBirthDate"]
    # Written otherwise, or not said at all.
    assert differing(PatientID=" 00pzx7733991 ", PatientName="Other^Name", StudyDate="20200101") == []
    assert differing(PatientID="", PatientBirthDate=None) == []
    # Of two sexes only where both are said.
    man, woman, other = (owner_of(dataset(PLANE, PatientSex=sex), {}) for sex in ("M", "F", "O"))
    assert man.differs(woman) == ["PatientSex"]
    assert man.differs(other) == []


def test_numbers_of_two_hospitals_are_not_compared() -> None:
    here = owner_of(dataset(PLANE, IssuerOfPatientID="A"), {})
    there = owner_of(dataset(PLANE, IssuerOfPatientID="B", PatientID="X1"), {})
    unknown = owner_of(dataset(PLANE, PatientID="X1"), {})
    assert here.differs(there) == []
    assert here.differs(unknown) == ["PatientID"]


def test_of_many_headers_the_same_is_said_as_of_all_pairs() -> None:
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        values = random.integers(0, 4, (random.integers(0, 6), 4))  # 0: the header says nothing
        several = [
            Owner({key: str(value) for key, value in zip((*PERSON, ISSUER), row, strict=True) if value})
            for row in values
        ]
        differing = {key for one, other in combinations(several, 2) for key in one.differs(other)}
        assert contradictions(several) == [key for key in PERSON if key in differing]
        seen.add(tuple(sorted(differing)))
    assert len(seen) == 8  # every set of keywords came up


def test_thousands_of_patients_are_told_at_once() -> None:
    asked = 0

    class Said(dict[str, str]):
        def __getitem__(self, key: str) -> str:
            nonlocal asked
            asked += 1
            return super().__getitem__(key)

    assert contradictions(Owner(Said(PatientID=str(number))) for number in range(3000)) == ["PatientID"]
    assert asked <= 4 * 3000  # of all pairs it would be millions


def test_a_header_that_says_otherwise_than_select_asks_is_noticed() -> None:
    header = dataset(PLANE, ImageLaterality="R")
    assert owner_of(header, {"ImageLaterality": "L", "Modality": "c*", "ViewPosition": "CC"}).unlike == (
        "ImageLaterality",
    )
    assert owner_of(header, {"ImageLaterality": "r"}).unlike == ()


def test_files_folders_and_pictures(tmp_path: Path) -> None:
    section = ImageConfig(size=8, slice=0, select={"Modality": "CT"})
    file = write(tmp_path / "a.dcm", PLANE, PatientID="OTHER1")
    series = write_series(tmp_path / "series", np.stack([PLANE] * 3))
    one, other = (owner_of_image(f"{place}!slice/1", section) for place in (file, series))
    assert one is not None
    assert other is not None
    assert one.differs(other) == ["PatientID"]
    np.save(tmp_path / "a.npy", PLANE)
    assert owner_of_image(str(tmp_path / "a.npy"), section) is None


@pytest.mark.parametrize("secret", [*SECRETS, "OTHER1"])
def test_nothing_of_it_can_be_read(secret: str) -> None:
    owner = owner_of(dataset(PLANE, IssuerOfPatientID="OTHER1"), {"PatientComments": "no"})
    assert secret not in repr(owner)
