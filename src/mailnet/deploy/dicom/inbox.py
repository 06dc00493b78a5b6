"""The DICOM files in a folder, by study, read again only where they have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mailnet.data.dicom.files import guarded, looks_like_dicom, open_file
from mailnet.data.dicom.header import kind_of, text
from mailnet.data.dicom.owner import Owner, owner_of
from mailnet.data.dicom.series import IGNORED, SUFFIXES
from mailnet.deploy.dicom.identity import check_one_patient
from mailnet.deploy.dicom.rules import Rules
from mailnet.errors import DataError

State = tuple[int, int]


def digest(text: str) -> str:
    """Return a name of a UID that says nothing of it: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Instance:
    """An object of a study.

    Args:
        path: Its file.
        state: Size and time of the file.
        instance: Digest of its SOP Instance UID.
        series: Digest of its Series Instance UID.
        modalities: The model's modalities that it is an image of.
        localizer: It is an image to plan others by.
        owner: What its header says of the patient, as digests.
    """

    path: str
    state: State
    instance: str
    series: str
    modalities: tuple[str, ...] = ()
    localizer: bool = False
    owner: Owner = field(default_factory=Owner)


@dataclass
class StudyFiles:
    """The objects of a study that have arrived.

    Args:
        study: Digest of its Study Instance UID; of a file that cannot be read, one of its own.
        instances: By digest of their SOP Instance UID; of an object that lies there twice, one.
        broken: Why its only file cannot be read, None of others.
        owners: What the headers of all its files say of the patient, also of an object that lies there twice.
    """

    study: str
    instances: dict[str, Instance] = field(default_factory=dict)
    broken: str | None = None
    owners: list[Owner] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """A name of the objects and the state of their files."""
        people = {tuple(sorted(owner.person.items())) for owner in self.owners}
        return digest(repr([*sorted((one.instance, one.state) for one in self.instances.values()), *sorted(people)]))

    def series(self, rules: Rules) -> dict[str, list[Instance]]:
        """Return modality -> its images, of one series each; modalities that have none are left out.

        Raises:
            DataError: There is none at all, or not all that are wanted, a modality has several series, or the study
                several patients.
        """
        check_one_patient(self.owners)
        found: dict[str, list[Instance]] = {}
        for name in rules.modalities:
            mine = [one for one in self.instances.values() if name in one.modalities]
            mine = [one for one in mine if not one.localizer] or mine
            count = len({one.series for one in mine})
            if count > 1:
                raise DataError(
                    f"has {count} series that may be '{name}'",
                    modality=name,
                    remedy="Say which with --match, or with another tag",
                )
            if mine:
                found[name] = sorted(mine, key=lambda one: one.path)
        if not found:
            raise DataError("has no image of any of the model's modalities", remedy="Correct the rules of --match")
        if rules.complete and (lacking := [name for name in rules.modalities if name not in found]):
            raise DataError(f"lacks {', '.join(lacking)}", remedy="It is tried again when more of it arrives")
        names = [one.instance for several in found.values() for one in several]
        if len(set(names)) < len(names):
            raise DataError("has images that are of two modalities", remedy="Correct the rules of --match")
        return found


class Inbox:
    """A folder and those in it.

    Args:
        folder: The folder.
        rules: Which images are which modality.
    """

    def __init__(self, folder: Path, rules: Rules) -> None:
        self.folder = folder
        self._rules = rules
        self._known: dict[str, tuple[State, str, Instance | str | None]] = {}

    def scan(self) -> dict[str, StudyFiles]:
        """Return the studies that lie there, by digest; files whose names begin with a dot and links are left out."""
        known = self._known
        found: dict[str, StudyFiles] = {}
        self._known = {}
        for path, state in _files(str(self.folder)):
            entry = known.get(path)
            if entry is None or entry[0] != state:
                entry = (state, *self._read(path, state))
            self._known[path] = entry
            _, study, what = entry
            if isinstance(what, Instance):
                one = found.setdefault(study, StudyFiles(study))
                one.instances.setdefault(what.instance, what)
                one.owners.append(what.owner)
            elif what is not None:
                found[study] = StudyFiles(study, {study: Instance(path, state, study, study)}, broken=what)
        return found

    def _read(self, path: str, state: State) -> tuple[str, Instance | str | None]:
        """Return the study of a file and what it is: an object, why it cannot be read, or None of other files."""
        try:
            if not path.lower().endswith(SUFFIXES) and not looks_like_dicom(path):
                return "", None
            return self._header(path, state)
        except OSError:  # it has gone meanwhile
            return "", None
        except DataError as error:
            return digest(f"file {path}"), f"a file {error.message}"

    @guarded
    def _header(self, path: str, state: State) -> tuple[str, Instance]:
        header = open_file(path, pixels=False)
        study, series, own = (text(header, f"{what}InstanceUID") for what in ("Study", "Series", "SOP"))
        if not (study and series and own):
            raise DataError("does not say which study, series and object it is")
        image = "Rows" in header or "Image" in kind_of(header)
        modalities = self._rules.of(header) if image else ()
        localizer = "LOCALIZER" in text(header, "ImageType").upper()
        return digest(study), Instance(
            path, state, digest(own), digest(series), modalities, localizer, owner_of(header, {})
        )


def _files(folder: str) -> Iterator[tuple[str, State]]:
    """Yield the files below a folder with their states, in the order of their names."""
    try:
        with os.scandir(folder) as entries:
            listed: Sequence[os.DirEntry[str]] = sorted(entries, key=lambda entry: entry.name)
    except OSError:  # a folder that has gone meanwhile
        return
    for entry in listed:
        if entry.name.startswith(".") or entry.name.lower() in IGNORED:
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                yield entry.path, (status.st_size, status.st_mtime_ns)
        except OSError:
            continue
