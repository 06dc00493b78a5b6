"""One point of ``rows.py``: a kind of work on so many rows, or the tables and the model that the points need.

Prints JSON: processor seconds of each stage; ``base_mib``, the peak of the process with its imports, its model and the
same work on a few rows behind it; after each stage the peak of memory beyond that.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from manifest import measure as measure_manifest
from manifest import peak
from manifest import write_table as write_manifest

NUMBERS = 20
FEW = 100  # rows of the work that is done first, so that what is loaded on first use is not counted
SITES = ("north", "south", "east", "west")
CLASSES = ("no", "yes")
BATCH = 64


class Point:
    """Stages of a process that has done its imports."""

    def __init__(self) -> None:
        self.base = peak()
        self.stages: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.process_time()
        yield
        seconds = time.process_time() - begun
        self.stages[name] = {"seconds": seconds, "peak_mib": (peak() - self.base) / 2**20}

    def result(self, **more: float) -> dict[str, Any]:
        return {"base_mib": self.base / 2**20, "stages": self.stages, **more}


# --- tables and the model -------------------------------------------------------------------------------------------


def write_columns(file: Path, rows: int) -> None:
    """Write a table of 23 columns: id, 20 numbers with some missing, a name, a label that the numbers tell of."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(rows)
    numbers = random.normal(50, 12, (rows, NUMBERS)).round(2)
    label = numbers[:, :3].sum(1) + random.normal(0, 20, rows) > 150
    numbers[random.random(numbers.shape) < 0.05] = np.nan
    table = pd.DataFrame(numbers, columns=[f"x{k:02}" for k in range(NUMBERS)])
    table.insert(0, "id", [f"study{i:08}" for i in range(rows)])
    table["site"] = random.choice(SITES, rows)
    table["label"] = np.array(CLASSES)[label.astype(int)]
    table.to_csv(file, index=False)


def write_paths(file: Path, rows: int) -> None:
    """Write a table of id, two paths and a number, as a list of studies to predict is."""
    import numpy as np
    import pandas as pd

    names = [f"patient{i // 2:07}/study{i:08}" for i in range(rows)]
    table = pd.DataFrame({"id": [f"study{i:08}" for i in range(rows)]})
    for view in ("left", "right"):
        table[view] = [f"images/{name}-{view}.png" for name in names]
    table["age"] = np.random.default_rng(rows).normal(60, 12, rows).round(1)
    table.to_csv(file, index=False)


def study_config(folder: Path) -> Any:
    from mailnet.data.config import parse_config

    return parse_config(
        {
            "name": "rows",
            "data_root": str(folder),
            "manifest": "few.csv",
            "id": "id",
            "modalities": {"table": {"kind": "tabular", "numeric": ["x*"], "categorical": ["site"]}},
            "tasks": {"label": {"kind": "binary", "classes": list(CLASSES)}},
            "model": {"name": "mail", "options": {"width": "small"}},
            "train": {"epochs": 1, "batch_size": BATCH, "device": "cpu"},
        }
    )


def prepare(folder: Path) -> None:
    """Write the small table and train a model on it for a few steps."""
    from mailnet.training import train

    write_columns(folder / "few.csv", 4 * FEW)
    write_paths(folder / "few-paths.csv", FEW)
    write_manifest(folder / "few-manifest.csv", 4 * FEW, 100)
    train(study_config(folder), folder / "run", progress=False)


# --- work -----------------------------------------------------------------------------------------------------------


def predict(folder: Path, table: Path, point: Point | None = None) -> dict[str, Any]:
    """What ``mailnet predict RUN TABLE --out FOLDER --parts 4096`` does."""
    from mailnet.bundle import find_bundle
    from mailnet.bundle.parts import digest_model, predict_parts
    from mailnet.bundle.requests import read_studies
    from mailnet.bundle.share import Share
    from mailnet.deploy.runtime import load

    predictor = load(folder / "run", device="cpu")
    if point is None:
        predict(folder, folder / ("few-paths.csv" if "paths" in table.name else "few.csv"), Point())
        point = Point()
    out = folder / f"answers-{table.stem}"
    digest = digest_model(find_bundle(folder / "run"))
    with point.stage("read"):
        studies = read_studies(table, None, predictor.facts.id_column)
    held = int(studies.frame.memory_usage(deep=True).sum())
    with point.stage("digest"):  # a share without any part: the plan alone
        predict_parts(predictor, studies, out, model=digest, share=Share(10**9 - 1, 10**9))
    if "paths" in table.name:
        return point.result(held_mib=held / 2**20)
    with point.stage("answer, write"):
        predict_parts(predictor, studies, out, model=digest)
    written = sum(file.stat().st_size for file in out.glob("*.parquet"))
    # The plan was made twice.
    point.stages["answer, write"]["seconds"] -= point.stages["digest"]["seconds"]
    return point.result(held_mib=held / 2**20, written_bytes=written)


