"""From a form to a study: files located by their content and decoded as in training, the table as cells."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mailnet.bundle.odd import odd_owners
from mailnet.data.config import ImageConfig, ModalityConfig, PixelConfig
from mailnet.data.images import count_planes, load_image, owner_of_image
from mailnet.data.values import nearest
from mailnet.deploy.service.content import SUFFIXES, kind_of_content
from mailnet.deploy.service.refusal import Refused, unusable
from mailnet.deploy.service.served import Asked, Served
from mailnet.deploy.service.settings import Settings
from mailnet.deploy.service.unpack import unpack
from mailnet.deploy.service.upload import Upload
from mailnet.errors import DataError

LONGEST_ID, LONGEST_CELL = 256, 1024
Section = TypeVar("Section", bound=PixelConfig)


def within(section: Section, settings: Settings) -> Section:
    """Return a modality that refuses files beyond the service's limits, as it refuses those beyond its own."""
    limits = {
        "max_pixels": min(section.max_pixels, settings.max_pixels),
        "max_voxels": min(section.max_voxels, settings.max_voxels),
    }
    return section.model_copy(update=limits)


def asked_of(upload: Upload, served: Served, settings: Settings, without: bool = False) -> Asked:
    """Return the study that a form holds, its files decoded; runs long.

    Raises:
        Refused: It cannot be used.
    """
    return study_of(upload, locate(upload, served.sections, settings), served, without)


def study_of(upload: Upload, located: Mapping[str, str], served: Served, without: bool = False) -> Asked:
    """Return the study that a form holds, of files that are located; runs long.

    Raises:
        Refused: It cannot be used.
    """
    name = id_of(upload.texts.get("id"))
    cells = cells_of(upload.texts.get("table"), served.columns)
    images = images_of(located, served.sections)
    asked = Asked(images, cells, name, without, odd_of(located, served.sections))
    served.check(asked)
    return asked


def images_of(located: Mapping[str, str], sections: Mapping[str, ModalityConfig]) -> dict[str, np.ndarray]:
    """Return image or volume -> what the network sees of it, see ``load_image``; runs long.

    Raises:
        Refused: A file cannot be used.
    """
    found = {}
    for name, location in located.items():
        section = sections[name]
        assert isinstance(section, PixelConfig)
        try:
            if (
                isinstance(section, ImageConfig)
                and section.slice == "all"
                and (n := count_planes(location, section)) > 1
            ):
                raise Refused(422, f"{name}: the file has {n} planes, of which the model answers one by one",
                              "Send one plane a request")  # fmt: skip
            found[name] = load_image(location, section)
        except DataError as error:
            raise unusable(error, name) from None
    return found


def odd_of(located: Mapping[str, str], sections: Mapping[str, ModalityConfig]) -> tuple[str, ...]:
    """Return what the DICOM headers of files that could be read contradict, in words, as offline predictions say it."""
    owners = {}
    for name, location in located.items():
        section = sections[name]
        assert isinstance(section, PixelConfig)
        if (owner := owner_of_image(location, section)) is not None:
            owners[name] = owner
    return tuple(odd_owners({name: owners[name] for name in sections if name in owners}))


def locate(upload: Upload, sections: Mapping[str, ModalityConfig], settings: Settings) -> dict[str, str]:
    """Return image or volume -> the location of its file or folder, as ``load_image`` takes it.

    Raises:
        Refused: A field that is no modality, or files that cannot be used.
    """
    masks = {s.mask: n for n, s in sections.items() if isinstance(s, ImageConfig) and s.mask}
    images = [name for name, section in sections.items() if isinstance(section, PixelConfig)]
    left = settings.max_unpacked
    places: dict[str, Path] = {}
    for name, paths in upload.files.items():
        if name not in images and name not in masks:
            if name in sections:
                raise Refused(
                    422, f"'{name}' is a table, and was sent as a file", "Send its columns in 'table', as JSON"
                )
            remedy = nearest(name, [*images, *masks, "table", "id"])
            raise Refused(422, "a field is no modality of the model", remedy)
        if paths:
            try:
                places[name], used = _place(paths, upload.folder / f"of {len(places)}", settings.max_files, left)
            except Refused as error:
                raise Refused(error.status, f"{name}: {error.message}", error.remedy) from None
            left -= used
    located = {}
    for name, place in places.items():
        if name in images:
            section = sections[name]
            located[name] = str(place)
            if isinstance(section, ImageConfig) and section.mask is not None:
                if section.mask not in places:
                    raise Refused(422, f"{name}: its mask is missing", f"Send the mask as '{section.mask}'")
                located[name] = f"{place}!largest/{places[section.mask]}"
    return located


