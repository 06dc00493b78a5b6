"""A made-up study that trains in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from factory import write_study
from mailnet.data.config import StudyConfig, load_config
from mailnet.data.study import StudyData

MODEL = {"name": "mail", "options": {"widths": [16, 16], "width": None}}


def small_config(folder: Path, *, regime: str = "paired", n: int = 60, **train: Any) -> StudyConfig:
    """Write a study of n studies and return its configuration, two epochs of three steps with these changes."""
    settings = {"epochs": 2, "batch_size": 12, "device": "cpu", "learning_rate": 0.003, **train}
    return load_config(write_study(folder, regime=regime, n=n, size=16, model=MODEL, train=settings))


def same_in_parts(config: StudyConfig, data: StudyData, **train: Any) -> StudyData:
    """Return the study as one that trains the same however its batches are divided, but for rounding.

    Nothing changes at random, a table alone has no batch statistics, and half of one task's labels are unknown.
    """
    steady = {"epochs": 2, "batch_size": 11, "warmup": 0.0, "augment": False, "modality_dropout": 0.0, "ema": None}
    config = config.model_copy(
        update={
            "modalities": {"clinical": config.modalities["clinical"]},
            "model": config.model.model_copy(update={"options": {"widths": [8, 8]}}),
            "train": config.train.model_copy(update={"accumulate": 1, "pretrain": None, **steady, **train}),
        }
    )
    labels = {task: values.copy() for task, values in data.labels.items()}
    labels["finding"][np.random.default_rng(0).permutation(len(data))[: len(data) // 2]] = -1
    modalities, arrays, present = (
        {"clinical": values["clinical"]} for values in (data.modalities, data.arrays, data.present)
    )
    return StudyData(config, data.frame, modalities, data.tasks, arrays, present, labels, data.tables)
