"""Everything that is wrong with a study, found in one pass, and what it holds."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mailnet.data.config import SPLITS, PixelConfig, StudyConfig
from mailnet.data.locations import Locator
from mailnet.data.manifest import read_manifest
from mailnet.data.preprocess import prepare
from mailnet.data.progress import progress
from mailnet.data.readers import read_scan
from mailnet.data.scan import reading_of
from mailnet.data.study import fit_tables
from mailnet.errors import DataError, MailnetError

CHUNK = 16
NAMED = 3


@dataclass
class CheckReport:
    """What a study holds and what is wrong with it.

    Args:
        problems: Errors that training would stop at, each with its place and remedy.
        warnings: What training does not stop at but a reader of its results should know: images that stand in two
            splits.
        studies: Number of rows of the manifest.
        groups: Number of patients, or of rows where no column names the patient.
        splits: Split -> number of studies.
        classes: Task -> class -> split -> number of studies.
        present: Modality -> split -> number of studies that have it.
        sizes: Image modality -> "height x width" of its files, the most frequent first -> number of files.
    """

    problems: list[MailnetError] = field(default_factory=list)
    warnings: list[MailnetError] = field(default_factory=list)
    studies: int = 0
    groups: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    present: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True where nothing stops training."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values that JSON can hold."""
        return {
            "ok": self.ok,
            "problems": [problem.as_dict() for problem in self.problems],
            "warnings": [warning.as_dict() for warning in self.warnings],
            "studies": self.studies,
            "groups": self.groups,
            "splits": self.splits,
            "classes": self.classes,
            "present": self.present,
            "sizes": self.sizes,
        }


@dataclass(frozen=True)
class _Picture:
    size: str
    digest: bytes


def check_study(config: StudyConfig) -> CheckReport:
    """Read everything that a study names, and report all that is wrong together.

    Every table cell is judged and every image decoded as training would. Nothing is written.

    Args:
        config: The study.
    """
    try:
        manifest, problems = read_manifest(config)
    except DataError as error:
        return CheckReport(problems=[error])
    frame = manifest.frame
    # Tables that are wrong themselves would only say so again.
    tables_fit = not problems
    report = CheckReport(problems=problems, studies=len(frame), groups=int(frame["group"].nunique()))
    report.splits = _by_split(frame["split"])
    report.present = {name: _by_split(frame["split"][frame[f"has:{name}"]]) for name in config.modalities}
    report.classes = {name: _class_counts(frame, config, name) for name in config.tasks}
    for name, section in config.modalities.items():
        if isinstance(section, PixelConfig):
            pictures = _read_all(sorted({str(path) for path in frame[f"path:{name}"] if path}), section, name)
            report.problems += _image_problems(frame, name, pictures)
            report.warnings += _duplicates(frame, name, pictures, Locator(config.root))
            sizes = Counter(result.size for result in pictures.values() if isinstance(result, _Picture))
            report.sizes[name] = dict(sizes.most_common())
    if tables_fit:
        try:
            fit_tables(config, frame)
        except DataError as error:
            report.problems.append(error)
    return report


def _by_split(splits: pd.Series) -> dict[str, int]:
    counts = splits.value_counts()
    return {split: int(counts.get(split, 0)) for split in SPLITS}


def _class_counts(frame: pd.DataFrame, config: StudyConfig, task: str) -> dict[str, dict[str, int]]:
    spec = config.tasks[task]
    counts = {}
    for k, name in enumerate(spec.class_values):
        has = frame[f"label:{task}:{name}"] == 1 if spec.kind == "multilabel" else frame[f"label:{task}"] == k
        counts[name] = _by_split(frame["split"][has])
    return counts


def _read_all(locations: Sequence[str], section: PixelConfig, name: str) -> dict[str, _Picture | DataError]:
    pictures: dict[str, _Picture | DataError] = {}
    chunks = [locations[start : start + CHUNK] for start in range(0, len(locations), CHUNK)]
    with (
        progress(f"Checking {name}", len(locations)) as advance,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for chunk, results in zip(
            chunks, pool.map(lambda part: [_read(at, section) for at in part], chunks), strict=True
        ):
            pictures.update(zip(chunk, results, strict=True))
            advance(len(chunk))
    return pictures


def _read(location: str, section: PixelConfig) -> _Picture | DataError:
    try:
        scan = read_scan(location, reading_of(section))
        prepare(scan, section)
    except DataError as error:
        return error
    array = scan.values
    head = f"{array.shape} {array.dtype}".encode()
    return _Picture(f"{array.shape[1]} x {array.shape[2]}", hashlib.sha256(head + array.tobytes()).digest())


def _image_problems(
    frame: pd.DataFrame, name: str, pictures: Mapping[str, _Picture | DataError]
) -> Iterator[MailnetError]:
    for study, path in zip(frame["id"], frame[f"path:{name}"], strict=True):
        error = pictures.get(str(path))
        if isinstance(error, DataError):
            file = error.file or str(path)
            yield DataError(error.message, study=str(study), modality=name, file=file, remedy=error.remedy)


def _duplicates(
    frame: pd.DataFrame, name: str, pictures: Mapping[str, _Picture | DataError], locator: Locator
) -> Iterator[MailnetError]:
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, path in enumerate(frame[f"path:{name}"]):
        picture = pictures.get(str(path))
        if isinstance(picture, _Picture):
            rows[picture.digest].append(row)
    for same in rows.values():
        found = {str(split) for split in frame["split"].iloc[same] if split}
        if len(found) > 1:
            studies = [str(study) for study in frame["id"].iloc[same]]
            others = ", ".join(studies[1 : NAMED + 1]) + (", ..." if len(studies) > NAMED + 1 else "")
            splits = " and ".join(split for split in SPLITS if split in found)
            yield DataError(
                f"the very same picture is in the splits {splits}: also {others}",
                study=studies[0],
                modality=name,
                file=locator.relative(str(frame[f"path:{name}"].iloc[same[0]])),
                remedy="Keep it in one split, or give these studies one group",
            )