def _place(paths: list[Path], folder: Path, max_files: int, max_bytes: int) -> tuple[Path, int]:
    """Return the file, or the folder of DICOM instances, that files are; and how many bytes were unpacked."""
    kinds = [kind_of_content(path) for path in paths]
    used = 0
    if "zip" in kinds:
        if len(paths) > 1:
            raise Refused(422, "a zip was sent together with other files", "Send either")
        members = unpack(paths[0], folder.with_name(f"{folder.name} unpacked"), max_files, max_bytes)
        used = sum(path.stat().st_size for path in members)
        known = [(path, kind) for path in members if (kind := _known(path)) is not None]
        # Beside a series there is often a readme, or a DICOMDIR; of other files only one can be meant.
        known = [one for one in known if one[1] == "dicom"] or known
        if not known:
            raise Refused(422, "the zip holds no image", "Send a zip of the files of one series")
        paths, kinds = [path for path, _ in known], [kind for _, kind in known]
    if len(paths) == 1:
        return _named(paths[0], folder, "image", kinds[0]), used
    if set(kinds) != {"dicom"}:
        raise Refused(422, f"{len(paths)} files were sent that are not all DICOM",
                      "Send one file, or the DICOM files of one series")  # fmt: skip
    for number, path in enumerate(paths, start=1):
        _named(path, folder, f"{number:06d}", "dicom")
    return folder, used


def _known(path: Path) -> str | None:
    try:
        kind = kind_of_content(path)
    except Refused:
        return None
    return None if kind == "zip" else kind


def _named(path: Path, folder: Path, name: str, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    return path.rename(folder / f"{name}{SUFFIXES[kind]}")


def cells_of(text: str | None, columns: Iterable[str]) -> dict[str, Any]:
    """Return column -> value of the field ``table``.

    Args:
        text: A JSON object, None where it was not sent.
        columns: Those that the model knows.

    Raises:
        Refused: It is none, or has an unknown column or a value that is no number, text or truth value.
    """
    if text is None or not text.strip():
        return {}
    try:
        values = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused(
            400, "'table' is no JSON", 'Send an object such as {"age": 61, "sex": "f"}, without NaN'
        ) from None
    if not isinstance(values, dict):
        raise Refused(400, "'table' is no JSON object", 'Send one such as {"age": 61, "sex": "f"}')
    known = set(columns)
    for name, value in values.items():
        if name not in known:
            remedy = nearest(name, sorted(known)) or "This model reads no table"
            raise Refused(422, "'table' has a column that the model does not know", remedy)
        if not (value is None or isinstance(value, (str, int, float))):
            raise Refused(422, f"'{name}' in 'table' is no single value", "Give a number, a text, true, false or null")
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(422, f"'{name}' in 'table' is too large a number", "Give a number, or null")
        if isinstance(value, str) and (len(value) > LONGEST_CELL or not _is_text(value)):
            raise Refused(422, f"'{name}' in 'table' is no short text", f"Give at most {LONGEST_CELL} characters")
        if isinstance(value, int) and abs(value) > 2**63:
            raise Refused(422, f"'{name}' in 'table' is too large a number", "Give a number, or null")
    return values


def id_of(text: str | None) -> str | None:
    """Return the name that a study is to have in the answer, None for none.

    Raises:
        Refused: It is too long, or holds what is no text.
    """
    name = (text or "").strip()
    if len(name) > LONGEST_ID or not name.isprintable():
        raise Refused(422, "'id' is no short text", f"Give at most {LONGEST_ID} letters, or leave it out")
    return name or None


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
    return True
