"""What 'mailnet benchmark' does and prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailnet.benchmark import load_suite, run_suite, update_costs, write_tables
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
    tables: bool,
    cost: bool,
) -> dict[str, Any]:
    """Run what is missing, measure costs and write the tables, or these alone; return what ``--json`` prints."""
    suite = load_suite(suite_path)
    if tables:
        return {"complete": True, "tables": str(write_tables(suite, out))}
    outcome = run_suite(
        suite, out, studies=studies, networks=networks, seeds=seeds, data_root=data_root, cache=cache, jobs=jobs,
        rerun=rerun, keep_runs=keep_runs,
    )  # fmt: skip
    for cell, status in outcome.cells.items():
        if status == "stale":
            say(f"{cell} is of other settings than the suite's: left as it is, --rerun makes it again")
    if suite.latency or cost:
        for study in update_costs(suite, out, studies=studies, data_root=data_root, cache=cache, again=cost):
            say(f"{study}: latency of its networks measured")
    return {
        "tables": str(write_tables(suite, out)),
        "complete": outcome.complete,
        "cells": outcome.counts,
        "errors": {str(cell): error for cell, error in outcome.errors.items()},
        "stale": [str(cell) for cell, status in outcome.cells.items() if status == "stale"],
    }


def print_benchmark(result: dict[str, Any]) -> None:
    """Print the counts of cells and what failed."""
    if "cells" in result:
        print_table("Cells", ["status", "cells"], [[status, str(count)] for status, count in result["cells"].items()])
    if result.get("errors"):
        print_table("Failed", ["cell", ""], [[cell, error] for cell, error in result["errors"].items()])
    print(result["tables"])
