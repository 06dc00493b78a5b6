"""Train the examples over several seeds and print the tables of docs/results.md.

    python benchmarks/results.py --data-root DATA [--study NAME ...] [--network NAME ...] [--seeds N ...]

Each run is what ``mailnet train examples/STUDY/study.yaml --set model.name=NETWORK --set train.seed=SEED`` makes, in
``RUNS/STUDY-NETWORK-SEED``; those that are finished are not trained again, those that were stopped go on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mailnet.data.config import load_config
from mailnet.evaluation import compare, evaluate
from mailnet.training import train

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run_one(study: str, network: str, seed: int, data_root: Path, runs: Path) -> Path:
    """Train and evaluate one seed of a network on an example, and return the run folder."""
    run = runs / f"{study}-{network}-{seed}"
    overrides = [f"model.name={network}", f"train.seed={seed}"]
    train(load_config(EXAMPLES / study / "study.yaml", overrides, data_root), run)
    if not (run / "evaluation.json").is_file():
        evaluate(run, data_root=data_root)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that the examples' paths start from")
    parser.add_argument("--study", nargs="+", default=["busbra", "ham10000", "unpaired"])
    parser.add_argument("--network", nargs="+", default=["mail", "two_branch_resnet18"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    for study in options.study:
        runs = {
            network: [run_one(study, network, seed, options.data_root, options.runs) for seed in options.seeds]
            for network in options.network
        }
        print(f"### {study}\n\n{compare(runs, modalities=True)}", flush=True)


if __name__ == "__main__":
    main()