def manifest(folder: Path, table: Path) -> dict[str, Any]:
    """Reading a table of a path, a patient, a label and three columns, then checking and dividing it."""
    measure_manifest(folder / "few-manifest.csv")
    base = peak()
    found = measure_manifest(table)
    whole = found["seconds_read_checked_divided"]
    stages = {
        "read": {"seconds": found["seconds_read"]},
        "check, divide": {"seconds": max(whole - found["seconds_read"], 0.0), "peak_mib": found["peak_mib"]},
    }
    return {"base_mib": base / 2**20, "stages": stages, "held_mib": found["kept_mib"]}


def epoch(folder: Path, table: Path, point: Point | None = None) -> dict[str, Any]:
    """An epoch's batches from a table in memory, without a network."""
    import pandas as pd

    from mailnet.data.dataset import StudyDataset
    from mailnet.data.study import load_study
    from mailnet.training.plan import epoch_steps

    config = study_config(folder)
    if point is None:
        epoch(folder, folder / "few.csv", Point())
    frame = pd.read_csv(table)
    point = point or Point()
    with point.stage("load"):
        data = load_study(config, table=frame, cache=folder / "cache")
    with point.stage("batches"):
        dataset = StudyDataset(data)
        seen = sum(len(dataset.batch(rows)) for rows in epoch_steps(data, config.train, 0))
    return point.result(epoch_rows=seen)


def evaluate(rows: int, draws: int, point: Point | None = None) -> dict[str, Any]:
    """What an evaluation computes of one binary task: metrics, intervals by patients of two studies, curves."""
    import numpy as np

    from mailnet.evaluation.curves import task_curves
    from mailnet.metrics import measure
    from mailnet.specs import TaskSpec

    if point is None:
        evaluate(FEW, 20, Point())
    random = np.random.default_rng(rows)
    labels = random.integers(0, 2, rows)
    score = 1 / (1 + np.exp(-(random.normal(size=rows) + 2 * labels - 1)))
    probabilities = np.stack([1 - score, score], axis=1).astype(np.float32)
    groups = np.array([f"patient{i // 2:07}" for i in range(rows)])
    spec = TaskSpec("label", CLASSES, "binary")
    point = point or Point()
    with point.stage("metrics"):
        measure(probabilities, labels, spec, groups=groups, bootstrap=0)
    with point.stage("intervals"):
        measure(probabilities, labels, spec, groups=groups, bootstrap=draws)
    with point.stage("curves"):
        task_curves(probabilities, labels, spec, 15)
    point.stages["intervals"]["seconds"] -= point.stages["metrics"]["seconds"]  # it measured them again
    return point.result(draws=draws)


WRITERS = {"predict": write_columns, "paths": write_paths, "epoch": write_columns}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["prepare", "write", "predict", "paths", "manifest", "epoch", "evaluate"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kind", default="")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--draws", type=int, default=1000)
    asked = parser.parse_args()
    kind = asked.kind or asked.what
    table = asked.folder / f"{kind}.csv"
    if asked.what == "prepare":
        prepare(asked.folder)
        return
    if asked.what == "write":
        if kind == "manifest":
            write_manifest(table, asked.rows, 100)
        elif kind in WRITERS:
            WRITERS[kind](table, asked.rows)
        return
    if kind == "evaluate":
        print(json.dumps(evaluate(asked.rows, asked.draws)))
    else:
        work = {"predict": predict, "paths": predict, "manifest": manifest, "epoch": epoch}[kind]
        print(json.dumps(work(asked.folder, table)))


if __name__ == "__main__":
    main()
