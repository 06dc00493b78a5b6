"""The grid: every wanted cell that no file has yet, in one process or several that share a folder."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mailnet.benchmark.cells import Cell, Status, cell_status, list_cells, network_fingerprint, read_cell
from mailnet.benchmark.measure import CellRunner
from mailnet.benchmark.plan import Planner
from mailnet.benchmark.suite import Suite, cell_config
from mailnet.data.study import load_study
from mailnet.errors import MailnetError, RunError
from mailnet.locks import claim, knows_locks

LOCKS = "locks"
WAIT = 1.0  # seconds until a cell is looked at again whose network another process is tuning


@dataclass(frozen=True)
class GridResult:
    """What a run of the grid left.

    Args:
        cells: Cell -> what its file says now.
        errors: Cell -> what its network could not.
    """

    cells: dict[Cell, Status]
    errors: dict[Cell, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells by status."""
        return dict(Counter(self.cells.values()))

    @property
    def complete(self) -> bool:
        """Whether every wanted cell is done, or stale and left so."""
        return not {"error", "missing"} & set(self.cells.values())


@dataclass(frozen=True)
class Job:
    """What a worker needs to know.

    Args:
        suite: The suite.
        out: The benchmark's folder.
        cells: Cells to run, with the time at which their file was made, where there was one.
        data_root: Where the studies' paths start.
        cache: Folder of decoded images.
        keep_runs: Whether run folders stay.
        progress: Whether trainings report on stderr.
    """

    suite: Suite
    out: Path
    cells: list[tuple[Cell, str | None]]
    data_root: Path | None
    cache: Path | None
    keep_runs: bool
    progress: bool


def run_suite(
    suite: Suite,
    out: str | Path,
    *,
    studies: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
    jobs: int = 1,
    rerun: bool = False,
    keep_runs: bool = False,
) -> GridResult:
    """Run the cells that have no file yet; given again after a stop, go on where it was.

    Args:
        suite: The suite.
        out: The benchmark's folder: ``cells/STUDY/NETWORK/seed-N.json``, and ``runs/`` while a network trains.
        studies: Names of the only studies to run; default all.
        networks: Names of the only networks.
        seeds: The only seeds.
        data_root: Where the studies' paths start, in place of what their files say.
        cache: Folder of decoded images.
        jobs: Processes, each with the suite's threads.
        rerun: Also run cells again whose settings have changed, or whose network failed.
        keep_runs: Keep the run folders.

    Raises:
        ConfigError: A name or seed is not in the suite, or a study's file is wrong.
        RunError: The folder cannot be written, or a process ended before its time.
    """
    folder = Path(out)
    wanted = list_cells(suite, studies, networks, seeds)
    todo = []
    for cell, (status, values) in _look(suite, wanted, folder).items():
        if status == "missing" or (rerun and status != "done"):
            todo.append((cell, None if values is None else str(values["created"])))
    say(f"{len(wanted)} cells, {len(todo)} to run")
    if todo and not knows_locks(folder / LOCKS / "disk.lock"):
        say(f"The disk of {folder} knows no locks, so that one process works alone: start no other there meanwhile")
        jobs = 1
    root, images = (None if path is None else Path(path) for path in (data_root, cache))
    job = Job(suite, folder, todo, root, images, keep_runs, progress=jobs == 1)
    if todo and jobs == 1:
        _work_with_threads(job)
    elif todo:
        _in_processes(job, min(jobs, len(todo)))
    found = _look(suite, wanted, folder)
    errors = {cell: str(values["error"]) for cell, (status, values) in found.items() if values and status == "error"}
    return GridResult({cell: status for cell, (status, _) in found.items()}, errors)


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def _look(suite: Suite, cells: Sequence[Cell], out: Path) -> dict[Cell, tuple[Status, dict[str, Any] | None]]:
    fingerprints = {
        pair: network_fingerprint(suite, *pair) for pair in dict.fromkeys((c.study, c.network) for c in cells)
    }
    found = {}
    for cell in cells:
        values = read_cell(cell, out)
        found[cell] = cell_status(values, fingerprints[cell.study, cell.network]), values
    return found


def _in_processes(job: Job, jobs: int) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work_with_threads, args=(job,)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            worker.terminate()
    if failed := [worker.exitcode for worker in workers if worker.exitcode]:
        raise RunError(
            f"{len(failed)} of {jobs} processes ended early (status {failed[0]})",
            remedy="See what they printed; the same command goes on where it was",
        )


def _work_with_threads(job: Job) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(job.suite.threads)
    try:
        _work(job)
    finally:
        torch.set_num_threads(before)


def _work(job: Job) -> None:
    """Take cells until none is left that no other process has."""
    runners: dict[str, CellRunner | None] = {}  # None: the study cannot be loaded
    left = job.cells
    while left:
        waiting = []
        for number, (cell, before) in enumerate(left, 1):
            if _is_orphan():
                return
            with claim(_lock(job.out, cell, f"seed-{cell.seed}")) as mine:
                if mine and _is_as_before(cell, before, job.out):
                    place = f"[{number}/{len(left)}]"
                    if not _try(job, cell, runners, place):
                        waiting.append((cell, before))
        if len(waiting) == len(left):
            time.sleep(WAIT)
        left = waiting


def _is_orphan() -> bool:
    """Whether the process that started this worker is gone, as when it was killed."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _try(job: Job, cell: Cell, runners: dict[str, CellRunner | None], place: str) -> bool:
    """Run a claimed cell; return False where another process is finding the plan of its network."""
    fingerprint = network_fingerprint(job.suite, cell.study, cell.network)
    planner = Planner(job.suite, job.out, cell, fingerprint, job.data_root)
    if cell.study not in runners:
        runners[cell.study] = _runner(job, cell)
    runner = runners[cell.study]
    if runner is None:
        return True
    failed = None
    if planner.read() is None:
        with claim(_lock(job.out, cell, "plan")) as mine:
            if not mine:
                return False
            say(f"{place} {cell}: measuring and tuning first")
            failed = runner.plan(cell, planner)
    _report(place, cell, failed or runner.run(cell, planner), job.suite.metric)
    return True


def _report(place: str, cell: Cell, values: dict[str, Any], metric: str) -> None:
    if "error" in values:
        say(f"{place} {cell}: failed. {values['error']}")
        return
    scores = (
        f"{task} {found['metrics'][metric]['value']:.4f}"
        for task, found in values["tasks"].items()
        if found["metrics"][metric]
    )
    epochs = "" if values["epochs"] is None else f"{values['epochs']} epochs, "
    say(f"{place} {cell}: {epochs}{values['seconds']:.0f} s; {metric.replace('_', ' ')}: {', '.join(scores)}")


def _runner(job: Job, cell: Cell) -> CellRunner | None:
    # A study that cannot be read is a fault of this machine's data, and says nothing of any network.
    try:
        config = cell_config(job.suite, cell.study, cell.network, data_root=job.data_root)
        data = load_study(config, cache=job.cache)
    except MailnetError as error:
        say(f"{cell.study} cannot be loaded, its cells are left out. {error}")
        return None
    return CellRunner(
        job.suite, job.out, data, job.data_root, cache=job.cache, keep_runs=job.keep_runs, progress=job.progress
    )


def _is_as_before(cell: Cell, created: str | None, out: Path) -> bool:
    values = read_cell(cell, out)
    return (None if values is None else values["created"]) == created


def _lock(out: Path, cell: Cell, name: str) -> Path:
    return out / LOCKS / cell.study / cell.network / f"{name}.lock"
