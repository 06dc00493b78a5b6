"""How much faster two processes train than one, each with the same threads, and how long training waits for data.

    python benchmarks/speed/processes.py [--study STUDY.yaml] [--data-root DATA] [--studies 2000] [--size 64]
        [--width small] [--batch 64] [--epochs 4] [--rounds 5] [--threads 1] [--processes 2] [--out OUT.json]

Each run is the command ``mailnet train`` on the CPU, alone or under torchrun; the two take turns, round after round, on
decoded images in one cache. Without ``--study`` the head phantom is made. Times are those of ``metrics.jsonl``, epochs
after the first: seconds of the epoch's steps, and of these the seconds in which the first process waited for studies
to be assembled. A batch has the same number of studies either way, so each of two processes takes half. ``assembly`` is
what one thread takes to assemble the studies of an epoch, most of it beside the steps. The machine must have a
processor free for every thread of every process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mailnet.cli.output import print_table
from mailnet.data.config import load_config
from mailnet.data.dataset import StudyDataset
from mailnet.data.phantom import write_phantom
from mailnet.data.study import load_study
from mailnet.files import write_json
from mailnet.training.plan import epoch_steps
from mailnet.training.run import read_history


def settings(asked: argparse.Namespace) -> list[str]:
    given = [
        f"train.epochs={asked.epochs}",
        f"train.batch_size={asked.batch}",
        "train.device=cpu",
        "train.checkpoint_minutes=60",
    ]
    return given if asked.study else [*given, f"model.options.width={asked.width}"]


def train(study: Path, folder: Path, processes: int, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Train one run and return its epochs."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "mailnet", "train", str(study)]
    command += ["--out", str(folder), "--cache", str(folder.parent / "cache")]
    command += ["--data-root", str(asked.data_root)] if asked.data_root else []
    for setting in settings(asked):
        command += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": str(asked.threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended:\n{done.stderr[-2000:]}")
    return read_history(folder)


def facts(epochs: list[dict[str, Any]]) -> dict[str, float]:
    after = epochs[1:]
    seconds = sum(line["seconds"] for line in after)
    return {
        "seconds": statistics.median(line["seconds"] for line in after),
        "waiting": sum(line["data_seconds"] for line in after) / seconds,
        "images_per_second": statistics.median(line["images_per_second"] for line in after),
        "loss": epochs[-1]["val"]["loss"],
    }


def assembly_seconds(study: Path, cache: Path, asked: argparse.Namespace) -> float:
    """Seconds in which one thread assembles the studies of an epoch."""
    config = load_config(study, settings(asked), asked.data_root)
    data = load_study(config, cache=cache)
    dataset = StudyDataset(data)
    steps = epoch_steps(data, config.train, 0)
    begun = time.perf_counter()
    for rows in steps:
        dataset.batch(rows)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", default="small")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.epochs < 2:
        parser.error("--epochs must be at least 2: the first is not counted")
    found: dict[int, list[dict[str, float]]] = {1: [], asked.processes: []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        study = asked.study or write_phantom(place / "phantom", asked.studies, size=asked.size)
        load_study(load_config(study, settings(asked), asked.data_root), cache=place / "cache")
        for number in range(asked.rounds):
            for processes in found:
                epochs = train(study, place / f"run-{number}-{processes}", processes, asked)
                found[processes].append(facts(epochs))
                print(
                    f"round {number + 1}, {processes} process(es): {json.dumps(found[processes][-1])}", file=sys.stderr
                )
        assembly = assembly_seconds(study, place / "cache", asked)
    rows = []
    for processes, several in found.items():
        ratios = [one["seconds"] / ours["seconds"] for one, ours in zip(found[1], several, strict=True)]
        median = {name: statistics.median(facts[name] for facts in several) for name in several[0]}
        rows.append(
            {
                "processes": processes,
                **median,
                "times_as_fast": statistics.median(ratios),
                "quartiles": statistics.quantiles(ratios, n=4)[::2] if len(ratios) > 1 else None,
                "assembly": assembly / processes / median["seconds"],
            }
        )
    print_table(
        f"mailnet train, batch {asked.batch}, {asked.threads} thread(s) a process, medians of {asked.rounds} rounds",
        ["processes", "s an epoch", "times as fast", "images/s", "waiting for data", "assembly", "validation loss"],
        [
            [
                str(row["processes"]), f"{row['seconds']:.2f}", f"{row['times_as_fast']:.2f}",
                f"{row['images_per_second']:.0f}", f"{row['waiting']:.1%}", f"{row['assembly']:.1%}",
                f"{row['loss']:.4f}",
            ]
            for row in rows
        ],
    )  # fmt: skip
    if asked.out:
        given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(asked).items()}
        given.pop("out")
        for key in ("data_root", *(("studies", "size", "width") if asked.study else ())):  # the phantom's
            given.pop(key)
        machine = {"machine": platform.machine(), "processors": os.cpu_count(), "torch": str(torch.__version__)}
        write_json(asked.out, {"settings": given, **machine, "rows": rows, "rounds": found})


if __name__ == "__main__":
    main()
