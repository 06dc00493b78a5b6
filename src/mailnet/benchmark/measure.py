"""A cell measured: planned, trained, tested, and written as one JSON."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

import mailnet
from mailnet.benchmark.attacked import attack_run
from mailnet.benchmark.boosting import run_boosting
from mailnet.benchmark.cells import FORMAT, Cell, write_cell
from mailnet.benchmark.network import discard_run, run_network, training_seconds
from mailnet.benchmark.outcome import Outcome, compact, take, task_results
from mailnet.benchmark.plan import Plan, Planner
from mailnet.benchmark.suite import NetworkEntry, Suite, cell_config
from mailnet.data.config import StudyConfig
from mailnet.data.study import StudyData
from mailnet.errors import MailnetError
from mailnet.files import read_json
from mailnet.training import train


class CellRunner:
    """Runs cells of one study in this process.

    Args:
        suite: The suite.
        out: The benchmark's folder.
        data: The cells' study, loaded.
        data_root: See ``cell_config``.
        cache: Folder of decoded images.
        keep_runs: Whether run folders stay.
        progress: Whether trainings report on stderr.
    """

    def __init__(
        self,
        suite: Suite,
        out: Path,
        data: StudyData,
        data_root: Path | None,
        *,
        cache: Path | None,
        keep_runs: bool,
        progress: bool,
    ) -> None:
        self.suite, self.out, self.data, self.data_root = suite, out, data, data_root
        self.cache, self.keep_runs, self.progress = cache, keep_runs, progress
        self.test = take(data, data.rows("test"))

    def plan(self, cell: Cell, planner: Planner) -> dict[str, Any] | None:
        """Find what all seeds of the network share; return the cell's values where that failed, as ``run`` does."""
        find = partial(planner.find, self.data, partial(self._trial, entry=self.suite.networks[cell.network]))
        error = self._error_of(find)
        return None if error is None else self._write(cell, planner, {"error": error})

    def run(self, cell: Cell, planner: Planner) -> dict[str, Any]:
        """Measure a cell, write its file and return what it holds; a network that cannot be trained is an ``error``."""
        run = planner.runs / f"seed-{cell.seed}-{planner.fingerprint}"
        measured: dict[str, Any] = {}
        error = self._error_of(lambda: measured.update(self._measured(cell, planner, run)))
        values = self._write(cell, planner, measured if error is None else {"error": error})
        if not self.keep_runs:
            discard_run(run)
        return values

    @staticmethod
    def _error_of(work: Callable[[], Any]) -> str | None:
        """Do the work; return what went wrong, since one network's fault must not stop the grid."""
        try:
            work()
        except MailnetError as error:
            return _without_paths(f"{error.message}. {error.remedy or ''}".strip())
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
            return _without_paths(f"{type(error).__name__}: {error}")
        return None

    def _write(self, cell: Cell, planner: Planner, found: Mapping[str, Any]) -> dict[str, Any]:
        values = {
            "format": FORMAT,
            "mailnet": mailnet.__version__,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "fingerprint": planner.fingerprint,
            "study": cell.study,
            "network": cell.network,
            "seed": cell.seed,
            **found,
        }
        write_cell(cell, self.out, values)
        return values

    def _measured(self, cell: Cell, planner: Planner, run: Path) -> dict[str, Any]:
        entry = self.suite.networks[cell.network]
        plan = planner.read() or planner.find(self.data, partial(self._trial, entry=entry))
        config = self._config(cell, plan)
        outcome = self._outcome(cell, config, plan.tuned, run)
        settings = config.evaluation
        return {
            "model": {
                "name": entry.name or entry.columns,
                "options": {**entry.options, **plan.tuned} if entry.columns else config.model.options,
            },
            "machine": {"threads": self.suite.threads, **outcome.machine},
            "epochs": plan.epochs,
            "wanted_epochs": plan.wanted,
            "trials": len(self.suite.trials(cell.network)),
            "tuned": plan.tuned,
            "best": outcome.best,
            "seconds": round(outcome.seconds, 2),
            "history": compact(outcome.history),
            "parameters": outcome.parameters,
            "macs": outcome.macs,
            "regime": config.regime,
            "tasks": task_results(self.test, outcome.probabilities, settings.bootstrap, settings.seed),
            "only": outcome.only,
            **self._attacked(cell, run),
        }

    def _attacked(self, cell: Cell, run: Path) -> dict[str, Any]:
        """``attacks``: attack -> what is left; nothing where none is wanted."""
        attack = partial(attack_run, run, data_root=self.data_root, cache=self.cache)
        wanted = self.suite.attacks_on(cell.study, cell.network)
        return {"attacks": {name: attack(name, entry) for name, entry in wanted.items()}} if wanted else {}

    def _config(self, cell: Cell, plan: Plan) -> StudyConfig:
        boosted = self.suite.networks[cell.network].columns is not None
        changes: dict[str, Any] = {**({} if boosted else plan.tuned), "train.seed": cell.seed}
        if plan.epochs is not None:
            changes["train.epochs"] = plan.epochs
        return cell_config(self.suite, cell.study, cell.network, changes, data_root=self.data_root)

    def _outcome(self, cell: Cell, config: StudyConfig, tuned: Mapping[str, Any], run: Path) -> Outcome:
        entry = self.suite.networks[cell.network]
        if entry.columns is None:
            return run_network(config, run, self.data, self.test, self.suite.metric, progress=self.progress)
        with threadpool_limits(self.suite.threads):
            return run_boosting(config, {**entry.options, **tuned}, self.data, self.test)

    def _trial(self, config: StudyConfig, trial: Mapping[str, Any], run: Path, entry: NetworkEntry) -> dict[str, Any]:
        """Train a trial and return its best epoch; the test studies are not looked at."""
        if entry.columns is None:
            result = train(config, run, data=self.data, progress=self.progress)
            device = read_json(run / "run.json")["device"]
            best, seconds = result.best, sum(training_seconds(line, device) for line in result.history)
        else:
            val = take(self.data, self.data.rows("val"))
            with threadpool_limits(self.suite.threads):
                outcome = run_boosting(config, {**entry.options, **trial}, self.data, val)
            best, seconds = outcome.best, outcome.seconds
        return {**best, "seconds": round(seconds, 2)}


def _without_paths(text: str) -> str:
    """Return a message on one line without what looks like a path, since cells are for others to read."""
    return re.sub(r"\S*[/\\]\S+", "(path)", " ".join(text.split()))[:500]
