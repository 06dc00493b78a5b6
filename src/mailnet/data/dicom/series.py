"""Which files of a folder make the series that a modality selects, and the order of its planes."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.data.archives import file_state
from mailnet.data.dicom.files import DEFLATED, looks_like_dicom, open_file, told, transfer_syntax
from mailnet.data.dicom.geometry import Place, axes_of, gaps, heights, place_of, repeated, same_direction
from mailnet.data.dicom.header import kind_of, layout_of, text
from mailnet.data.dicom.stack import Source, Stack, missing, spacing_of, stack_of_file
from mailnet.data.scan import Reading
from mailnet.data.values import nearest
from mailnet.errors import DataError

SUFFIXES = (".dcm", ".dicom", ".ima")
IGNORED = ("dicomdir", "thumbs.db", "desktop.ini")
# Tags in which images at one place differ.
TELLING = (
    "AcquisitionNumber",
    "EchoNumbers",
    "EchoTime",
    "ImageType",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "TriggerTime",
    "ConvolutionKernel",
    "StackID",
)
# Besides the patient's group, names and dates.
PERSONAL = ("AccessionNumber", "StudyID", "StudyInstanceUID", "InstitutionName", "InstitutionAddress", "StationName")
_PERSONAL = ("PN", "DA", "DT", "TM")
MAX_FILES = 100_000

_last = threading.local()


@dataclass(frozen=True)
class Member:
    """A DICOM image in a folder.

    Args:
        path: Of the file.
        header: Its data set without the pixels.
    """

    path: str
    header: Any

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        return os.path.basename(self.path)


def stack_of_files(paths: Iterable[str], reading: Reading) -> Stack:
    """Return the planes of the one series that is selected among files.

    Raises:
        DataError: There is no series, or several, or it is incomplete or uneven.
    """
    listing = [(path, file_state(path)) for path in paths]
    # Each plane of a series may be a study: its headers are read once, as long as no file of it changes.
    key = listing, dict(reading.select)
    if _last.__dict__.get("key") != key:
        _last.__dict__.clear()
        _last.stack = _stack_of([path for path, _ in listing], reading)
        _last.key = key
    stack: Stack = _last.stack
    return stack


def _stack_of(paths: list[str], reading: Reading) -> Stack:
    select = reading.select
    check_select(select)
    members = [Member(path, header) for path in paths if (header := _header(path)) is not None]
    if not members:
        raise DataError("holds no DICOM file with an image", remedy="Give the folder of a DICOM series")
    chosen = [member for member in members if selected(member.header, select)]
    if not chosen:
        raise DataError(
            f"holds no series that {_pairs(select)} selects, but {_list(members)}",
            remedy="Correct the modality's 'select'",
        )
    images = [member for member in chosen if "LOCALIZER" not in text(member.header, "ImageType").upper()]
    chosen = images or chosen
    if len(_by_series(chosen)) > 1:
        raise DataError(
            f"holds {len(_by_series(chosen))} series: {_list(chosen)}",
            remedy=f"Choose one with the modality's 'select', such as {_suggestion(chosen)}",
        )
    return _stack(chosen, reading)


def files_of(folder: str) -> list[str]:
    """Return the files below a folder that may be DICOM, by name.

    Raises:
        DataError: A link leaves the folder, or there are far too many files.
    """
    found: list[str] = []
    inside = os.path.realpath(folder)
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.startswith(".") or name.lower() in IGNORED:
                continue
            path = os.path.join(where, name)
            if os.path.islink(path) and os.path.commonpath([os.path.realpath(path), inside]) != inside:
                raise DataError("is a link that leaves its folder", file=path, remedy="Copy the file into the folder")
            if os.path.isfile(path) and (name.lower().endswith(SUFFIXES) or looks_like_dicom(path)):
                found.append(path)
        if len(found) > MAX_FILES:
            raise DataError(f"holds more than {MAX_FILES:,} files", remedy="Give the folder of one study")
    if not found:
        raise DataError("holds no DICOM file", remedy="Give the folder of a DICOM series")
    return found


def _header(path: str) -> Any | None:
    """Return the header of an image, None of what is none, such as a report."""
    try:
        header = open_file(path, pixels=False)
        if "Rows" not in header and "Image" not in kind_of(header):
            return None
        layout_of(header)
        return header
    except DataError as error:
        raise DataError(error.message, file=path, remedy=error.remedy) from None
    # pydicom meets broken files with exceptions of every kind.
    except Exception as error:
        failure = told(error)
    raise DataError(failure.message, file=path, remedy="Restore the file, or remove it from the folder")


def check_select(select: Mapping[str, str]) -> None:
    """Refuse what no series may be selected by.

    Raises:
        DataError: A key is no DICOM keyword, or may identify a patient.
    """
    from pydicom.datadict import dictionary_VR, keyword_dict

    for keyword in select:
        if keyword not in keyword_dict:
            raise DataError(
                f"cannot be selected by '{keyword}', which is no DICOM keyword",
                remedy=nearest(keyword, sorted(keyword_dict)),
            )
        if keyword_dict[keyword] >> 16 == 0x0010 or dictionary_VR(keyword) in _PERSONAL or keyword in PERSONAL:
            raise DataError(
                f"cannot be selected by '{keyword}', which may identify a patient and would be stored with the model",
                remedy="Select by tags of the series, such as Modality or SeriesDescription",
            )


def selected(header: Any, select: Mapping[str, str]) -> bool:
    """Return whether an image has all the tags that a selection asks for, each a pattern, in letters of any case."""
    return all(
        fnmatch.fnmatchcase(text(header, keyword).lower(), str(pattern).lower()) for keyword, pattern in select.items()
    )


def _by_series(members: Iterable[Member]) -> dict[str, list[Member]]:
    series: dict[str, list[Member]] = {}
    for member in members:
        series.setdefault(text(member.header, "SeriesInstanceUID"), []).append(member)
    return series


def _list(members: Iterable[Member]) -> str:
    """Return the series by what may be said of them: nothing of a patient."""
    lines = []
    for files in _by_series(members).values():
        header = files[0].header
        words = [_shown(header, "Modality"), _shown(header, "SeriesNumber")]
        described = _shown(header, "SeriesDescription")
        words += [f"'{described}'"] if described else []
        lines.append(f"{' '.join(word for word in words if word)} ({len(files)} file{'s' if len(files) > 1 else ''})")
    return "; ".join(lines[:10]) + ("; ..." if len(lines) > 10 else "")


def _shown(header: Any, keyword: str) -> str:
    """Return a value within one short line."""
    return "".join(letter if letter.isprintable() else " " for letter in text(header, keyword))[:64].strip()


def _suggestion(members: Iterable[Member]) -> str:
    headers = [files[0].header for files in _by_series(members).values()]
    for keyword in ("SeriesDescription", "Modality", "SeriesNumber"):
        values = [_shown(header, keyword) for header in headers]
        if all(values) and len(set(values)) == len(values):
            return f"{{{keyword}: '{values[0]}'}}"
    return "{SeriesDescription: '*T1*'}, or give the folder of one series"


def _pairs(select: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{keyword}: '{pattern}'" for keyword, pattern in select.items()) + "}"


def _stack(members: list[Member], reading: Reading) -> Stack:
    sources = [_source(member) for member in members]
    several = [source for source in sources if source.layout.frames > 1]
    if len(sources) == 1:
        return stack_of_file(sources[0], reading)
    if several:
        raise DataError(
            f"holds {len(sources)} files of one series, of which {len(several)} have several frames",
            remedy="Give the file instead of the folder",
        )
    places = [place_of(member.header, 0) for member in members]
    _check_even(sources, members, places)
    along = heights(places) if same_direction(places) else None
    if along is None and all(place.corner is not None and place.along is not None for place in places):
        other = next(i for i in range(len(places)) if not same_direction([places[0], places[i]]))
        raise DataError(
            f"has planes in several directions ({members[0].name} and {members[other].name})",
            remedy=f"Choose those of one with the modality's 'select'{_telling(members[0], members[other])}",
        )
    if along is None:
        # Without positions only the numbers of the images are left, and their names.
        order = sorted(range(len(places)), key=lambda i: (_number(places[i]), _natural(members[i].name)))
        spacing = spacing_of(places[0], None)
        return Stack([(sources[i], 0) for i in order], spacing, None)
    order = [int(i) for i in np.argsort(along, kind="stable")]
    rising = along[order]
    if (twin := repeated(rising)) is not None:
        first, second = members[order[twin - 1]], members[order[twin]]
        raise DataError(
            f"has two planes at {rising[twin]:.6g} mm: {first.name} and {second.name}",
            remedy=f"Remove one, or choose with the modality's 'select'{_telling(first, second)}",
        )
    if found := gaps(rising):
        texts = [missing((members[order[i]].name, members[order[i + 1]].name), places_) for i, places_ in found[:5]]
        raise DataError(
            f"has slices missing at {'; '.join(texts)}{'; ...' if len(found) > 5 else ''}",
            remedy="Restore them, or leave the study out with --skip-bad",
        )
    return Stack([(sources[i], 0) for i in order], spacing_of(places[0], rising), axes_of(places[0]))


def _source(member: Member) -> Source:
    load = functools.partial(open_file, member.path)
    # A deflated file is unpacked as a whole anyway.
    header = load() if transfer_syntax(member.header) in DEFLATED else member.header
    return Source(header, layout_of(header), load, member.path)


def _check_even(sources: list[Source], members: list[Member], places: list[Place]) -> None:
    first = sources[0].layout
    for source, member, place in zip(sources, members, places, strict=True):
        mine = source.layout
        if (mine.rows, mine.columns) != (first.rows, first.columns):
            seen = f"{members[0].name} {first.columns} x {first.rows}, {member.name} {mine.columns} x {mine.rows}"
            raise DataError(f"has planes of several sizes: {seen} pixels", remedy=_CHOOSE)
        if mine.channels != first.channels:
            raise DataError(f"has grey and colour planes: {members[0].name}, {member.name}", remedy=_CHOOSE)
        if "MONOCHROME1" in (mine.photometric, first.photometric) and mine.photometric != first.photometric:
            message = f"has planes of which low values are bright, and high ones: {members[0].name}, {member.name}"
            raise DataError(message, remedy=_CHOOSE)
        one, other = places[0].pixel, place.pixel
        if one != other and (one is None or other is None or not np.allclose(one, other, rtol=1e-3)):
            raise DataError(f"has planes of several pixel spacings: {members[0].name}, {member.name}", remedy=_CHOOSE)


_CHOOSE = "Choose planes that belong together with the modality's 'select', or remove the others"


def _telling(one: Member, other: Member) -> str:
    """Return a tag in which two images differ, to select by."""
    for keyword in TELLING:
        values = text(one.header, keyword), text(other.header, keyword)
        if values[0] != values[1] and all(re.fullmatch(r"[\w.\\ -]{1,64}", value) for value in values):
            return f", such as {{{keyword}: '{values[0]}'}}"
    return ""


def _number(place: Place) -> float:
    return float("inf") if place.number is None else place.number


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
