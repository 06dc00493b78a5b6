"""Studies before and after an attack, with what was changed, magnified."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.data.config import StudyConfig
from mailnet.metrics.multilabel import THRESHOLD
from mailnet.report.examples import encode, shown
from mailnet.report.words import listing


@dataclass(frozen=True)
class Strip:
    """One modality: as it is, attacked, and the change, each as a data URI."""

    modality: str
    pictures: list[tuple[str, str]]


@dataclass(frozen=True)
class Attacked:
    """One study, known by its row."""

    row: int
    task: str
    truth: str
    before: str
    after: str
    strips: list[Strip]


def read_attacked(run: Path, card: Mapping[str, Any], config: StudyConfig) -> tuple[list[Attacked], int]:
    """Return the examples of a result card, and how many times their changes are magnified, all alike.

    Args:
        run: Folder of the card.
        card: The card.
        config: The study, which says how images are shown.

    Returns:
        No example where there are none, or their file is gone or damaged.
    """
    examples = card.get("examples")
    if not examples:
        return [], 1
    try:
        with np.load(run / examples["file"], allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        largest = max(float(np.abs(array).max()) for name, array in arrays.items() if name.startswith("change_"))
        factor = max(1, int(0.5 / max(largest, 1e-6)))
        found = [_attacked(k, one, arrays, card, config, factor) for k, one in enumerate(examples["shown"])]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return [], 1
    return found, factor


def _attacked(
    k: int,
    example: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    card: Mapping[str, Any],
    config: StudyConfig,
    factor: int,
) -> Attacked:
    task = card["tasks"][example["task"]]
    strips = []
    for m, name in enumerate(example["modalities"]):
        clean, change = arrays[f"clean_{k}_{m}"], arrays[f"change_{k}_{m}"].astype(np.float32)
        several = (
            ("as it is", clean),
            ("attacked", _bytes(clean / 255 + change)),
            ("change", _bytes(0.5 + factor * change)),
        )
        pictures = [(label, encode(shown(image, config.modalities[name]))) for label, image in several]
        strips.append(Strip(name, pictures))
    truth = example["truth"]
    return Attacked(
        row=example["row"],
        task=example["task"],
        truth=task["classes"][truth] if isinstance(truth, int) else _given([y == 1 for y in truth], task["classes"]),
        before=_answer(example["before"], task),
        after=_answer(example["after"], task),
        strips=strips,
    )


def _answer(probabilities: list[float], task: Mapping[str, Any]) -> str:
    if task["kind"] == "multilabel":
        return _given([p > THRESHOLD for p in probabilities], task["classes"])
    k = int(np.argmax(probabilities))
    return f"{task['classes'][k]} ({100 * probabilities[k]:.0f}%)"


def _given(answers: list[bool], classes: list[str]) -> str:
    return listing([name for name, given in zip(classes, answers, strict=True) if given]) or "none"


def _bytes(image: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.rint(255 * image.clip(0, 1)).astype(np.uint8)
    return found
