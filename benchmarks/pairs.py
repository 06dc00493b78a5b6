"""How runs differ from others on the same test studies, seed by seed, with intervals that share their redraws.

    python benchmarks/pairs.py --first runs/alone-0 runs/alone-1 --second runs/student-0 runs/student-1

Every run has been evaluated (``mailnet evaluate``). Printed are, by task, means over the runs of each side, and the
mean of the differences of pairs, second minus first, with its 95% interval over redrawn patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mailnet.bundle import read_facts
from mailnet.cli.output import print_table
from mailnet.metrics import measure
from mailnet.metrics.measure import redraws
from mailnet.specs import TaskSpec

METRICS = ("balanced_accuracy", "macro_auroc", "nll", "ece")


def read(run: Path, spec: TaskSpec) -> dict[str, Any]:
    """Return the probabilities (N, K), labels and groups of a run's test studies."""
    frame = pd.read_parquet(run / "predictions.parquet")
    names = [f"prob:{spec.name}:{one}" for one in spec.classes]
    labels = [f"label:{spec.name}:{one}" for one in spec.classes] if spec.kind == "multilabel" else f"label:{spec.name}"
    groups = frame["group"].to_numpy() if "group" in frame else None
    return {"probabilities": frame[names].to_numpy(np.float32), "labels": frame[labels].to_numpy(), "groups": groups}


def compare(spec: TaskSpec, first: list[Path], second: list[Path]) -> list[list[str]]:
    """Return the rows of a task's table."""
    values: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for pair in zip(first, second, strict=True):
        data = [read(run, spec) for run in pair]
        if not np.array_equal(data[0]["labels"], data[1]["labels"], equal_nan=True):
            raise SystemExit(f"{pair[0]} and {pair[1]} were not evaluated on the same studies")
        found = [measure(of["probabilities"], of["labels"], spec, bootstrap=0)["metrics"] for of in data]
        draws = [redraws(spec=spec, **of) for of in data]
        for name in METRICS:
            values[name].append(np.array([of[name]["value"] for of in found]))
            drawn[name].append(draws[1][name] - draws[0][name])
    rows = []
    for name in METRICS:
        one, other = np.mean(values[name], 0)
        low, high = np.nanquantile(np.mean(drawn[name], 0), [0.025, 0.975])
        rows.append([name, f"{one:.3f}", f"{other:.3f}", f"{other - one:+.3f} [{low:+.3f}, {high:+.3f}]"])
    return rows


def main() -> None:
    """Read the options, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=Path, nargs="+", required=True)
    parser.add_argument("--second", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    if len(options.first) != len(options.second):
        parser.error("give as many runs on either side")
    for spec in read_facts(options.first[0] / "bundle").tasks.values():
        print_table(spec.name, ["", "first", "second", "difference"], compare(spec, options.first, options.second))


if __name__ == "__main__":
    main()
