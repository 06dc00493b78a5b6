"""What a model knows of its own answers, fitted on validation studies after training and kept in its bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.errors import ConfigError, RunError
from mailnet.files import read_part, write_json
from mailnet.specs import TaskSpec
from mailnet.trust.abstain import Abstention
from mailnet.trust.calibration import Calibrator
from mailnet.trust.sets import ConformalSets
from mailnet.trust.uncertainty import confidence_of

FILE, FORMAT = "calibration.json", 1
REORDERING = ("vector", "isotonic")  # calibrations that may change the answer


@dataclass(frozen=True)
class Reliability:
    """Calibration, prediction sets and thresholds of a model.

    A temperature changes no answer, so sets and thresholds read the probabilities as the network gives them: their
    promise then does not depend on what calibration has learned from the same studies. Another calibration may change
    answers; there they read the calibrated ones, and are fitted on other patients than it is.

    Args:
        calibrators: Task -> how its probabilities are calibrated.
        sets: Task -> its prediction sets, one for each chance of missing the true answer (alpha).
        abstentions: Task -> when it answers at all.
        split: Split that all were fitted on.
    """

    calibrators: dict[str, Calibrator] = field(default_factory=dict)
    sets: dict[str, tuple[ConformalSets, ...]] = field(default_factory=dict)
    abstentions: dict[str, Abstention] = field(default_factory=dict)
    split: str = "val"

    def calibrate(self, probabilities: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return task -> (N, K) calibrated probabilities of those that the network gives."""
        return {
            task: self.calibrators[task].apply(values) if task in self.calibrators else values
            for task, values in probabilities.items()
        }

    def read(self, task: str, probabilities: np.ndarray) -> np.ndarray:
        """Return (N, K), what sets and thresholds of a task read, from what the network gives."""
        calibrator = self.calibrators.get(task)
        return calibrator.apply(probabilities) if calibrator and calibrator.method in REORDERING else probabilities

    @property
    def alphas(self) -> tuple[float, ...]:
        """The alphas that there are sets for, as they were asked for."""
        return next((tuple(one.alpha for one in several) for several in self.sets.values()), ())

    def members(self, probabilities: Mapping[str, np.ndarray], alpha: float) -> dict[str, np.ndarray]:
        """Return task -> (N, K) bool, the answers in each set; of a multilabel task (N, K, 2), absent and present.

        Args:
            probabilities: Task -> (N, K) as the network gives them.
            alpha: Chance of missing the true answer, one of ``alphas``.

        Raises:
            ConfigError: There are no sets for it.
        """
        if not any(np.isclose(alpha, known) for known in self.alphas):
            known = ", ".join(f"{value:g}" for value in self.alphas) or "none"
            raise ConfigError(
                f"the model has no prediction sets for alpha {alpha:g}; it has {known}",
                remedy=f"Fit them with 'mailnet evaluate RUN --conformal {alpha:g}'",
            )
        found = {}
        for task, values in probabilities.items():
            sets = next(one for one in self.sets[task] if np.isclose(one.alpha, alpha))
            found[task] = sets.predict(self.read(task, values))
        return found

    def answered(self, probabilities: Mapping[str, np.ndarray], tasks: Mapping[str, TaskSpec]) -> dict[str, np.ndarray]:
        """Return task -> (N,) bool, the model is sure enough to answer; of the tasks that have a threshold.

        Args:
            probabilities: Task -> (N, K) as the network gives them.
            tasks: The tasks.
        """
        return {
            task: self.abstentions[task].answered(least_confidence(self.read(task, values), tasks[task]))
            for task, values in probabilities.items()
            if task in self.abstentions
        }


def least_confidence(probabilities: np.ndarray, spec: TaskSpec) -> np.ndarray:
    """Return (N,) the probability of the answer given, of a multilabel task that of its least sure label."""
    confidence = confidence_of(probabilities, spec)
    return np.asarray(confidence.min(1) if confidence.ndim == 2 else confidence)


def write_reliability(folder: Path, reliability: Reliability) -> None:
    """Write it into a bundle, at once or not at all.

    Args:
        folder: The bundle.
        reliability: What was fitted.

    Raises:
        RunError: The folder cannot be written.
    """
    values = {
        "format": FORMAT,
        "split": reliability.split,
        "calibrators": {task: one.as_dict() for task, one in reliability.calibrators.items()},
        "sets": {task: [one.as_dict() for one in several] for task, several in reliability.sets.items()},
        "abstentions": {task: one.as_dict() for task, one in reliability.abstentions.items()},
    }
    write_json(folder / FILE, values)


def read_reliability(folder: Path, tasks: Mapping[str, TaskSpec]) -> Reliability | None:
    """Read it from a bundle; None where nothing has been fitted.

    Args:
        folder: The bundle.
        tasks: The model's tasks.

    Raises:
        RunError: It is damaged, of other tasks, or written by a newer mailnet.
    """
    path = folder / FILE
    values = read_part(path, FORMAT)
    if values is None:
        return None
    try:
        found = Reliability(
            {task: Calibrator.from_dict(one) for task, one in values["calibrators"].items()},
            {task: tuple(map(ConformalSets.from_dict, several)) for task, several in values["sets"].items()},
            {task: Abstention.from_dict(one) for task, one in values["abstentions"].items()},
            str(values["split"]),
        )
        _check(found, tasks)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        remedy = "Fit it again with 'mailnet evaluate RUN --calibrate', or delete the file"
        raise RunError(f"cannot be understood ({error})", file=path, remedy=remedy) from error
    return found


def calibration_digest(calibrators: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a short name of a calibration, by which an evaluation knows whether it was measured with it.

    Args:
        calibrators: Task -> ``Calibrator.as_dict()``, in memory or as JSON holds it.
    """
    return hashlib.sha256(json.dumps(calibrators, sort_keys=True).encode()).hexdigest()[:16]


def _check(found: Reliability, tasks: Mapping[str, TaskSpec]) -> None:
    for task, one in found.calibrators.items():
        if (one.kind, one.classes) != (tasks[task].kind, len(tasks[task].classes)):
            raise ValueError(f"task '{task}': the calibration is of another kind or number of classes")
    for task, several in found.sets.items():
        if any(one.spec != tasks[task] for one in several):
            raise ValueError(f"task '{task}': the sets are of another task")
    if found.sets and set(found.sets) != set(tasks):
        raise ValueError("there are sets for some of the tasks only")
    if not set(found.abstentions) <= set(tasks):
        raise ValueError("there is a threshold of a task that the model has not")


def set_in_words(spec: TaskSpec, members: np.ndarray) -> str:
    """Return one study's set as a text: its answers joined by ``|``; of labels the present ones, ``?`` the undecided.

    Args:
        spec: The task.
        members: (K,) bool; for multilabel (K, 2).
    """
    if spec.kind != "multilabel":
        return "|".join(name for name, held in zip(spec.classes, members, strict=True) if held)
    return "|".join(
        name + ("?" if absent else "") for name, (absent, present) in zip(spec.classes, members, strict=True) if present
    )


def set_as_json(spec: TaskSpec, members: np.ndarray) -> Any:
    """Return one study's set for JSON: a list of answers; of labels ``present`` and ``undecided`` ones.

    Args:
        spec: The task.
        members: (K,) bool; for multilabel (K, 2).
    """
    if spec.kind != "multilabel":
        return [name for name, held in zip(spec.classes, members, strict=True) if held]
    return {
        "present": [name for name, (no, yes) in zip(spec.classes, members, strict=True) if yes and not no],
        "undecided": [name for name, (no, yes) in zip(spec.classes, members, strict=True) if yes and no],
    }
