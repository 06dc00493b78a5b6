"""What an explanation costs, in forward passes of the same network over the same study.

    python benchmarks/explanations.py [--size 128] [--studies 1] [--repeats 15] [--network mail ...]
        [--method grad_cam ...] [--json OUT]

A study has two images of one channel. A forward pass is a prediction, without gradients. Times are medians of the
processor's seconds, on one thread; pass and explanation take turns. Weights are random, on which cost does not depend.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mailnet.cli.output import print_table
from mailnet.explain import explain, list_explainers
from mailnet.files import write_json
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.layers import channels_last
from mailnet.specs import ModalitySpec

MAPS = ["grad_cam", "grad_cam_pp", "layer_cam", "contrast_cam"]


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(network: str, method: str, size: int, studies: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of a pass and of an explanation, and the median ratio of pairs of them."""
    torch.manual_seed(0)
    specs: dict[str, int | ModalitySpec] = {name: ModalitySpec(name, size=(size, size)) for name in ("ct", "mr")}
    model = channels_last(create_model(network, specs, {"finding": 2}).eval())
    inputs = {name: torch.rand(studies, 1, size, size) for name in specs}
    batch = Batch(inputs, {name: torch.ones(studies, dtype=torch.bool) for name in specs})

    @torch.no_grad()
    def forward() -> None:
        model(batch.inputs, batch.present)

    def explained() -> None:
        explain(model, batch, "finding", method=method)

    for warm in (forward, explained):
        warm()
    pairs = [(seconds(forward), seconds(explained)) for _ in range(repeats)]
    passes, explanations = zip(*pairs, strict=True)
    return {
        "network": network,
        "method": method,
        "size": size,
        "studies": studies,
        "pass_seconds": statistics.median(passes),
        "explanation_seconds": statistics.median(explanations),
        "passes": statistics.median(explanation / forward for forward, explanation in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--studies", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--network", nargs="+", default=["mail", "two_branch_resnet18"])
    parser.add_argument("--method", nargs="+", default=MAPS, choices=list_explainers())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(network, method, given.size, given.studies, given.repeats)
        for network in given.network
        for method in given.method
    ]
    print_table(
        f"Cost of an explanation, {given.studies} x two images of {given.size} pixels",
        ["network", "method", "pass (ms)", "explanation (ms)", "passes"],
        [
            [
                row["network"],
                row["method"],
                f"{1000 * row['pass_seconds']:.1f}",
                f"{1000 * row['explanation_seconds']:.1f}",
                f"{row['passes']:.2f}",
            ]
            for row in rows
        ],
    )
    if given.json:
        write_json(given.json, {"rows": rows})


if __name__ == "__main__":
    main()
