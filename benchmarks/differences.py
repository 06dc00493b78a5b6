"""Print how each network of a benchmark differs from one of them, over the pairs of study and seed that both have.

    python benchmarks/differences.py benchmarks/results/ablation [--to plain]

Validation is what choices are made by; ``mailnet benchmark --tables`` measures test studies only. Columns are the mean
over tasks of balanced accuracy at the best epoch on validation studies, and of balanced accuracy and AUROC on test
studies, each as the mean difference ± its standard error over studies, seeds averaged first; and the ratio of training
seconds.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

COLUMNS = ("validation", "test", "test AUROC")


def read(folder: Path) -> dict[str, dict[tuple[str, int], tuple[float, ...]]]:
    """Return network -> (study, seed) -> validation, test and AUROC of the cell, and its training seconds."""
    found: dict[str, dict[tuple[str, int], tuple[float, ...]]] = defaultdict(dict)
    for file in sorted(folder.glob("cells/*/*/seed-*.json")):
        cell = json.loads(file.read_text(encoding="utf-8"))
        if "error" not in cell:
            metrics = [task["metrics"] for task in cell["tasks"].values()]
            test = [mean(of[name]["value"] for of in metrics) for name in ("balanced_accuracy", "macro_auroc")]
            found[cell["network"]][cell["study"], cell["seed"]] = (cell["best"]["value"], *test, cell["seconds"])
    return found


def row(own: dict[tuple[str, int], tuple[float, ...]], other: dict[tuple[str, int], tuple[float, ...]]) -> str:
    """Return the cells of a table's row: own minus other."""
    pairs = sorted(own.keys() & other.keys())
    studies = sorted({study for study, _ in pairs})
    cells = [str(len(pairs))]
    for k in range(len(COLUMNS)):
        # Seeds of one study go together: a study counts once.
        differences = [mean(own[pair][k] - other[pair][k] for pair in pairs if pair[0] == study) for study in studies]
        error = f" ± {stdev(differences) / len(studies) ** 0.5:.4f}" if len(studies) > 1 else ""
        cells.append(f"{mean(differences):+.4f}{error}")
    ratio = mean(own[pair][-1] / other[pair][-1] for pair in pairs)
    return " | ".join([*cells, f"{ratio:.2f}"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what 'mailnet benchmark --out' wrote")
    parser.add_argument("--to", default="plain", help="the network that the others are compared with")
    given = parser.parse_args()
    found = read(given.folder)
    print("| network | pairs | " + " | ".join(COLUMNS) + " | seconds |")
    print("|---|" + "---:|" * (len(COLUMNS) + 2))
    for network, own in found.items():
        if network != given.to and own.keys() & found[given.to].keys():
            print(f"| {network} | {row(own, found[given.to])} |")


if __name__ == "__main__":
    main()
