"""Problems of a manifest as a whole: leaks between splits, empty splits, classes that training never sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from mailnet.data.config import SPLITS, Split, StudyConfig
from mailnet.errors import DataError, MailnetError


def find_composition_problems(
    frame: pd.DataFrame, config: StudyConfig, splits: Sequence[Split] | None = None
) -> Iterator[MailnetError]:
    """Yield what is wrong with the division of a manifest's rows.

    Args:
        frame: ``Manifest.frame``.
        config: The study.
        splits: The splits that will be used; default all. Only these must hold studies.
    """
    needed = [split for split in splits or SPLITS if split != "test" or splits or config.split.test > 0]
    yield from _leaks(frame)
    yield from _empty_splits(frame, config, needed)
    if "train" in needed:
        yield from _untrained_classes(frame, config)


def _leaks(frame: pd.DataFrame) -> Iterator[MailnetError]:
    pairs = frame[["id", "group", "split"]].drop_duplicates(["group", "split"])
    pairs = pairs[pairs["split"] != ""]
    for group, rows in pairs[pairs["group"].duplicated(keep=False)].groupby("group", sort=True):
        yield DataError(
            f"group '{group}' is in the splits {' and '.join(sorted(rows['split'], key=SPLITS.index))}",
            study=str(rows["id"].iloc[0]),
            remedy="Give all rows of a group the same split, or leave out split.column and have the groups divided",
        )


def _empty_splits(frame: pd.DataFrame, config: StudyConfig, needed: Sequence[Split]) -> Iterator[MailnetError]:
    for split in needed:
        rows = (frame["split"] == split).to_numpy()
        remedy = f"Put studies in it ({_how(config, split)})"
        if not rows.any():
            yield DataError(f"the split '{split}' is empty", remedy=remedy)
        elif config.regime == "unpaired":
            for name in config.modalities:
                if not (rows & frame[f"has:{name}"]).any():
                    yield DataError(f"has no study in the split '{split}'", modality=name, remedy=remedy)
    if "train" in needed and config.regime == "paired":
        training = (frame["split"] == "train").to_numpy()
        for name in config.modalities:
            if training.any() and not (training & frame[f"has:{name}"]).any():
                yield DataError("no training study has it", modality=name, remedy="Remove it from study.yaml")


def _how(config: StudyConfig, split: Split) -> str:
    if config.split.column is not None:
        how = f"column '{config.split.column}', or what split.values says of it"
        return how + (", or set split.test to 0 if there is none" if split == "test" else "")
    return f"a larger split.{split}, or more groups"


def _untrained_classes(frame: pd.DataFrame, config: StudyConfig) -> Iterator[MailnetError]:
    training = (frame["split"] == "train").to_numpy()
    for task, spec in config.tasks.items():
        for k, name in enumerate(spec.class_values):
            if spec.kind == "multilabel":
                count = int((training & (frame[f"label:{task}:{name}"] == 1)).sum())
            else:
                count = int((training & (frame[f"label:{task}"] == k)).sum())
            if count == 0 and training.any():
                yield DataError(
                    f"the class '{name}' has no training example",
                    task=task,
                    remedy="Remove it from 'classes', join it to another, or move a study of it to the split 'train'",
                )
