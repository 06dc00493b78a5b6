"""Time and memory of reading, checking and dividing a manifest, on one core.

    python benchmarks/manifest.py [--rows 250000 1000000] [--format csv parquet] [--folders 100]

Prints JSON: of each table its rows and bytes, the seconds of processor time of reading alone and of all (reading,
checking every cell and path, dividing), and the peak of memory beyond that of the interpreter with its imports, each in
a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Before numpy is imported: one thread, so that the numbers are those of one core.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"


def write_table(path: Path, rows: int, folders: int) -> None:
    """Write a table of made-up studies, about 100 bytes a row and two rows a patient."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    patient = random.integers(0, max(rows // 2, 1), rows)
    image = [f"images/{p % folders:07d}/patient{p:07d}-study{i:07d}.png" for i, p in enumerate(patient)]
    table = pd.DataFrame(
        {
            "image": image,
            "patient": [f"patient{p:07d}" for p in patient],
            "label": random.choice(["normal", "benign", "malignant"], rows, p=[0.8, 0.15, 0.05]),
            "age": np.where(random.random(rows) < 0.05, np.nan, random.normal(60, 12, rows).round(1)),
            "sex": random.choice(["female", "male", ""], rows),
            "device": random.choice([f"vendor {k % 5} model {k}" for k in range(40)], rows),
        }
    )
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)


def measure(table: Path) -> dict[str, Any]:
    """Read a table that ``write_table`` wrote and return what it took."""
    from mailnet.data.config import parse_config
    from mailnet.data.manifest import read_manifest
    from mailnet.data.sources import read_sources

    config = parse_config(
        {
            "name": "many",
            "data_root": str(table.parent),
            "manifest": table.name,
            "group": "patient",
            "subgroups": ["sex", "device"],
            "modalities": {
                "image": {},
                "clinic": {"kind": "tabular", "numeric": ["age"], "categorical": ["sex", "device"]},
            },
            "tasks": {"label": {"classes": ["normal", "benign", "malignant"]}},
        }
    )
    before = peak()
    start = time.process_time()
    rows = len(read_sources(config))
    read = time.process_time() - start
    start = time.process_time()
    manifest, problems = read_manifest(config)
    whole = time.process_time() - start
    return {
        "table": table.name,
        "rows": rows,
        "bytes": table.stat().st_size,
        "seconds_read": round(read, 4),
        "seconds_read_checked_divided": round(whole, 4),
        "peak_mib": round((peak() - before) / 2**20, 1),
        "kept_mib": round(int(manifest.frame.memory_usage(deep=True).sum()) / 2**20, 1),
        "problems": len(problems),
        "splits": {str(k): int(n) for k, n in manifest.frame["split"].value_counts().items()},
    }


def peak() -> int:
    """Return the largest memory that this process has had, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def run(*arguments: str) -> str:
    """Run this script in a process of its own and return what it prints."""
    return subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--format", nargs="+", default=["csv", "parquet"], choices=["csv", "parquet"])
    parser.add_argument("--folders", type=int, default=100, help="among which the files are divided")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure)))
        sys.exit()
    if arguments.write is not None:
        write_table(arguments.write, arguments.rows[0], arguments.folders)
        sys.exit()
    # A process begins with its parent's peak, so that this one stays small and leaves the work to others.
    results = []
    for rows in arguments.rows:
        for suffix in arguments.format:
            with tempfile.TemporaryDirectory() as name:
                table = Path(name) / f"studies.{suffix}"
                run("--write", str(table), "--rows", str(rows), "--folders", str(arguments.folders))
                results.append(json.loads(run("--measure", str(table))))
    print(json.dumps(results, indent=2))
