"""What a run's exported files cost and answer beside the run: ONNX in three precisions, packages of torch in two.

    python benchmarks/deployed.py RUN [--calls 40] [--data-root DATA] [--json OUT]

Every file is written and verified as ``mailnet export`` does it. Then all are called by turns on the same studies, one
and eight at a time, on one thread, so that whatever else the machine does meets all alike: of each call the processor's
time and that on the clock; told are medians, and medians of the ratios to the original's call of the same turn.
Accuracy and calibration are those of the run's test studies.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mailnet.bundle import Predictor, load
from mailnet.cli.output import print_table
from mailnet.deploy.export import export_run, read_program
from mailnet.deploy.export.onnx_file import Session
from mailnet.deploy.export.studies import Answer, Studies, answer_of_program, arrays_of
from mailnet.evaluation.inputs import load_studies
from mailnet.files import read_json, write_json

PRECISIONS = {"onnx": ("fp32", "bf16", "int8"), "torch": ("fp32", "bf16")}
SIZES = (1, 8)
WARMING = 3
CLOCKS: dict[str, Callable[[], float]] = {"processor": time.process_time, "clock": time.perf_counter}


def exported(run: Path, folder: Path, data_root: Path | None) -> tuple[dict[str, Answer], list[dict[str, Any]], bool]:
    """Export a run and return what answers, the rows of accuracy, and whether modalities may be absent."""
    answers: dict[str, Answer] = {}
    rows: list[dict[str, Any]] = []
    modalities = list(load(run, "cpu").modalities)
    for kind, precisions in PRECISIONS.items():
        made = export_run(
            run, folder / kind, kind=kind, precisions=precisions, data_root=data_root, accept_loss=True,
            rounds=dict.fromkeys(SIZES, 1),
        )  # fmt: skip
        rows += made["table"][len(rows) > 0 :]  # the original once
        for row in made["table"][1:]:
            name = row["model"]
            row |= {"model": f"{kind} {name}", "verification": made["verification"][name]}
            place = Path(made["folders"][name])
            if kind == "onnx":
                answers[row["model"]] = Session(place / "model.onnx", 1).run
            else:
                answers[row["model"]] = answer_of_program(read_program(place / "model.pt2"), modalities)
        absence = bool(read_json(place / "export.json")["absence"])
    return answers, rows, absence


def timed(
    answers: Mapping[str, Answer], predictor: Predictor, studies: Studies, calls: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return model -> clock -> studies at a time -> median milliseconds, and ``ratio`` of each to the original."""
    whole = np.flatnonzero(np.all([studies.data.present[name] for name in predictor.modalities], axis=0))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for size in SIZES:
        batch = studies.batch(np.resize(whole, size))
        arrays = arrays_of(batch, predictor.bundle, studies.masks)
        models: dict[str, Callable[[], object]] = {"original": partial(predictor.passes.answers, batch)}
        models |= {name: partial(answer, arrays) for name, answer in answers.items()}
        taken: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in CLOCKS} for name in models}
        for turn in range(-WARMING, calls):
            for name, call in models.items():
                begun = {clock: read() for clock, read in CLOCKS.items()}
                call()
                for clock, read in CLOCKS.items():
                    if turn >= 0:
                        taken[name][clock].append(read() - begun[clock])
        for name, clocks in taken.items():
            for clock, seconds in clocks.items():
                ratios = [a / b for a, b in zip(seconds, taken["original"][clock], strict=True)]
                own = found.setdefault(name, {})
                own.setdefault(clock, {})[str(size)] = round(1000 * statistics.median(seconds), 3)
                own.setdefault(f"{clock} ratio", {})[str(size)] = round(statistics.median(ratios), 3)
    return found


def main() -> None:
    """Read the options, export, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        answers, rows, absence = exported(options.run, Path(folder), options.data_root)
    predictor = load(options.run, "cpu", raw=True)
    assert isinstance(predictor, Predictor)
    data = load_studies(predictor, options.run, None, "test", options.data_root, skip_bad=False, cache=None)
    studies = Studies(data, predictor.bundle, list(predictor.modalities) if absence else [], "test")
    load_before = os.getloadavg()[0]
    times = timed(answers, predictor, studies, options.calls)
    for row in rows:
        row |= {"times": times[row["model"]]}
        row.pop("latency_ms")
        row.pop("ratio")
    result = {"cores": os.cpu_count(), "load": [load_before, os.getloadavg()[0]], "calls": options.calls, "rows": rows}
    if options.json is not None:
        write_json(options.json, result)
    show(rows)
    print(f"one thread, medians of {options.calls} calls by turns; {os.cpu_count()} cores, load {load_before:.1f}")


def show(rows: list[dict[str, Any]]) -> None:
    """Print times, and what the models answer."""
    places = [(clock, str(size)) for clock in CLOCKS for size in SIZES]
    print_table(
        "Milliseconds a call, and the ratio to the original",
        ["", "MB", *(f"{size} x, {clock}" for clock, size in places)],
        [
            [row["model"], f"{row['bytes'] / 1e6:.2f}", *(_time(row["times"], *place) for place in places)]
            for row in rows
        ],
    )
    tasks = list(rows[0]["tasks"])
    print_table(
        f"Balanced accuracy, AUROC, ECE ({rows[0]['n']} {rows[0]['split']} studies); answers as the original's",
        ["", *tasks, "largest difference", "same answers"],
        [
            [row["model"], *(", ".join(f"{value:.3f}" for value in row["tasks"][task].values()) for task in tasks), *(
                [f"{row['verification']['max_difference']:.1g}", f"{row['verification']['same_top']:.1%}"]
                if "verification" in row else ["-", "-"]
            )]
            for row in rows
        ],
    )  # fmt: skip


def _time(times: Mapping[str, Mapping[str, float]], clock: str, size: str) -> str:
    return f"{times[clock][size]:.2f} ({times[f'{clock} ratio'][size]:.2f})"


if __name__ == "__main__":
    main()
