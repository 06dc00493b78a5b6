"""What 'mailnet benchmark' does and prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailnet.benchmark import load_suite, run_suite
from mailnet.cli.output import print_table, say


def run_benchmark(
    suite_path: Path,
    out: Path,
    *,
    studies: Sequence[str],
    networks: Sequence[str],
    seeds: Sequence[int],
    data_root: Path | None,
    cache: Path | None,
    jobs: int,
    rerun: bool,
    keep_runs: bool,
) -> dict[str, Any]:
    """Run what is missing; return what ``--json`` prints."""
    suite = load_suite(suite_path)
    outcome = run_suite(
        suite, out, studies=studies, networks=networks, seeds=seeds, data_root=data_root, cache=cache, jobs=jobs,
        rerun=rerun, keep_runs=keep_runs,
    )  # fmt: skip
    for cell, status in outcome.cells.items():
        if status == "stale":
            say(f"{cell} is of other settings than the suite's: left as it is, --rerun makes it again")
    return {
        "out": str(out),
        "complete": outcome.complete,
        "cells": outcome.counts,
        "errors": {str(cell): error for cell, error in outcome.errors.items()},
        "stale": [str(cell) for cell, status in outcome.cells.items() if status == "stale"],
    }


def print_benchmark(result: dict[str, Any]) -> None:
    """Print the counts of cells and what failed."""
    print_table("Cells", ["status", "cells"], [[status, str(count)] for status, count in result["cells"].items()])
    if result["errors"]:
        print_table("Failed", ["cell", ""], [[cell, error] for cell, error in result["errors"].items()])
