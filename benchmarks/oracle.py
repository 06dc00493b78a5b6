"""Attacks beside the official AutoAttack on one fixed network: how many of 400 images each leaves correctly classified.

    python benchmarks/oracle.py GOLDEN [--attack apgd_ce apgd_t ...] [--norm linf l2 l1] [--first 400] [--seed 0]

``suite`` is the standard suite, attack after attack on what still stands.

GOLDEN is attack_oracle.npz: the network's weights, images, radii and, for each official attack, which images stayed
correct. Budgets are those of the recording: 100 iterations, 7 wrong classes, Square 1,000 queries. For ``l1``, of which
nothing is recorded, the radius is 3 and the table shows ours only.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.attacks import Problem, Threat, get_attack, list_attacks
from mailnet.cli.output import print_table
from mailnet.nn.batch import Batch
from mailnet.robustness.attack.run_suite import Progress, run_suite
from mailnet.robustness.attack.suites import get_suite
from mailnet.specs import ModalitySpec, TaskSpec

L1 = 3.0
RECORDED = {"linf": "Linf", "l2": "L2"}
OPTIONS: dict[str, dict[str, Any]] = {"apgd_t": {"targets": 7}, "square": {"queries": 1000}, "fab_t": {"targets": 7}}


class Oracle(nn.Module):
    """The recorded network, with one modality and one task.

    Args:
        arrays: The golden file.
    """

    def __init__(self, arrays: dict[str, Any]) -> None:
        super().__init__()
        self.modalities = {"image": ModalitySpec("image", channels=3, size=(32, 32))}
        self.tasks = {"cell": TaskSpec("cell", tuple(str(k) for k in range(8)))}
        convolutions = [(3, 32, 3, 1), (32, 32, 4, 2), (32, 64, 3, 1), (64, 64, 4, 2), (64, 64, 4, 2)]
        layers: list[nn.Module] = []
        for inputs, outputs, size, stride in convolutions:
            layers += [nn.Conv2d(inputs, outputs, size, stride, padding=1), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 8))
        weights = {key[2:]: torch.from_numpy(arrays[key]) for key in arrays if key.startswith("w.")}
        self.net.load_state_dict(weights)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        return {"cell": self.net(inputs["image"])}


def read(path: Path) -> dict[str, Any]:
    """Return the golden file's arrays."""
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def problem(arrays: dict[str, Any], norm: Any, rows: Any = slice(None)) -> Problem:
    """Return the images under attack in the recorded radius.

    Args:
        arrays: The golden file.
        norm: ``linf``, ``l2`` or ``l1``.
        rows: Which of the images.
    """
    images = torch.from_numpy(arrays["images"][rows]).float() / 255
    present = torch.ones(len(images), dtype=torch.bool)
    batch = Batch({"image": images}, {"image": present}, {"cell": torch.from_numpy(arrays["labels"][rows])})
    eps = float(arrays[f"eps_{RECORDED[norm]}"]) if norm in RECORDED else L1
    return Problem(Oracle(arrays).eval(), batch, Threat(norm, {"image": eps}))


def official(arrays: dict[str, Any], attack: str, norm: str) -> Any:
    """Return which images the official attack left correct, (400,) bool, or None where nothing is recorded."""
    return arrays.get(f"{RECORDED.get(norm)}.{attack.replace('_', '-')}.correct")


def suite_on(studies: Problem, seed: int) -> Progress:
    """Return where the standard suite of the recorded budgets ends."""
    standard = get_suite("standard")
    members = [replace(m, options={**m.options, **OPTIONS.get(m.attack, {})}) for m in standard.members]
    *_, last = run_suite(studies, replace(standard, members=members), seed=seed)
    return last


def attacked(studies: Problem, attack: str, seed: int) -> Tensor:
    """Return what an attack of the recorded budget makes of the images."""
    if attack == "suite":
        return suite_on(studies, seed).x
    generator = torch.Generator().manual_seed(seed)
    return get_attack(attack)(studies, generator=generator, **OPTIONS.get(attack, {}))


def row(arrays: dict[str, Any], attack: str, norm: str, first: int, seed: int) -> list[str]:
    """Attack the first images and return a row of the table."""
    studies = problem(arrays, norm, slice(first))
    start = time.perf_counter()
    found = attacked(studies, attack, seed)
    seconds = time.perf_counter() - start
    spent = int(studies.questions.sum())
    ours = ~studies.ask(found, gradient=False).broken.numpy()
    theirs = official(arrays, attack, norm)
    counts = ["", ""]
    if theirs is not None:
        theirs = theirs[:first]
        counts = [str(int(theirs.sum())), f"{int((theirs & ~ours).sum())} / {int((ours & ~theirs).sum())}"]
    return [attack, norm, str(int(ours.sum())), *counts, f"{spent:,}", f"{seconds:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="attack_oracle.npz")
    parser.add_argument(
        "--attack", nargs="+", default=["apgd_ce", "apgd_t", "square"], choices=[*list_attacks(), "suite"]
    )
    parser.add_argument("--norm", nargs="+", default=["linf", "l2"], choices=["linf", "l2", "l1"])
    parser.add_argument("--first", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    arrays = read(options.golden)
    rows = [
        row(arrays, attack, norm, options.first, options.seed) for norm in options.norm for attack in options.attack
    ]
    heads = ["attack", "norm", "ours", "official", "only ours / theirs broke", "passes", "seconds"]
    print_table(f"Of {options.first} images left correct", heads, rows)


if __name__ == "__main__":
    main()
