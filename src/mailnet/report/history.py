"""The course of training, read from metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.metrics.values import Array
from mailnet.report.charts import training_chart


@dataclass(frozen=True)
class History:
    """Values per epoch, NaN where an epoch has none.

    Args:
        epochs: (E,) epoch numbers.
        train_loss: (E,) loss on the training studies.
        val_loss: (E,) loss on the validation studies.
        score: (E,) the monitored metric on the validation studies, or the loss.
        monitor: Its name.
        best: Epoch whose weights were kept.
        planned: Epochs that were asked for.
    """

    epochs: Array
    train_loss: Array
    val_loss: Array
    score: Array
    monitor: str
    best: int
    planned: int

    def at_best(self, values: Array) -> float:
        """Return the value at the best epoch."""
        return float(values[int(np.flatnonzero(self.epochs == self.best)[0])])


def read_history(epochs: Sequence[Mapping[str, Any]], monitor: str, planned: int, best: int | None) -> History | None:
    """Return the course of training, None where the run has no record of it.

    Args:
        epochs: Lines of metrics.jsonl.
        monitor: The metric that chose the epoch.
        planned: Epochs that were asked for.
        best: Epoch whose weights were kept; None while training has not finished, then the best so far.
    """
    if not epochs:
        return None

    def values(*keys: str) -> Array:
        return np.array([_value(line, keys) for line in epochs])

    number = np.array([int(line["epoch"]) for line in epochs])
    score = values("val", "loss") if monitor == "loss" else values("val", monitor)
    ranked = -score if monitor == "loss" else score
    if best is None or best not in number:
        best = int(number[int(np.nanargmax(ranked))]) if np.isfinite(ranked).any() else int(number[-1])
    return History(number, values("train", "loss"), values("val", "loss"), score, monitor, best, planned)


def loss_chart(history: History) -> str:
    """Return training and validation loss over epochs."""
    alt = (
        f"Loss over {len(history.epochs)} epochs. At the best epoch, {history.best}: "
        f"training {history.at_best(history.train_loss):.3f}, validation {history.at_best(history.val_loss):.3f}."
    )
    lines = ((history.train_loss, 0), (history.val_loss, 1))
    return training_chart(history.epochs, lines, history.best, "loss", alt, unit=False)


def score_chart(history: History, label: str) -> str:
    """Return the monitored metric over epochs."""
    alt = (
        f"{label} on validation studies over epochs; {history.at_best(history.score):.3f} at the best, {history.best}."
    )
    return training_chart(history.epochs, ((history.score, 1),), history.best, label.lower(), alt, unit=True)


def _value(line: Mapping[str, Any], keys: Sequence[str]) -> float:
    found: Any = line
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else float("nan")
