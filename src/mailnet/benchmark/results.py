"""What the cells of a suite say, read from their files alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.benchmark.cells import cell_status, list_cells, network_fingerprint, read_cell
from mailnet.benchmark.cost import cost_file
from mailnet.benchmark.suite import Suite
from mailnet.files import read_json

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Results:
    """The cells that count.

    Args:
        suite: The suite.
        cells: Study -> network -> the values of its cells, by seed.
        costs: Study -> what its ``cost.json`` holds.
        notes: What is missing, stale or failed, a sentence each.
    """

    suite: Suite
    cells: dict[str, dict[str, list[dict[str, Any]]]]
    costs: dict[str, dict[str, Any]]
    notes: list[str]

    def tasks(self, study: str) -> list[str]:
        """Return the tasks of a study that any network answers, in the order of the study."""
        several = [cells[0]["tasks"] for cells in self.cells[study].values()]
        return list(dict.fromkeys(task for tasks in sorted(several, key=len, reverse=True) for task in tasks))

    def values(
        self, study: str, network: str, task: str, metric: str, seeds: Collection[int] | None = None
    ) -> list[float]:
        """Return a metric's value of each seed, or of some; empty where one lacks it."""
        cells = [cell for cell in self.cells[study][network] if seeds is None or cell["seed"] in seeds]
        found = [cell["tasks"].get(task, {}).get("metrics", {}).get(metric) for cell in cells]
        return [] if None in found else [float(each["value"]) for each in found]

    def redraws(self, study: str, network: str, task: str, metric: str) -> Array:
        """Return (S, D) of a metric's redraws, NaN where one is not defined; D is 0 where a seed has none."""
        drawn = [cell["tasks"][task]["redraws"].get(metric, []) for cell in self.cells[study][network]]
        if not all(drawn) or len({len(each) for each in drawn}) > 1:
            return np.zeros((len(drawn), 0))
        return np.array([[np.nan if value is None else value for value in each] for each in drawn])

    def drawn(self, study: str, network: str, task: str) -> set[str]:
        """Return the digests of what the redraws were made of; networks with the same one are paired."""
        return {cell["tasks"][task]["drawn"] for cell in self.cells[study][network]}

    def seeds(self, study: str, networks: Iterable[str]) -> set[int]:
        """Return the seeds of a study that all of some networks have, so that a mean over them treats all alike."""
        return set.intersection(*({cell["seed"] for cell in self.cells[study][name]} for name in networks))

    def score(self, study: str, network: str, seeds: Collection[int] | None = None) -> float | None:
        """Return the primary metric, its mean over tasks and seeds; None unless the network answers every task."""
        tasks = self.tasks(study) if network in self.cells[study] else []
        several = [self.values(study, network, task, self.suite.metric, seeds) for task in tasks]
        return float(np.mean([np.mean(values) for values in several])) if several and all(several) else None


def read_results(suite: Suite, out: Path) -> Results:
    """Read the cells; what is stale or failed does not count and is noted.

    Raises:
        ConfigError: A study's file is wrong.
        RunError: A cell's file cannot be read.
    """
    cells: dict[str, dict[str, list[dict[str, Any]]]] = {study: {} for study in suite.studies}
    gaps: dict[tuple[str, str, str], list[int]] = {}
    for cell in sorted(list_cells(suite), key=lambda c: list(suite.networks).index(c.network)):
        values = read_cell(cell, out)
        status = cell_status(values, network_fingerprint(suite, cell.study, cell.network))
        if status == "done" and values is not None:
            cells[cell.study].setdefault(cell.network, []).append(values)
        else:
            reason = f"failed ({values['error']})" if values is not None and status == "error" else status
            gaps.setdefault((cell.study, cell.network, reason), []).append(cell.seed)
    costs = {study: read_json(cost_file(out, study)) for study in suite.studies if cost_file(out, study).is_file()}
    return Results(suite, cells, costs, _notes(suite, gaps))


def _notes(suite: Suite, gaps: Mapping[tuple[str, str, str], Sequence[int]]) -> list[str]:
    """What has no cell that counts, in few sentences: studies of a network together, and seeds that nothing has."""
    missing = {(study, network): set(seeds) for (study, network, reason), seeds in gaps.items() if reason == "missing"}
    wanted = {(cell.study, cell.network) for cell in list_cells(suite)}
    bare = [seed for seed in suite.seeds if all(seed in missing.get(pair, ()) for pair in wanted)]
    notes = [f"Seed {', '.join(map(str, bare))}: no cell yet."] if bare else []
    together: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for (study, network, reason), seeds in gaps.items():
        left = tuple(seed for seed in seeds if seed not in bare)
        if left:
            together.setdefault((network, reason, left), []).append(study)
    words = {"missing": "missing", "stale": "left out, of other settings than the suite's now"}
    for (network, reason, seeds), studies in together.items():
        where = f"{', '.join(studies)}, {network}, seed {', '.join(map(str, seeds))}"
        notes.append(f"{where}: {words.get(reason, reason)}.")
    return notes
