"""How many studies of what there are, and where they are too few."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mailnet.data.check.findings import Finding
from mailnet.data.config import SPLITS, StudyConfig

# Below so many tested studies, a class's numbers are rough; a class so many times rarer than another is learnt badly.
FEW = 10
IMBALANCE = 20


def by_split(splits: pd.Series) -> dict[str, int]:
    """Return split -> number of rows."""
    counts = splits.value_counts()
    return {split: int(counts.get(split, 0)) for split in SPLITS}


def class_counts(frame: pd.DataFrame, config: StudyConfig, task: str) -> dict[str, dict[str, int]]:
    """Return class -> split -> number of rows."""
    spec = config.tasks[task]
    counts = {}
    for k, name in enumerate(spec.class_values):
        has = frame[f"label:{task}:{name}"] == 1 if spec.kind == "multilabel" else frame[f"label:{task}"] == k
        counts[name] = by_split(frame["split"][has])
    return counts


def judge_counts(classes: dict[str, dict[str, dict[str, int]]], splits: dict[str, int]) -> Iterator[Finding]:
    """Yield classes that a split lacks or has few of, and great imbalance.

    Args:
        classes: Task -> class -> split -> number of studies.
        splits: Split -> number of studies.
    """
    for task, counts in classes.items():
        for split in SPLITS[1:]:
            if not splits.get(split):
                continue
            few = {name: count[split] for name, count in counts.items() if count[split] < FEW}
            if few:
                listed = ", ".join(f"{name} ({count or 'none'})" for name, count in few.items())
                yield Finding(
                    "caution",
                    "few-of-a-class",
                    f"fewer than {FEW} {split} studies of {listed}",
                    "Join rare classes, or read their numbers as rough",
                    task=task,
                    numbers={name: count for name, count in few.items()},
                )
        training = {name: count["train"] for name, count in counts.items() if count["train"]}
        if training and max(training.values()) >= IMBALANCE * min(training.values()):
            rare, common = min(training, key=lambda n: training[n]), max(training, key=lambda n: training[n])
            yield Finding(
                "caution",
                "imbalance",
                f"training has {training[common]} studies of {common} and {training[rare]} of {rare}",
                "Set train.balance to 'sampler' or 'weights', and judge by balanced accuracy",
                task=task,
                numbers={common: training[common], rare: training[rare]},
            )


def split_numbers(splits: pd.Series) -> np.ndarray:
    """Return (N,) int, 0 for train, 1 for val, 2 for test, -1 for none."""
    codes, names = pd.factorize(splits)
    numbers = np.array([SPLITS.index(name) if name in SPLITS else -1 for name in names] + [-1], np.int64)
    found: np.ndarray = numbers[codes]
    return found
