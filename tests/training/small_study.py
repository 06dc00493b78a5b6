"""A made-up study that trains in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factory import write_study
from mailnet.data.config import StudyConfig, load_config

MODEL = {"name": "mail", "options": {"widths": [16, 16], "width": None}}


def small_config(folder: Path, *, regime: str = "paired", n: int = 60, **train: Any) -> StudyConfig:
    """Write a study of n studies and return its configuration, two epochs of three steps with these changes."""
    settings = {"epochs": 2, "batch_size": 12, "device": "cpu", "learning_rate": 0.003, **train}
    return load_config(write_study(folder, regime=regime, n=n, size=16, model=MODEL, train=settings))
