"""The whole check: every table cell judged, every image read once, then everything compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd

from mailnet.data.check.columns import Labels, Role, judge_columns
from mailnet.data.check.confounds import judge_images
from mailnet.data.check.counts import by_split, class_counts, judge_counts, split_numbers
from mailnet.data.check.duplicates import find_duplicates
from mailnet.data.check.findings import CheckReport
from mailnet.data.check.groups import judge_groups
from mailnet.data.check.pictures import Pictures, read_pictures
from mailnet.data.config import PixelConfig, StudyConfig, TabularConfig
from mailnet.data.labels import label_columns
from mailnet.data.manifest import read_manifest
from mailnet.data.sources import FOLDER, read_sources
from mailnet.data.study import fit_tables
from mailnet.data.values import expand_columns
from mailnet.errors import DataError, MailnetError


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
    report.rows = frame[["row", "id", "split", *(c for c in frame.columns if c.startswith("path:"))]]
    report.splits = by_split(frame["split"])
    report.present = {name: by_split(frame["split"][frame[f"has:{name}"]]) for name in config.modalities}
    report.classes = {name: class_counts(frame, config, name) for name in config.tasks}
    splits = split_numbers(frame["split"])
    tasks = _training_labels(frame, config, splits)
    whole = _whole_labels(frame, config)
    names = [word for task in config.tasks.values() for name, values in task.class_values.items()
             for word in (name, *values)]  # fmt: skip
    findings = list(judge_counts(report.classes, report.splits))
    for name, section in config.modalities.items():
        if isinstance(section, PixelConfig):
            pictures = read_pictures(frame[f"path:{name}"], section, name)
            report.problems += _image_problems(frame, name, pictures)
            report.sizes[name] = _sizes(pictures)
            findings += find_duplicates(name, pictures, splits, whole)
            findings += judge_images(name, pictures, tasks, splits, names, str(config.root))
            # Of a million images 0.7 GB, which the next step needs.
            del pictures
    table = read_sources(config).iloc[frame["row"].to_numpy(dtype=np.int64) - 1]
    columns = _columns(table, config)
    free, report.unjudged = judge_columns(columns, tasks)
    findings += free
    if splits.max(initial=-1) > 0:
        texts = {name: cells for name, (_, cells) in columns.items()}
        findings += judge_groups(texts, splits, config.group is not None)
    if tables_fit:
        try:
            fit_tables(config, frame)
        except DataError as error:
            report.problems.append(error)
    # Leaks first, in the order found.
    report.findings = sorted(findings, key=lambda finding: finding.severity != "leak")
    return report


def _training_labels(frame: pd.DataFrame, config: StudyConfig, splits: np.ndarray) -> list[Labels]:
    groups = np.asarray(pd.factorize(frame["unit"])[0], dtype=np.int64)
    found = []
    for name, task in config.tasks.items():
        single = {name: (frame[f"label:{name}"].to_numpy(np.int64), tuple(task.class_values))} if (
            task.kind != "multilabel"
        ) else {
            f"{name}:{label}": (_binary(frame[f"label:{name}:{label}"]), (f"not {label}", label))
            for label in task.class_values
        }  # fmt: skip
        for key, (values, classes) in single.items():
            rows = np.flatnonzero((splits == 0) & (values >= 0))
            if len(rows):
                found.append(Labels(key, classes, rows, values[rows], groups[rows]))
    return found


def _whole_labels(frame: pd.DataFrame, config: StudyConfig) -> dict[str, np.ndarray]:
    found = {}
    for name, task in config.tasks.items():
        if task.kind != "multilabel":
            found[name] = frame[f"label:{name}"].to_numpy(np.int64)
            continue
        # A set of labels is one value here; 62 classes fit in the number.
        bits = np.stack([_binary(frame[f"label:{name}:{label}"]) for label in list(task.class_values)[:62]])
        whole = (np.maximum(bits, 0) << np.arange(len(bits), dtype=np.int64)[:, None]).sum(axis=0)
        found[name] = np.where((bits < 0).any(axis=0), -1, whole)
    return found


def _binary(column: pd.Series) -> np.ndarray:
    values = column.to_numpy(np.float64)
    return np.where(np.isnan(values), -1, np.nan_to_num(values)).astype(np.int64)


def _columns(table: pd.DataFrame, config: StudyConfig) -> dict[str, tuple[Role, pd.Series]]:
    """Return the columns that may not tell the label: all but the labels, names, patients, splits and paths."""
    own = {FOLDER, config.id, config.group, config.split.column}
    for name, task in config.tasks.items():
        own |= label_columns(name, task)
    inputs: set[str] = set()
    for name, section in config.modalities.items():
        if isinstance(section, TabularConfig):
            inputs |= set(expand_columns([*section.numeric, *section.categorical], table.columns))
        else:
            own |= {section.column or name, getattr(section, "mask", None)}
    roles: dict[str, Role] = dict.fromkeys(config.subgroups, "subgroup")
    roles |= dict.fromkeys(inputs, "input")
    return {
        str(name): (roles.get(str(name), "unused"), table[name])
        for name in table.columns
        if name not in own or name in inputs
    }


def _image_problems(frame: pd.DataFrame, name: str, pictures: Pictures) -> Iterator[MailnetError]:
    if not pictures.errors:
        return
    for row in np.flatnonzero((pictures.file >= 0) & ~pictures.readable[np.maximum(pictures.file, 0)]):
        file = int(pictures.file[row])
        error = pictures.errors[file]
        yield DataError(
            error.message,
            study=str(frame["id"].iloc[row]),
            modality=name,
            file=error.file or str(pictures.locations[file]),
            remedy=error.remedy,
        )


def _sizes(pictures: Pictures) -> dict[str, int]:
    shape = pictures.shape[pictures.readable]
    counts = Counter(
        {tuple(key): int(count) for key, count in zip(*np.unique(shape, axis=0, return_counts=True), strict=True)}
    )
    return {
        " x ".join(str(side) for side in (key if key[0] > 1 else key[1:])): count for key, count in counts.most_common()
    }
