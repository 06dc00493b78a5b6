"""How time and memory grow with the rows of a table, from a thousand to a million.

    python benchmarks/speed/rows.py [--rows 1000 10000 100000 1000000] [--rounds 3] [--kinds KIND ...] [--out FOLDER]

``predict``: a table of 23 columns read, digested for the plan, answered by ``mail`` and written to Parquet, as the
command ``mailnet predict --parts 4096`` does it; ``paths``: a table of id, two paths and a number read and digested;
``manifest``: a table of paths and columns read, checked and divided for training; ``epoch``: the 23 columns, in memory,
made ready for training, and the batches of an epoch (70% of the rows, 64 at a time) assembled without a network;
``evaluate``: metrics of one binary task, their intervals by 1,000 draws of patients, and curves.

One thread of a CPU. Each point is a process of its own (``rows_worker.py``), so that its peak of memory is its own;
times are the processor's, and medians over rounds count. What imports, the model and the same work on a few rows took
is left out of the times and shown beside the memory. The exponent is the slope between sizes one after the other, on
logarithmic scales: 1 is linear. Fixed costs, and memory that was at hand already, hide it at the small sizes. FOLDER
gets rows.json and rows.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

# Nothing heavy is imported before the points are measured: a process begins with the peak of the one that started it.
KINDS = ("predict", "paths", "manifest", "epoch", "evaluate")
SMALL_MIB = 16.0  # less than this is what the allocator had at hand, not what rows need
Point = dict[str, Any]


def ask(*words: str) -> str:
    """Return what a process of ``rows_worker.py`` prints."""
    command = [sys.executable, str(Path(__file__).with_name("rows_worker.py")), *words]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return done.stdout


def measure(kind: str, rows: int, folder: Path, asked: argparse.Namespace) -> Point:
    """Return medians over the rounds of one kind of work on so many rows."""
    given = ["--folder", str(folder), "--kind", kind, "--rows", str(rows), "--draws", str(asked.draws)]
    ask("write", *given)
    rounds = []
    for _ in range(asked.rounds):
        for old in folder.glob("answers-*/*"):
            old.unlink()
        rounds.append(json.loads(ask(kind, *given).splitlines()[-1]))
    print(f"{kind}, {rows} rows: {json.dumps(rounds[-1])}", file=sys.stderr, flush=True)
    stages = {
        name: {key: statistics.median(one["stages"][name][key] for one in rounds) for key in values}
        for name, values in rounds[0]["stages"].items()
    }
    peaks = [max(stage.get("peak_mib", 0.0) for stage in one["stages"].values()) for one in rounds]
    whole = [sum(stage["seconds"] for stage in one["stages"].values()) for one in rounds]
    return {
        **rounds[0],
        "kind": kind,
        "rows": rows,
        "base_mib": statistics.median(one["base_mib"] for one in rounds),
        "seconds": statistics.median(whole),
        "peak_mib": statistics.median(peaks),
        "stages": stages,
    }


def exponents(points: list[Point]) -> None:
    """Note in each point how seconds and memory grew since the size before, where that can be told."""
    for low, high in pairwise(points):
        step = math.log(high["rows"] / low["rows"])
        high["exponent_seconds"] = math.log(high["seconds"] / low["seconds"]) / step
        if low["peak_mib"] >= SMALL_MIB:
            high["exponent_memory"] = math.log(high["peak_mib"] / low["peak_mib"]) / step
        for name, stage in high["stages"].items():
            before = low["stages"][name]["seconds"]
            if before > 0 and stage["seconds"] > 0:
                stage["exponent"] = math.log(stage["seconds"] / before) / step


def table(points: list[Point]) -> list[list[str]]:
    """Return the lines that are printed, a stage each and a whole a point."""
    lines = []
    for point in points:
        for name, stage in point["stages"].items():
            exponent = f"{stage['exponent']:.2f}" if "exponent" in stage else ""
            peak = f"{stage['peak_mib']:.0f}" if "peak_mib" in stage else ""
            lines.append(
                [f"{point['kind']}: {name}", f"{point['rows']:,}", f"{stage['seconds']:.3f}", exponent, peak, ""]
            )
        lines.append(
            [
                f"{point['kind']}, whole", f"{point['rows']:,}", f"{point['seconds']:.3f}",
                f"{point['exponent_seconds']:.2f}" if "exponent_seconds" in point else "",
                f"{point['peak_mib']:.0f} beyond {point['base_mib']:.0f}",
                f"{point['exponent_memory']:.2f}" if "exponent_memory" in point else "",
            ]
        )  # fmt: skip
    return lines


def draw(points: list[Point], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.4), constrained_layout=True)
    for axis, (key, title) in zip(
        axes, (("seconds", "seconds of one core"), ("peak_mib", "memory beyond the empty process, MiB")), strict=True
    ):
        for kind in dict.fromkeys(point["kind"] for point in points):
            own = [point for point in points if point["kind"] == kind]
            axis.loglog([p["rows"] for p in own], [max(p[key], 1e-3) for p in own], marker="o", label=kind)
        axis.set_title(title)
        axis.set_xlabel("rows")
    axes[0].legend(fontsize=7)
    figure.savefig(file)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--draws", type=int, default=1000, help="of the intervals")
    parser.add_argument("--folder", type=Path, help="where tables are made; default the system's temporary folder")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    points: list[Point] = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        ask("prepare", "--folder", name)
        for kind in asked.kinds:
            own = [measure(kind, rows, Path(name), asked) for rows in sorted(asked.rows)]
            exponents(own)
            points += own
    from mailnet.cli.output import print_table
    from mailnet.files import write_json

    headings = ["", "rows", "s", "exponent", "MiB", "exponent"]
    print_table("growth with rows, one core", headings, table(points))
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        draw(points, asked.out / "rows.svg")
        write_json(asked.out / "rows.json", {"rounds": asked.rounds, "draws": asked.draws, "points": points})


if __name__ == "__main__":
    main()
