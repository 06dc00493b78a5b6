"""What all seeds of a network share on a study: its epochs and the overrides that tuning chose, each found once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailnet.benchmark.budget import planned_epochs, time_epoch
from mailnet.benchmark.cells import Cell
from mailnet.benchmark.network import discard_run
from mailnet.benchmark.suite import Suite, cell_config
from mailnet.data.config import StudyConfig
from mailnet.data.study import StudyData
from mailnet.errors import MailnetError
from mailnet.files import read_json, write_json

Train = Callable[[StudyConfig, Mapping[str, Any], Path], dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """What was found.

    Args:
        epochs: Epochs of a training, None of a model of the table.
        wanted: Epochs without a limit in seconds.
        tuned: Overrides, of a model of the table its options.
    """

    epochs: int | None = None
    wanted: int | None = None
    tuned: dict[str, Any] = field(default_factory=dict)


class Planner:
    """Finds the plan of a network on a study, or reads what was found.

    Args:
        suite: The suite.
        out: The benchmark's folder.
        cell: Any cell of the network on the study.
        fingerprint: Of ``network_fingerprint``; what was found under another one does not count.
        data_root: See ``cell_config``.
    """

    def __init__(self, suite: Suite, out: Path, cell: Cell, fingerprint: str, data_root: Path | None) -> None:
        self.suite, self.cell, self.fingerprint, self.data_root = suite, cell, fingerprint, data_root
        self.runs = out / "runs" / cell.study / cell.network
        self.budget_file = cell.folder(out) / "budget.json"
        self.tuning_file = cell.folder(out) / "tuning.json"
        self.trials = suite.trials(cell.network)
        self.boosted = suite.networks[cell.network].columns is not None
        self.timed = not self.boosted and (suite.budget.seconds or suite.budget.at_most_seconds) is not None

    def read(self) -> Plan | None:
        """Return the plan, or None where something has yet to be found."""
        budget, tuning = self._read(self.budget_file), self._read(self.tuning_file)
        if self.timed and budget is None:
            return None
        tuned = self.trials[0] if len(self.trials) == 1 else {}
        if len(self.trials) > 1:
            if tuning is None or tuning["chosen"] is None:
                return None
            tuned = self.trials[tuning["chosen"]]
        return Plan(*self._epochs(budget), tuned)

    def find(self, data: StudyData, train: Train) -> Plan:
        """Find what is missing, and write it.

        Args:
            data: The study, loaded.
            train: Trains under a configuration, the overrides of a trial and in a run folder; gives the best epoch.

        Raises:
            MailnetError: The network cannot be trained on this study, or no trial could.
        """
        if self.timed and self._read(self.budget_file) is None:
            run = self.runs / f"timing-{self.fingerprint}"
            seconds = time_epoch(self._config({}), run, data)
            found = {"fingerprint": self.fingerprint, "seconds_per_epoch": round(seconds, 4)}
            write_json(self.budget_file, found)
        if len(self.trials) > 1:
            self._tune(train)
        plan = self.read()
        assert plan is not None
        return plan

    def _tune(self, train: Train) -> None:
        assert self.suite.tuning is not None
        found = self._read(self.tuning_file) or {"fingerprint": self.fingerprint, "trials": [], "chosen": None}
        epochs, _ = self._epochs(self._read(self.budget_file))
        share = None if epochs is None else max(1, round(self.suite.tuning.share * epochs))
        for number, trial in enumerate(self.trials):
            if number < len(found["trials"]):
                continue
            changes: dict[str, Any] = {} if share is None else {"train.epochs": share}
            config = self._config({**({} if self.boosted else trial), "train.seed": self.suite.tuning.seed, **changes})
            run = self.runs / f"trial-{number}-{self.fingerprint}"
            try:
                answer = {"epochs": share, **train(config, trial, run)}
            except MailnetError as error:
                answer = {"error": error.message}
            found["trials"].append({"set": trial, **answer})
            write_json(self.tuning_file, found)
            discard_run(run)
        ranks = [_rank(answer) for answer in found["trials"]]
        if max(ranks) == (-math.inf, -math.inf):
            raise MailnetError(
                f"no trial could be trained: {found['trials'][0].get('error')}", remedy="Mend the trials"
            )
        found["chosen"] = ranks.index(max(ranks))
        write_json(self.tuning_file, found)

    def _config(self, changes: Mapping[str, Any]) -> StudyConfig:
        return cell_config(self.suite, self.cell.study, self.cell.network, changes, data_root=self.data_root)

    def _epochs(self, budget: dict[str, Any] | None) -> tuple[int | None, int | None]:
        if self.boosted:
            return None, None
        seconds = None if budget is None or not self.timed else float(budget["seconds_per_epoch"])
        own = self._config({}).train.epochs
        wanted = None if self.suite.budget.seconds is not None else planned_epochs(self.suite.budget, own, None)
        return planned_epochs(self.suite.budget, own, seconds), wanted

    def _read(self, file: Path) -> dict[str, Any] | None:
        if not file.is_file():
            return None
        values: dict[str, Any] = read_json(file)
        return values if values.get("fingerprint") == self.fingerprint else None


def _rank(answer: Mapping[str, Any]) -> tuple[float, float]:
    """Order of two trials, by validation alone: the monitored metric, then the lower loss."""
    loss = -math.inf if answer.get("loss") is None else -float(answer["loss"])
    if answer.get("monitor") == "loss":
        return loss, loss
    return (-math.inf if answer.get("value") is None else float(answer["value"])), loss
