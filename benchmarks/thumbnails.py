"""The floor of docs/results.md: extremely randomised trees on thumbnails and columns, on the splits of the examples.

python benchmarks/thumbnails.py --data-root DATA [--study NAME ...]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesClassifier
from torch.nn import functional

from mailnet.data.config import load_config
from mailnet.data.study import StudyData, load_study
from mailnet.metrics import summary

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SIDE = 20


def features(data: StudyData, rows: np.ndarray) -> np.ndarray:
    """Return thumbnails of ``SIDE`` pixels and the columns of tables, (n, F); zeros where a modality is absent."""
    parts = []
    for name, spec in data.modalities.items():
        values = data.arrays[name][rows]
        if spec.kind == "image":
            values = functional.adaptive_avg_pool2d(torch.from_numpy(values.astype(np.float32)), SIDE).numpy()
        parts.append(values.reshape(len(rows), -1))
    return np.concatenate(parts, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that the examples' paths start from")
    parser.add_argument("--study", nargs="+", default=["busbra", "ham10000", "unpaired"])
    options = parser.parse_args()
    for study in options.study:
        data = load_study(load_config(EXAMPLES / study / "study.yaml", (), options.data_root))
        for task, spec in data.tasks.items():
            labels = data.labels[task]
            train, test = (rows[labels[rows] >= 0] for rows in (data.rows("train"), data.rows("test")))
            trees = ExtraTreesClassifier(500, n_jobs=-1, random_state=0).fit(features(data, train), labels[train])
            found = summary(trees.predict_proba(features(data, test)), labels[test], spec)
            print(json.dumps({"study": study, "task": task, "n": len(test)} | found), flush=True)


if __name__ == "__main__":
    main()
