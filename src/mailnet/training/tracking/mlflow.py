"""A run in MLflow: in a database of its own folder, or at the address that the user gives."""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailnet.errors import RunError
from mailnet.files import read_part, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

FORMAT = 1
SQLITE = "sqlite:///"
FILE = "tracking.json"  # in the run, the key by which a tracking server knows it again
TAG = "mailnet.run"
MARK = "learning_rate"  # every epoch has it: where it is logged, the epoch is
AT_ONCE = 100  # parameters that a server takes in one message
LONGEST = 500  # characters of a parameter that any server takes


def local_store(folder: Path) -> str:
    """Return the address of a database in ``folder/mlruns``, which MLflow makes when it is first used."""
    return f"{SQLITE}{(folder / 'mlruns' / 'mlflow.db').resolve().as_posix()}"


class MLflow:
    """One run of the experiment that has the name of the study.

    Args:
        run: Run folder; its name becomes that of MLflow's run.
        study: Name of the study.
        uri: Of the tracking server or database; None for a database in the run folder.

    Raises:
        RunError: It cannot be reached or written.
    """

    def __init__(self, run: Path, study: str, uri: str | None) -> None:
        place = uri or local_store(run)
        try:
            self._client = _connect(place)
            experiment = _experiment(self._client, study, place)
            # Known by a key of its own, so that a run is found again wherever its folder and the server are.
            key = _key(run)
            found = self._client.search_runs([experiment], f"tags.`{TAG}` = '{key}'", max_results=1)
            if found:
                self._id = found[0].info.run_id
                self._client.update_run(self._id, status="RUNNING")
            else:
                self._id = self._client.create_run(experiment, tags={TAG: key}, run_name=run.resolve().name).info.run_id
        except Exception as error:  # whatever a server or database may raise
            raise RunError(
                f"MLflow cannot use {place} ({str(error).strip().partition(chr(10))[0]})",
                file=run,
                remedy="Mend train.tracking_uri, or take mlflow out of train.track",
            ) from error

    def logged(self) -> set[int]:
        """Return the epochs that MLflow has of this run."""
        return {metric.step for metric in self._client.get_metric_history(self._id, MARK)}

    def describe(self, settings: Mapping[str, str | int | float | bool]) -> None:
        """Log the settings as parameters; those that are there cannot be changed."""
        from mlflow.entities import Param

        known = self._client.get_run(self._id).data.params
        new = [Param(_name(key), str(value)[:LONGEST]) for key, value in settings.items() if _name(key) not in known]
        for first in range(0, len(new), AT_ONCE):
            self._client.log_batch(self._id, params=new[first : first + AT_ONCE])

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log an epoch in one message."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(_name(key), value, now, epoch) for key, value in figures.items()])

    def finish(self, best: Mapping[str, float]) -> None:
        """Log the best epoch and mark the run as finished."""
        known = self._client.get_run(self._id).data.metrics
        self.log(int(best["best/epoch"]), {key: value for key, value in best.items() if key not in known})
        self._client.set_terminated(self._id, "FINISHED")

    def stop(self, interrupted: bool) -> None:
        """Mark the run as killed or failed; a later start takes that back."""
        self._client.set_terminated(self._id, "KILLED" if interrupted else "FAILED")


def _connect(place: str) -> MlflowClient:
    # MLflow reports its use to its makers unless this is set before it is loaded.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient
    from mlflow.telemetry import set_telemetry_client

    set_telemetry_client()  # where a program had loaded it before: takes away the client that reports
    if place.startswith(SQLITE):
        Path(place.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        return MlflowClient(tracking_uri=place, registry_uri=place)


def _experiment(client: MlflowClient, name: str, place: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # Nothing is put there, but MLflow would note the current folder.
        beside = Path(place.removeprefix(SQLITE)).resolve().with_name("artifacts").as_uri()
        try:
            return str(client.create_experiment(name, beside if place.startswith(SQLITE) else None))
        except MlflowException:  # another training may have made it meanwhile
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _key(run: Path) -> str:
    known: dict[str, Any] | None = read_part(run / FILE, FORMAT)
    if known is None:
        known = {"format": FORMAT, "key": uuid.uuid4().hex}
        write_json(run / FILE, known)
    return str(known["key"])


def _name(key: str) -> str:
    """Return a name that MLflow accepts."""
    return re.sub(r"[^\w\-. /]", "_", key)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the lines away by which MLflow says how it makes a database."""
    loggers = {name: logging.getLogger(name) for name in ("mlflow", "alembic")}
    before = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(before[name])
