"""What will be written, as the parts that look at the data gather it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass
class Draft:
    """A study in the making.

    Args:
        name: Of the study.
        folder: What the paths of the images are relative to: absolute, or inside an archive.
        table: Absolute location of the table; None where ``manifest`` is to be written.
        frame: The table, a row a study, cells as text.
        manifest: True where ``frame`` is to be written as manifest.csv.
        images: Modality -> column of paths.
        sections: Modality -> its keys in study.yaml.
        tasks: Task -> its keys in study.yaml.
        study_id: Column that identifies a study.
        group: Column that names the patient.
        split: Keys of the split section.
        aside: Keys of a tabular modality that is offered in a comment.
        notes: What was guessed and why, a sentence each.
    """

    name: str
    folder: str
    table: str | None
    frame: pd.DataFrame
    manifest: bool = False
    images: dict[str, str] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    study_id: str | None = None
    group: str | None = None
    split: dict[str, Any] = field(default_factory=dict)
    aside: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The names of the table's columns."""
        return [str(column) for column in self.frame.columns]

    def paths(self, modality: str) -> list[str]:
        """Return the paths of a modality as the table has them, without empty cells."""
        return [cell for cell in self.frame[self.images[modality]] if cell]


SPLIT_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "tuning"),
    "test": ("test", "testing", "tst", "holdout"),
}
# The answer "no" in the words of many tables; it comes first, so that the other is the positive class.
NEGATIVE = ("no", "none", "negative", "neg", "normal", "benign", "healthy", "absent", "control", "false", "0")


def split_of(word: str) -> str | None:
    """Return train, val or test for a word that means it.

    >>> split_of("Testing")
    'test'
    """
    return next((split for split, words in SPLIT_WORDS.items() if word.strip().lower() in words), None)


def task_keys(values: Iterable[str]) -> dict[str, Any]:
    """Return ``kind`` and ``classes`` of a task with these labels.

    >>> task_keys(["malignant", "benign", "malignant"])
    {'kind': 'binary', 'classes': ['benign', 'malignant']}
    """
    classes = sorted(set(values), key=_order)
    return {"kind": "binary" if len(classes) == 2 else "multiclass", "classes": classes}


def _order(label: str) -> tuple[bool, bool, float, str]:
    try:
        number, text = float(label), False
    except ValueError:
        number, text = 0.0, True
    return label.lower() not in NEGATIVE, text, number, label
