"""What damage costs: metrics under it, errors averaged over kinds and severities, with intervals of paired redraws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mailnet.data.config import EvaluationConfig
from mailnet.data.study import StudyData
from mailnet.metrics import measure, redraws
from mailnet.metrics.bootstrap import interval

SHOWN = ("balanced_accuracy", "macro_auroc", "ece")
ERROR = "balanced_accuracy"
Damaged = Mapping[tuple[str, int], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Reading:
    """Metrics of one task on some studies, with their redraws, by which readings of the same studies are paired.

    Args:
        n: Studies with a label.
        values: Metric -> value, NaN where not defined.
        draws: Metric -> (D,).
    """

    n: int
    values: dict[str, float]
    draws: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def error(self) -> tuple[float, np.ndarray]:
        """1 - balanced accuracy, its value and (D,) redraws."""
        return 1 - self.values[ERROR], 1 - self.draws.get(ERROR, np.zeros(0))

    def metrics(self) -> dict[str, Any]:
        """Return the shown metrics with intervals, as JSON can hold them."""
        return {key: estimate(self.values[key], self.draws.get(key, np.zeros(0))) for key in SHOWN}


class Reader:
    """Reads the metrics of probabilities.

    Args:
        data: The studies.
        settings: How many redraws, and their seed.
    """

    def __init__(self, data: StudyData, settings: EvaluationConfig) -> None:
        self.data, self.settings = data, settings
        group = data.frame["group"]
        self.groups = None if group.is_unique else group.to_numpy(dtype=str)

    def labelled(self, rows: np.ndarray) -> list[str]:
        """Return the tasks of which any of these studies has a label."""
        found = []
        for task, labels in self.data.labels.items():
            own = labels[rows]
            if (np.isfinite(own).any() if own.ndim == 2 else (own >= 0).any()) and len(rows):
                found.append(task)
        return found

    def read(self, task: str, probabilities: np.ndarray, rows: np.ndarray) -> Reading:
        """Return the metrics of a task.

        Args:
            task: Its name.
            probabilities: (n, K).
            rows: (n,) row numbers.
        """
        spec, labels = self.data.tasks[task], self.data.labels[task][rows]
        groups = None if self.groups is None else self.groups[rows]
        found = measure(probabilities, labels, spec, bootstrap=0)
        values = {key: np.nan if (e := found["metrics"].get(key)) is None else e["value"] for key in SHOWN}
        draws = redraws(
            probabilities, labels, spec, groups=groups, bootstrap=self.settings.bootstrap, seed=self.settings.seed
        )
        return Reading(found["n"], values, {key: draws[key] for key in SHOWN if key in draws})


@dataclass(frozen=True)
class Harm:
    """One task with one modality damaged.

    Args:
        clean: Undamaged, on the studies that have the modality.
        damaged: (kind, severity) -> reading of the same studies.
    """

    clean: Reading
    damaged: dict[tuple[str, int], Reading]

    @property
    def kinds(self) -> list[str]:
        """The kinds of damage in their order."""
        return list(dict.fromkeys(kind for kind, _ in self.damaged))

    def error_of(self, kind: str) -> tuple[float, np.ndarray]:
        """Return the error under a kind, mean over its severities, and its redraws."""
        return _mean([reading.error for (of, _), reading in self.damaged.items() if of == kind])

    def as_dict(self) -> dict[str, Any]:
        """Return metrics, losses against clean, and corruption errors, as JSON can hold them."""
        before = self.clean.error
        kinds: dict[str, Any] = {}
        for kind in self.kinds:
            severities = {
                str(severity): {
                    **reading.metrics(),
                    "loss": estimate(reading.error[0] - before[0], _less(reading.error[1], before[1])),
                }
                for (of, severity), reading in self.damaged.items()
                if of == kind
            }
            kinds[kind] = {"error": estimate(*self.error_of(kind)), "severities": severities}
        whole = _mean([self.error_of(kind) for kind in self.kinds])
        return {
            "n": self.clean.n,
            "clean": {**self.clean.metrics(), "error": estimate(*before)},
            "kinds": kinds,
            "mean_corruption_error": estimate(*whole),
            "mean_loss": estimate(whole[0] - before[0], _less(whole[1], before[1])),
        }

    def against(self, reference: Harm) -> dict[str, Any]:
        """Return by kind the error over that of a reference network on the same studies, and the mean over kinds.

        Source: Hendrycks and Dietterich, ICLR 2019: CE = sum of errors / sum of the reference's, mCE their mean.
        """
        ratios = {kind: _ratio(self.error_of(kind), reference.error_of(kind)) for kind in self.kinds}
        return {
            "kinds": {kind: estimate(*ratio) for kind, ratio in ratios.items()},
            "mean_corruption_error": estimate(*_mean(list(ratios.values()))),
        }


def read_harm(reader: Reader, rows: np.ndarray, plain: Mapping[str, np.ndarray], damaged: Damaged) -> dict[str, Harm]:
    """Return task -> harm.

    Args:
        reader: Of the studies.
        rows: (n,) row numbers of the studies whose modality was damaged.
        plain: Task -> (n, K) probabilities without damage.
        damaged: (kind, severity) -> the same under damage.
    """
    return {
        task: Harm(
            reader.read(task, plain[task], rows),
            {key: reader.read(task, answers[task], rows) for key, answers in damaged.items()},
        )
        for task in reader.labelled(rows)
    }


def estimate(value: float, draws: np.ndarray) -> dict[str, float] | None:
    """Return a value with its 95% interval, as evaluations hold it; None where it is not defined."""
    if not np.isfinite(value):
        return None
    bounds = interval(draws) if len(draws) else None
    return {"value": float(value)} | ({} if bounds is None else {"low": bounds[0], "high": bounds[1]})


def _mean(several: list[tuple[float, np.ndarray]]) -> tuple[float, np.ndarray]:
    return float(np.mean([value for value, _ in several])), np.mean([draws for _, draws in several], axis=0)


def _less(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(first - second)


def _ratio(first: tuple[float, np.ndarray], second: tuple[float, np.ndarray]) -> tuple[float, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = first[1] / second[1]
    return (first[0] / second[0] if second[0] else np.nan), np.where(np.isfinite(draws), draws, np.nan)
