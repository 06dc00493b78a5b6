"""Whose image a DICOM file is, in a form that can be compared and not read."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mailnet.data.dicom.header import text

# What images of one person agree in, where they say it. Names are left out: they are written in too many ways.
PERSON = ("PatientID", "PatientBirthDate", "PatientSex")
ISSUER = "IssuerOfPatientID"


@dataclass(frozen=True)
class Owner:
    """What a header says of the person, and what it says otherwise than the modality asks.

    Args:
        person: Keyword of ``PERSON``, and ``ISSUER`` -> digest of its value, of those that say anything.
        unlike: Keywords of the modality's ``select`` for which the header says something else.
    """

    person: Mapping[str, str] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()

    def differs(self, other: Owner) -> list[str]:
        """Return the keywords of ``PERSON`` in which two headers contradict each other."""
        both = [key for key in PERSON if key in self.person and key in other.person]
        # Numbers that two hospitals gave out say nothing of each other.
        issuers = {owner.person[ISSUER] for owner in (self, other) if ISSUER in owner.person}
        return [
            key for key in both if self.person[key] != other.person[key] and (key != "PatientID" or len(issuers) < 2)
        ]


def contradictions(owners: Iterable[Owner]) -> list[str]:
    """Return the keywords of ``PERSON`` in which any two of several headers contradict each other.

    What ``Owner.differs`` says of all pairs, in time that grows with the headers and not with their pairs: a series may
    have thousands, each of a number of its own.

    Args:
        owners: What each says; none and one contradict nothing.
    """
    said: dict[str, set[str]] = defaultdict(set)
    numbers: dict[str | None, set[str]] = defaultdict(set)  # by issuer, None where the header names none
    for owner in owners:
        for key in PERSON:
            if key in owner.person:
                said[key].add(owner.person[key])
        if "PatientID" in owner.person:
            numbers[owner.person.get(ISSUER)].add(owner.person["PatientID"])
    # Two numbers are compared where one issuer gave both out, or one of them might be anyone's.
    apart = len(said["PatientID"]) > 1 and (None in numbers or any(len(several) > 1 for several in numbers.values()))
    return [key for key in PERSON if (apart if key == "PatientID" else len(said[key]) > 1)]


def owner_of(header: Any, select: Mapping[str, str]) -> Owner:
    """Return whose image a header is of.

    Args:
        header: A data set, which may lack the pixels.
        select: Keyword -> pattern, see ``PixelConfig``.
    """
    said = {key: _plain(key, text(header, key)) for key in (*PERSON, ISSUER)}
    person = {key: hashlib.sha256(value.encode()).hexdigest() for key, value in said.items() if value}
    return Owner(person, tuple(key for key, pattern in select.items() if _contradicts(text(header, key), pattern)))


def _plain(key: str, value: str) -> str:
    """Return a value as it is compared, empty where it says nothing."""
    value = value.strip().upper()
    if key == "PatientSex":
        return value if value in ("F", "M") else ""
    return value.lstrip("0") if key == "PatientID" else value


def _contradicts(value: str, pattern: str) -> bool:
    return bool(value) and not fnmatch.fnmatchcase(value.lower(), str(pattern).lower())
