"""A study decoded and ready: images mapped from the cache or in memory, tables as features, labels as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from mailnet.data.cache import ImageCache, Images, ShardedImages
from mailnet.data.composition import find_composition_problems
from mailnet.data.config import ModalityConfig, Split, StudyConfig, TabularConfig
from mailnet.data.locations import Locator
from mailnet.data.manifest import NO_MODALITY, load_manifest, together, without_modality
from mailnet.data.memory import MemoryStudies
from mailnet.data.preprocess import to_unit
from mailnet.data.table import TableState
from mailnet.errors import DataError, MailnetError
from mailnet.specs import ModalitySpec, TaskSpec

SAMPLE = 2000
CHUNK = 2**22  # numbers that are counted at once
TABLE_ROWS = 65536  # rows of a table that are brought into features at a time


@dataclass
class StudyData:
    """N studies in memory or mapped into it.

    Args:
        config: The study's configuration.
        frame: The manifest's rows, N of them, see ``Manifest.frame``; bad studies left out where that was asked.
        modalities: Specs; mean and std of images as measured on training rows, None where these were not loaded.
        tasks: Specs.
        arrays: Image modality -> (N, C, H, W), volume -> (N, C, D, H, W), both uint8 or uint16 in the cache, read as an
            array is; table -> (N, F) float32; zeros where absent.
        present: Modality -> (N,) bool.
        labels: Task -> (N,) int64 with -1 where unknown, or (N, K) float32 with NaN for multilabel.
        tables: Tabular modality -> its fitted state.
        bad: One error for every unreadable image and every study without any modality that was left out.
        bad_rows: Of each of these, ``row`` of its study in the manifest's frame.
    """

    config: StudyConfig
    frame: pd.DataFrame
    modalities: dict[str, ModalitySpec]
    tasks: dict[str, TaskSpec]
    arrays: dict[str, Images]
    present: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    tables: dict[str, TableState] = field(default_factory=dict)
    bad: list[MailnetError] = field(default_factory=list)
    bad_rows: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, split: Split) -> np.ndarray:
        """Return the row numbers of a split, rising, int64."""
        return np.flatnonzero((self.frame["split"] == split).to_numpy(dtype=bool))


def load_study(
    config: StudyConfig,
    *,
    cache: str | Path | None = None,
    skip_bad: bool = False,
    tables: Mapping[str, TableState] | None = None,
    splits: Sequence[Split] | None = None,
    table: pd.DataFrame | MemoryStudies | None = None,
) -> StudyData:
    """Read the manifest, decode what the cache lacks, and return everything ready.

    Args:
        config: The study.
        cache: Folder of decoded images; default ``MAILNET_CACHE``, else the user's cache folder.
        skip_bad: Leave studies with an unreadable image, and those without any modality, out and list them in ``bad``,
            instead of raising. The division is that of all studies.
        tables: Fitted states to use, as a bundle holds them; default: fit on the training rows.
        splits: Load only the rows of these splits; default all.
        table: The rows, where they are in memory, in place of the config's tables; paths are relative to the data root.
            What ``read_studies`` gives of dicts, a MONAI data set or a DataFrame may hold the images too.

    Raises:
        DataError: Lists what is wrong with manifest or images, up to ten problems.
        RunError: The cache cannot be written.
    """
    held = table if isinstance(table, MemoryStudies) else None
    rows = table.table if isinstance(table, MemoryStudies) else table
    manifest = load_manifest(config, splits, rows, skip_bad=skip_bad).frame
    wanted = manifest if splits is None else manifest[manifest["split"].isin(list(splits))]
    frame = _renumbered(wanted)
    images, errors = _images(frame, config, cache, held)
    for row in np.flatnonzero(without_modality(frame, config)).tolist():
        study, remedy = str(frame["id"].iloc[row]), "Fill a cell of one of its modalities"
        errors[row] = [DataError(NO_MODALITY, study=study, remedy=remedy)]
    bad = [error for row in sorted(errors) for error in errors[row]]
    bad_rows = [int(frame["row"].iloc[row]) for row in sorted(errors) for _ in errors[row]]
    if bad and not skip_bad:
        raise together(bad)
    if bad:
        manifest = manifest.drop(index=wanted.index[sorted(errors)])
        frame = _renumbered(frame.drop(index=sorted(errors)))
        if problems := list(find_composition_problems(frame, config, splits)):
            raise together(problems)
        kept = np.setdiff1d(np.arange(len(wanted)), list(errors))
        images = {name: several.take(kept) for name, several in images.items()}
    fitted = dict(tables) if tables is not None else fit_tables(config, manifest)
    present = {name: frame[f"has:{name}"].to_numpy(dtype=bool, copy=True) for name in config.modalities}
    arrays: dict[str, Images] = {
        name: _features(fitted[name], frame, present[name]) if name in fitted else images[name]
        for name in config.modalities
    }
    training = np.flatnonzero((frame["split"] == "train").to_numpy(dtype=bool))
    return StudyData(
        config=config,
        frame=frame,
        modalities={
            name: _modality(name, section, arrays[name], training[present[name][training]])
            for name, section in config.modalities.items()
        },
        tasks={name: TaskSpec(name, tuple(task.class_values), task.kind) for name, task in config.tasks.items()},
        arrays=arrays,
        present=present,
        labels={name: _labels(name, frame, config) for name in config.tasks},
        tables=fitted,
        bad=bad,
        bad_rows=bad_rows,
    )


def fit_tables(config: StudyConfig, frame: pd.DataFrame) -> dict[str, TableState]:
    """Return the state of every tabular modality, learnt from the training rows of a manifest's frame.

    Raises:
        DataError: No training row has the modality, or a column cannot be learnt from.
    """
    tables = {}
    for name, section in config.modalities.items():
        if isinstance(section, TabularConfig):
            # Of the table's own columns alone, since patterns must not meet those that the manifest adds.
            columns = [column for column in frame.columns if column.startswith("raw:")]
            rows = frame.loc[(frame["split"] == "train") & frame[f"has:{name}"], columns]
            tables[name] = TableState.fit(name, section, rows.rename(columns=lambda c: c.removeprefix("raw:")))
    return tables


def _renumbered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reset_index(drop=True)


def _images(
    frame: pd.DataFrame, config: StudyConfig, cache: str | Path | None, held: MemoryStudies | None
) -> tuple[dict[str, ShardedImages], dict[int, list[MailnetError]]]:
    locator, store = Locator(config.root), ImageCache(cache)
    images: dict[str, ShardedImages] = {}
    errors: dict[int, list[MailnetError]] = {}
    for name, section in config.modalities.items():
        if isinstance(section, TabularConfig):
            continue
        if held is not None and name in held.images:
            images[name] = held.arranged(name, frame[f"path:{name}"], section)
            continue
        images[name], problems = store.images(frame[f"path:{name}"], section, locator, name)
        for row, error in problems.items():
            study = str(frame["id"].iloc[row])
            placed = DataError(error.message, study=study, modality=name, file=error.file, remedy=error.remedy)
            errors.setdefault(row, []).append(placed)
    return images, errors


def _features(state: TableState, frame: pd.DataFrame, present: np.ndarray) -> np.ndarray:
    features = np.zeros((len(frame), len(state.features)), np.float32)
    having = np.flatnonzero(present)
    for start in range(0, len(having), TABLE_ROWS):
        places = having[start : start + TABLE_ROWS]
        rows = frame.iloc[places].rename(columns=lambda c: c.removeprefix("raw:"))
        features[places] = state.transform(rows, rows["id"].tolist())
    return features


def _modality(name: str, section: ModalityConfig, array: Images, training: np.ndarray) -> ModalitySpec:
    if isinstance(section, TabularConfig):
        return ModalitySpec(name, "tabular", channels=array.shape[1])
    if len(training) == 0:
        return ModalitySpec(name, section.kind, section.inputs, section.size)
    mean, std = channel_statistics(array, training)
    return ModalitySpec(name, section.kind, section.inputs, section.size, mean, std)


def channel_statistics(images: Images, rows: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel in [0, 1], over at most 2,000 of the rows, always the same."""
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE, replace=False))
    total = np.zeros(images.shape[1])
    squares = np.zeros(images.shape[1])
    several = max(1, CHUNK // math.prod(images.shape[1:]))
    for start in range(0, len(rows), several):
        part = to_unit(images[rows[start : start + several]]).astype(np.float64)
        total += part.sum(axis=(0, *range(2, part.ndim)))
        squares += np.square(part).sum(axis=(0, *range(2, part.ndim)))
    count = len(rows) * math.prod(images.shape[2:])
    mean = total / count
    # A channel of one value everywhere must not be divided by nothing.
    std = np.sqrt(np.maximum(squares / count - mean**2, 0)).clip(min=1e-3)
    return tuple(round(float(v), 6) for v in mean), tuple(round(float(v), 6) for v in std)


def _labels(name: str, frame: pd.DataFrame, config: StudyConfig) -> np.ndarray:
    task = config.tasks[name]
    if task.kind != "multilabel":
        return frame[f"label:{name}"].to_numpy(dtype=np.int64, copy=True)
    return frame[[f"label:{name}:{label}" for label in task.class_values]].to_numpy(dtype=np.float32)
