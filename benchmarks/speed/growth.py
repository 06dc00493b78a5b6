"""How time and memory of a network grow with image size, modalities, width and batch.

    python benchmarks/speed/growth.py [--networks mail mail+emcam two_branch_resnet18] [--rounds 5] [--out FOLDER]

One thread of a CPU. Points of a line are measured one after the other, round after round, and medians count. The
exponent is the slope between the smallest and the largest point on logarithmic scales, against pixels, modalities,
multiply-adds or studies: 1 is linear. Below a few milliseconds the calls of torch, of which there is a fixed number,
hide the work, so it is given for the upper half of the points too. Memory is what a training step holds: weights,
gradients, moments and what backward keeps, as ``mailnet train`` announces it. FOLDER gets growth.json and a picture a
line.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from mailnet.cli.output import print_table
from mailnet.files import write_json
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.counts import count_operations
from mailnet.nn.layers import channels_last
from mailnet.specs import ModalitySpec, TaskSpec
from mailnet.training.device import training_bytes

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mail": ("mail", {}),
    "mail+emcam": ("mail", {"emcam": True}),
    "two_branch_resnet18": ("two_branch_resnet18", {}),
}


@dataclass(frozen=True)
class Point:
    """What is measured: ``at`` says where the point lies on its line, ``scale`` what the exponent refers to."""

    at: int | str
    size: int = 64
    modalities: int = 2
    batch: int = 8
    width: str = "tiny"

    def make(self, network: str) -> tuple[torch.nn.Module, Batch]:
        torch.manual_seed(0)
        specs = {
            f"m{k}": ModalitySpec(name=f"m{k}", kind="image", channels=1, size=(self.size, self.size))
            for k in range(self.modalities)
        }
        name, options = NETWORKS[network]
        options = options if name != "mail" else {**options, "width": self.width}
        model = channels_last(create_model(name, specs, {"t": TaskSpec(name="t", classes=("a", "b", "c"))}, **options))
        shape = (self.batch, 1, self.size, self.size)
        inputs = {k: torch.rand(shape).contiguous(memory_format=torch.channels_last) for k in specs}
        present = {k: torch.ones(self.batch, dtype=torch.bool) for k in specs}
        return model, Batch(inputs, present, {"t": torch.randint(0, 3, (self.batch,))})


LINES: dict[str, list[Point]] = {
    "pixels": [Point(size, size=size, batch=2) for size in (64, 128, 256, 512)],
    "modalities": [Point(count, modalities=count) for count in (1, 2, 4, 8)],
    "width": [Point(width, width=width) for width in ("nano", "tiny", "small", "base")],
    "batch": [Point(batch, batch=batch) for batch in (1, 4, 16, 64)],
}


def inference(model: torch.nn.Module, batch: Batch) -> Callable[[], Any]:
    model.eval()

    def call() -> Any:
        with torch.inference_mode():
            return model(batch.inputs, batch.present)

    return call


def training(model: torch.nn.Module, batch: Batch) -> Callable[[], Any]:
    optimizer = torch.optim.AdamW(model.parameters())

    def call() -> None:
        model.train()
        loss = functional.cross_entropy(model(batch.inputs, batch.present)["t"], batch.targets["t"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return call


def measure(network: str, line: str, rounds: int) -> list[dict[str, Any]]:
    rows, calls = [], []
    for point in LINES[line]:
        if line == "width" and not network.startswith("mail"):
            continue
        model, batch = point.make(network)
        macs = count_operations(model).macs
        scale = {"pixels": point.size**2, "modalities": point.modalities, "width": macs, "batch": point.batch}[line]
        rows.append(
            {
                "network": network,
                "line": line,
                "at": point.at,
                "scale": scale,
                "macs": macs * point.batch,
                "training_mb": training_bytes(model, batch, point.batch, ema=False) / 2**20,
            }
        )
        calls.append({"inference": inference(*point.make(network)), "training": training(*point.make(network))})
    times: list[dict[str, list[float]]] = [{"inference": [], "training": []} for _ in rows]
    for round_ in range(-1, rounds):
        for kept, several in zip(times, calls, strict=True):
            for what, call in several.items():
                begun = time.process_time()
                call()
                if round_ >= 0:
                    kept[what].append(1000 * (time.process_time() - begun))
    for row, kept in zip(rows, times, strict=True):
        row |= {f"{what}_ms": statistics.median(several) for what, several in kept.items()}
    return rows


def exponent(rows: list[dict[str, Any]], key: str, first: int) -> float:
    low, high = rows[first], rows[-1]
    return math.log(high[key] / low[key]) / math.log(high["scale"] / low["scale"])


def draw(line: str, found: dict[str, list[dict[str, Any]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.2), constrained_layout=True)
    for axis, (key, title) in zip(
        axes,
        (("inference_ms", "inference, ms"), ("training_ms", "training step, ms"), ("training_mb", "training, MB")),
        strict=True,
    ):
        for network, rows in found.items():
            axis.loglog([row["scale"] for row in rows], [row[key] for row in rows], marker="o", label=network)
        axis.set_title(title)
        axis.set_xlabel({"width": "multiply-adds"}.get(line, line))
    axes[0].legend(fontsize=7)
    figure.savefig(file)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--lines", nargs="+", choices=LINES, default=list(LINES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    everything: list[dict[str, Any]] = []
    for line in asked.lines:
        found = {network: rows for network in asked.networks if (rows := measure(network, line, asked.rounds))}
        everything += [row for rows in found.values() for row in rows]
        table = [
            [
                row["network"], str(row["at"]), f"{row['macs'] / 1e9:.3f}", f"{row['inference_ms']:.1f}",
                f"{row['training_ms']:.1f}", f"{row['training_mb']:.0f}",
            ]
            for rows in found.values()
            for row in rows
        ]  # fmt: skip
        print_table(f"growth with {line}", ["", "at", "GMAC", "inference ms", "training ms", "training MB"], table)
        for network, rows in found.items():
            slopes = ", ".join(
                f"{key} {exponent(rows, key, 0):.2f} (upper half {exponent(rows, key, len(rows) // 2):.2f})"
                for key in ("inference_ms", "training_ms", "training_mb")
            )
            print(f"{network}: exponents {slopes}")
        if asked.out:
            asked.out.mkdir(parents=True, exist_ok=True)
            draw(line, found, asked.out / f"{line}.svg")
    if asked.out:
        write_json(asked.out / "growth.json", {"torch": str(torch.__version__), "rows": everything})


if __name__ == "__main__":
    main()
