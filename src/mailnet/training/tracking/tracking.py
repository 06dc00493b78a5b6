"""What a training tells those that track it, and that it tells everything once.

The trackers of accelerate are not used: its MLflow tracker obeys environment variables and holds a global run, and what
its TensorBoard tracker writes of the settings stands there twice after a resumed run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import mailnet
from mailnet.data.config import SPLITS, StudyConfig
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError, RunError
from mailnet.training.progress import Progress

BEST = ("epoch", "value", "loss")
NEEDS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
# Neither settings of the training, nor of anybody's concern outside the run: places, and what tracks.
UNTRACKED = ("train.track", "train.tracking_uri", "train.distill.teacher", "train.checkpoint_minutes")


class Tracker(Protocol):
    """Where the figures of one run go."""

    def logged(self) -> set[int]:
        """Return the epochs, from 1, that an earlier start has logged."""

    def describe(self, settings: Mapping[str, str | int | float | bool]) -> None:
        """Keep the settings of the run."""

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Keep the figures of an epoch, so that a kill cannot take them away."""

    def finish(self, best: Mapping[str, float]) -> None:
        """Keep the figures of the best epoch; the training is finished."""

    def stop(self, interrupted: bool) -> None:
        """Let go of a training that is not finished."""


def require_trackers(names: Iterable[str]) -> None:
    """Check before any work that what shall track is installed.

    Raises:
        ConfigError: It is not.
    """
    for name in names:
        for module in NEEDS[name]:
            if importlib.util.find_spec(module) is None:
                raise ConfigError(
                    f"train.track: {name} needs the package '{module}', which is not installed",
                    remedy=f"pip install 'mailnet[{name}]'",
                )


class Tracking:
    """All trackers of a run, within a ``with`` block that is the training.

    Every epoch is logged once: those that an earlier start has logged are left alone, since a resumed run makes the
    same again, and those that it lacks are made up for.

    Args:
        names: Of the trackers: those of ``train.track``, none on all processes but the first.
        run: Run folder.
        config: The study.
        facts: What else describes the run, as ``run.json`` has it, and the number of studies.
        progress: What says that a tracker has failed.

    Raises:
        RunError: A tracker cannot be reached or written.
    """

    def __init__(
        self, names: Sequence[str], run: Path, config: StudyConfig, facts: Mapping[str, Any], progress: Progress
    ) -> None:
        self.progress = progress
        self._trackers: dict[str, Tracker] = {}
        self._logged: dict[str, set[int]] = {}
        settings = run_settings(config, facts)
        self._waiting: set[str] = set()  # trackers that failed
        for name in names:
            try:
                self._trackers[name] = tracker = _open(name, run, config)
                tracker.describe(settings)
                self._logged[name] = tracker.logged()
            except Exception as error:  # whatever a server, a disk or a library may raise
                self.__exit__(type(error), error, error.__traceback__)
                if isinstance(error, RunError):
                    raise
                remedy = f"Look whether it is in reach, or take {name} out of train.track"
                raise RunError(f"{name} did not take the run ({_reason(error)})", file=run, remedy=remedy) from error

    def epochs(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Log what is not logged yet of the lines of ``metrics.jsonl``."""
        for name in set(self._trackers) - self._waiting:
            self._try(name, history, None)

    def finish(self, history: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> None:
        """Log what is still missing and the best epoch, and mark the run as finished."""
        found = {f"best/{key}": float(best[key]) for key in BEST if best[key] is not None}
        for name in list(self._trackers):
            self._try(name, history, found)
        self._trackers = {}

    def _try(self, name: str, history: Sequence[Mapping[str, Any]], best: Mapping[str, float] | None) -> None:
        # Hours of training are not lost to a server that is away.
        tracker, logged = self._trackers[name], self._logged[name]
        try:
            for line in history:
                if line["epoch"] not in logged:
                    tracker.log(line["epoch"], epoch_figures(line))
                    logged.add(line["epoch"])
            if best is not None:
                tracker.finish(best)
        except Exception as error:  # whatever a server, a disk or a library may raise
            ahead = "it is tried again at the end" if best is None else "metrics.jsonl of the run has all"
            self.progress.say(f"{name} did not take epoch {history[-1]['epoch']} ({_reason(error)}): {ahead}")
            self._waiting.add(name)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, tracker in self._trackers.items():
            try:
                tracker.stop(kind is KeyboardInterrupt)
            except Exception as failed:  # the error of the training is the one to be seen
                self.progress.say(f"{name} could not be closed ({_reason(failed)})")


def _reason(error: Exception) -> str:
    """The first line of an error; libraries of servers add pages."""
    return str(error).strip().partition("\n")[0]


def run_settings(config: StudyConfig, facts: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return what a tracker knows of a run: settings of the network and of its training; no path, column or study.

    Args:
        config: The study.
        facts: What else describes the run.
    """
    sections = {"regime": config.regime, "model": config.model.model_dump(), "train": config.train.model_dump()}
    settings = {key: value for key, value in _flat(sections).items() if key not in UNTRACKED and value is not None}
    return settings | {key: value for key, value in _flat(facts).items() if value is not None}


def run_facts(data: StudyData, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what describes a run beside its settings: device, parameters and the number of studies."""
    known = {key: record[key] for key in ("device", "precision", "processes", "torch", "parameters")}
    return {"mailnet": mailnet.__version__, **known, "studies": {split: len(data.rows(split)) for split in SPLITS}}


def epoch_figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a line of ``metrics.jsonl`` by name; one that is not defined is left out.

    >>> epoch_figures({"epoch": 1, "learning_rate": 0.01, "val": {"loss": 0.5, "macro_auroc": None}})
    {'learning_rate': 0.01, 'val/loss': 0.5}
    """
    figures = _flat({key: value for key, value in line.items() if key != "epoch"}, "/")
    return {key: float(value) for key, value in figures.items() if value is not None}


def _flat(values: Mapping[str, Any], between: str = ".", prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(_flat(value, between, f"{name}{between}"))
        else:
            flat[name] = value if isinstance(value, str | int | float | None) else str(value)
    return flat


def _open(name: str, run: Path, config: StudyConfig) -> Tracker:
    if name == "tensorboard":
        from mailnet.training.tracking.tensorboard import TensorBoard

        return TensorBoard(run / "tensorboard")
    from mailnet.training.tracking.mlflow import MLflow

    return MLflow(run, config.name, config.train.tracking_uri)
