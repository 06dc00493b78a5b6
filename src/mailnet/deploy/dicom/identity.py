"""What makes a result an object of the patient's study: UIDs, codes, and what is copied from the sources."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from mailnet.data.dicom.owner import Owner, contradictions
from mailnet.errors import DataError

SCHEME = "99MAILNET"  # PS3.16 8.2: private schemes begin with 99
CHARACTERS = "ISO_IR 192"  # names of classes may be of any alphabet
MANUFACTURER = "mailnet"
_NAMESPACE = uuid.UUID("6d1f4f0e-58d0-5b0e-9b6e-0d7a2c6f3a51")
# Type 2 of the modules Patient and General Study (PS3.3 C.7.1.1, C.7.2.1): present, empty where not known.
_COPIED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
           "StudyTime", "ReferringPhysicianName")  # fmt: skip
_SEXES = ("M", "F", "O", "")


def derived_uid(*parts: str) -> str:
    """Return a UID that is the same whenever the parts are: made of a UUID of them (PS3.5 B.2).

    So a result that is made twice is the same object, and an archive keeps one of it.

    >>> derived_uid("a", "b") == derived_uid("a", "b") != derived_uid("ab")
    True
    """
    name = "".join(f"{len(part)}:{part}" for part in parts)
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def short_digest(*parts: str, length: int = 10) -> str:
    """Return a short name of texts, in capitals."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length].upper()


def code(value: str, meaning: str) -> Any:
    """Return a code of our own scheme (PS3.3 8.8): a value of at most 16 and a meaning of at most 64 characters."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value[:16], SCHEME, line(meaning))


def line(text: str, length: int = 64) -> str:
    """Return text as one line that DICOM's LO and SH allow: no backslash and no control character (PS3.5 6.2)."""
    clean = " ".join("".join(c if c.isprintable() and c != "\\" else " " for c in text).split())
    return clean if len(clean) <= length else clean[: length - 3] + "..."


def schemes() -> list[Any]:
    """Return who is responsible for the private codes (PS3.3 C.12.1, Coding Scheme Identification Sequence)."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return [CodingSchemeIdentificationItem(SCHEME, name="mailnet, private codes", responsible_organization="mailnet")]


def evidence_of(header: Any) -> Any:
    """Return a header that a result can be of: text decoded, and what every result copies present and well formed.

    Broken dates and sexes are left empty, since a result with them would be broken as well.

    Args:
        header: A data set, changed in place.
    """
    from pydicom.valuerep import DA, TM

    header.decode()
    checks: dict[str, Callable[[Any], Any]] = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
    for keyword in _COPIED:
        value = header.get(keyword)
        if value is None:
            value = ""
        if keyword in checks:
            try:
                checks[keyword](value)
            except (TypeError, ValueError):
                value = ""
        if keyword == "PatientSex" and value not in _SEXES:
            value = ""
        setattr(header, keyword, value)
    return header


def check_one_patient(owners: Iterable[Owner]) -> None:
    """Refuse objects that say they are of different patients; names keywords and no values.

    Studies that differ in nothing but the patient share a Study Instance UID where a device or an export gave it out
    twice. An answer to both together would be filed under one of them.

    Args:
        owners: What each object says of its patient, see ``owner_of``; what it leaves out contradicts nothing.

    Raises:
        DataError: Two of them contradict each other.
    """
    if found := contradictions(owners):
        raise DataError(
            f"holds images of different patients under one Study Instance UID ({', '.join(found)})",
            remedy="Correct the headers, or give each patient's study a UID of its own",
        )
