"""Studies that the network got right and wrong, with the images it saw; known by a row number only."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mailnet.data.config import SPLITS, ImageConfig, ModalityConfig, Split, StudyConfig, VolumeConfig
from mailnet.errors import MailnetError
from mailnet.metrics.multilabel import THRESHOLD
from mailnet.metrics.values import Array
from mailnet.report.results import TaskResult
from mailnet.report.words import listing

if TYPE_CHECKING:
    from mailnet.data.study import StudyData

SHOWN = 6
SIDE = 160
BUDGET = 1_200_000
VOLUMES = "Of volumes the middle planes are shown: axial, below it coronal, and beside that sagittal."


@dataclass(frozen=True)
class Picture:
    """An image of a study as a data URI, or None with the reason why there is none."""

    modality: str
    uri: str | None
    note: str = ""


@dataclass(frozen=True)
class Example:
    """One study: its row in the table of studies counted from 1, what is true, what was said and how surely."""

    row: int
    truth: str
    predicted: str
    probability: float
    right: bool
    pictures: list[Picture]


@dataclass
class Examples:
    """The examples of every task, and a sentence where something is missing."""

    tasks: dict[str, tuple[list[Example], list[Example]]] = field(default_factory=dict)
    note: str = ""

    @property
    def shows_images(self) -> bool:
        """Whether any example has an image."""
        return any(p.uri for pair in self.tasks.values() for several in pair for e in several for p in e.pictures)


def find_examples(
    config: StudyConfig,
    tasks: list[TaskResult],
    predictions: pd.DataFrame | None,
    data_root: str | Path | None,
    cache: str | Path | None,
) -> Examples:
    """Return examples of every task: right ones drawn at random over the classes, wrong ones the most confident first.

    Args:
        config: The study, whose images are read again.
        tasks: Results with labels and probabilities.
        predictions: The table they came from; its ``row`` and ``split`` find the images.
        data_root: Where the images lie now, when they have moved.
        cache: Folder of decoded images.
    """
    found = Examples()
    if predictions is None:
        found.note = "The run has no predictions.parquet, so no examples can be shown."
        return found
    pictures = _Pictures(config, predictions["row"].tolist())
    tested = set(predictions["split"])
    pictures.load([split for split in SPLITS if split in tested], data_root, cache)
    for task in tasks:
        if task.labels is not None:
            right, wrong = _choose(task)
            found.tasks[task.name] = (
                [_example(task, row, True, pictures) for row in right],
                [_example(task, row, False, pictures) for row in wrong],
            )
    found.note = pictures.note
    if found.shows_images and any(section.kind == "volume" for section in config.modalities.values()):
        found.note = f"{found.note} {VOLUMES}".strip()
    return found


class _Pictures:
    """Images by row of the predictions, within a budget of bytes."""

    def __init__(self, config: StudyConfig, rows: list[int]) -> None:
        self.config, self.rows, self.left, self.note = config, rows, BUDGET, ""
        self.data: StudyData | None = None
        self.place: dict[int, int] = {}
        self.without: set[int] = set()  # rows that have a table alone

    def load(self, splits: list[Split], data_root: str | Path | None, cache: str | Path | None) -> None:
        """Find the decoded images again; where that fails, leave a note."""
        from mailnet.data.study import load_study

        images = {name: spec for name, spec in self.config.modalities.items() if spec.kind != "tabular"}
        if not images:
            return
        changes: dict[str, Any] = {"modalities": images}
        if data_root is not None:
            changes["data_root"] = str(Path(data_root).resolve())
        try:
            config = self.config.model_copy(update=changes)
            self.data = load_study(config, cache=cache, skip_bad=True, splits=splits)
        except (MailnetError, OSError):
            # The message may name a study or a file, so only the fact is passed on.
            self.note = (
                "The study's images could not be read any more (moved, changed or deleted), so the examples are "
                "without."
            )
        else:
            self.place = {row: place for place, row in enumerate(self.data.frame["row"])}
            bad = zip(self.data.bad_rows, self.data.bad, strict=True)
            self.without = {row for row, error in bad if error.modality is None}

    def of(self, row: int) -> list[Picture]:
        return [self._picture(name, self.rows[row]) for name in self.config.modalities]

    def _picture(self, name: str, row: int) -> Picture:
        place = self.place.get(row)
        if self.config.modalities[name].kind == "tabular":
            return Picture(name, None, "table, values not shown")
        if row in self.without:
            return Picture(name, None, "absent")
        if self.data is None or place is None:
            return Picture(name, None, "not readable")
        if not self.data.present[name][place]:
            return Picture(name, None, "absent")
        if self.left <= 0:
            self.note = "Some images are left out to keep this file small."
            return Picture(name, None, "left out")
        uri = encode(shown(self.data.arrays[name][place], self.config.modalities[name]))
        self.left -= len(uri)
        return Picture(name, uri)


def shown(image: Array, section: ModalityConfig) -> Array:
    """Return what is shown of an image: grey or in colour, of several planes the middle one, of a volume three.

    Args:
        image: (C, H, W), of a volume (C, D, H, W).
        section: Its modality.

    Returns:
        (H, W) or (H, W, 3).
    """
    if isinstance(section, ImageConfig):
        # The planes lie one after the other, the wanted one in their middle.
        image = image[section.neighbours * section.channels :][: section.channels]
    image = np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]
    if not isinstance(section, VolumeConfig):
        return image
    depth, height, width = image.shape[:3]
    axial, coronal, sagittal = image[depth // 2], image[::-1, height // 2], image[::-1, :, width // 2]
    whole = np.zeros((height + depth + 1, width + height + 1, *image.shape[3:]), image.dtype)
    whole[:height, :width] = axial
    whole[height + 1 :, :width] = coronal
    whole[height + 1 :, width + 1 :] = sagittal
    return whole


def encode(image: Array) -> str:
    """Return an image as a data URI, at most 160 pixels a side.

    Args:
        image: (H, W) or (H, W, 3) uint8, or uint16, which is stretched to its own range so that 12-bit data is not
            black.
    """
    from PIL import Image

    if image.dtype != np.uint8:
        low, high = float(image.min()), float(np.percentile(image, 99.9))
        image = (255 * np.clip((image.astype(np.float32) - low) / max(high - low, 1.0), 0, 1)).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _choose(task: TaskResult) -> tuple[list[int], list[int]]:
    """Return rows of right and of wrong predictions."""
    labels, probabilities = task.labels, task.probabilities
    assert labels is not None
    assert probabilities is not None
    known = np.flatnonzero(task.known)
    if task.kind == "multilabel":
        error = np.nan_to_num(np.abs(probabilities - labels), nan=0.0).max(1)
        same = ((probabilities > THRESHOLD) == (labels == 1)) | np.isnan(labels)
        right, confidence, group = same.all(1), error, np.zeros(len(labels), int)
    else:
        right, confidence, group = probabilities.argmax(1) == labels, probabilities.max(1), labels
    wrong = [int(r) for r in known[~right[known]][np.argsort(-confidence[known[~right[known]]], kind="stable")][:SHOWN]]
    drawn = np.random.default_rng(0).permutation(known[right[known]])
    # One of each class before a second of any.
    turn = pd.Series(group[drawn]).groupby(group[drawn]).cumcount().to_numpy()
    return [int(row) for row in drawn[np.lexsort((group[drawn], turn))][:SHOWN]], wrong


def _example(task: TaskResult, row: int, right: bool, pictures: _Pictures) -> Example:
    assert task.labels is not None
    assert task.probabilities is not None
    label, probability = task.labels[row], task.probabilities[row]
    if task.kind == "multilabel":
        truth = listing([c for c, y in zip(task.classes, label, strict=True) if y == 1]) or "none"
        said = listing([c for c, p in zip(task.classes, probability, strict=True) if p > THRESHOLD]) or "none"
        worst = int(np.nanargmax(np.abs(probability - label)))
        sure = float(max(probability[worst], 1 - probability[worst]))
        return Example(pictures.rows[row], truth, said, sure, right, pictures.of(row))
    k = int(probability.argmax())
    return Example(
        pictures.rows[row], task.classes[int(label)], task.classes[k], float(probability[k]), right, pictures.of(row)
    )
