"""Measures tables of thousands of columns: joining them, turning them into features, and learning from them.

OMP_NUM_THREADS=1 python benchmarks/wide.py [--columns 20000] [--seeds 5] [--out wide.json]

500 patients. *join* is from tables on the disk to a checked manifest; *table* is ``TableState`` on a frame of numbers;
both in seconds of processor time. *learn* trains ``mail`` with each ``feature_dropout`` on made-up tables of 5,000
columns, 300 training and 2,000 test studies, 30 epochs, beside ridge regression and a random forest: test accuracy,
mean over seeds. ``sparse``: 60 columns differ by 0.5 standard deviations between the classes; ``factors``: 2 of 30
hidden factors do, each in a tenth of the columns.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifierCV
from torch.nn import functional

from mailnet.cli.output import print_table
from mailnet.data.config import TabularConfig, parse_config
from mailnet.data.manifest import load_manifest
from mailnet.data.table import TableState
from mailnet.nn import create_model
from mailnet.specs import ModalitySpec, TaskSpec

PATIENTS, GENES, TRAINING, TESTED, EPOCHS, BATCH = 500, 5000, 300, 2000, 30, 64


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of this process."""
    start = time.process_time()
    work()
    return round(time.process_time() - start, 2)


def join(columns: int) -> list[dict[str, Any]]:
    """From tables to a checked manifest, by format."""
    values = np.random.default_rng(0).normal(5, 2, (PATIENTS, columns)).round(4)
    names = [f"gene_{k}" for k in range(columns)]
    patients = pd.Index([f"p{k}" for k in range(PATIENTS)], name="patient")
    genes = pd.DataFrame(values, index=patients, columns=names)
    turned = genes.T.rename_axis("gene")
    writers: dict[str, tuple[Callable[[Path], Any], bool]] = {
        "expression.csv": (genes.to_csv, False),
        "expression.csv.gz": (genes.to_csv, False),
        "expression.parquet": (lambda path: genes.reset_index().to_parquet(path, index=False), False),
        "turned.tsv": (lambda path: turned.to_csv(path, sep="\t"), True),
        "turned.parquet": (lambda path: turned.reset_index().to_parquet(path, index=False), True),
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        labels = pd.DataFrame({"patient": patients, "label": np.arange(PATIENTS) % 2})
        labels.to_csv(Path(folder) / "studies.csv", index=False)
        for name, (write, transpose) in writers.items():
            write(Path(folder) / name)
            source = {
                "table": "studies.csv",
                "join": {"table": name, "on": "patient", "transpose": transpose},
            }
            config = parse_config(
                {
                    "name": "wide",
                    "data_root": folder,
                    "manifest": source,
                    "id": "patient",
                    "modalities": {"rna": {"kind": "tabular", "numeric": ["gene_*"]}},
                    "tasks": {"label": {"classes": [0, 1]}},
                }
            )
            rows.append({"joined table": name, "seconds": seconds(lambda config=config: load_manifest(config))})
    return rows


def table(columns: int) -> list[dict[str, Any]]:
    """Fitting and transforming."""
    random = np.random.default_rng(0)
    rows = []
    for missing in (0.0, 0.05):
        values = np.exp(random.normal(size=(PATIENTS, columns)))
        values[random.random(values.shape) < missing] = np.nan
        frame = pd.DataFrame(values, columns=[f"gene_{k}" for k in range(columns)])
        text = frame.head(BATCH).map(lambda value: "" if np.isnan(value) else repr(value))
        for keep in (None, 1000):
            config = TabularConfig(kind="tabular", numeric=["gene_*"], log=True, keep=keep)
            state: list[TableState] = []
            fit = seconds(lambda c=config, f=frame, s=state: s.append(TableState.fit("rna", c, f)))
            rows.append(
                {
                    "missing": missing,
                    "keep": keep,
                    "fit": fit,
                    "transform": seconds(lambda f=frame, s=state: s[0].transform(f)),
                    "transform 64 rows of text": seconds(lambda t=text, s=state: s[0].transform(t)),
                    "JSON MB": round(len(json.dumps(state[0].to_dict())) / 1e6, 2),
                }
            )
    return rows


def made_up(kind: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A table (count, GENES) and its labels."""
    random, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    label = random.integers(0, 2, count)
    values = random.normal(size=(count, GENES))
    side = 2 * label - 1
    if kind == "sparse":
        values[:, fixed.permutation(GENES)[:60]] += 0.25 * side[:, None]
    else:
        loadings = fixed.normal(size=(30, GENES)) * (fixed.random((30, GENES)) < 0.1)
        factors = random.normal(size=(count, 30))
        factors[:, 0] += 0.7 * side
        factors[:, 1] -= 0.7 * side
        factors[:, :2] *= 0.6
        values += factors @ loadings
    return values.astype(np.float32), label


def accuracy(kind: str, seed: int, dropout: float) -> float:
    """Test accuracy of ``mail`` on a table alone."""
    (x, y), (x_test, y_test) = made_up(kind, TRAINING, seed), made_up(kind, TESTED, 1000 + seed)
    mean, std = x.mean(0), x.std(0)
    inputs, tested = (torch.from_numpy((part - mean) / std) for part in (x, x_test))
    labels = torch.from_numpy(y)
    torch.manual_seed(seed)
    modalities = {"rna": ModalitySpec("rna", "tabular", channels=GENES)}
    tasks = {"t": TaskSpec("t", ("a", "b"), "binary")}
    network = create_model("mail", modalities, tasks, feature_dropout=dropout)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    steps = EPOCHS * -(-TRAINING // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(TRAINING, generator=generator).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(network({"rna": inputs[rows]})["t"], labels[rows]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        guessed = network.eval()({"rna": tested})["t"].argmax(1).numpy()
    return float((guessed == y_test).mean())


def learn(seeds: int) -> list[dict[str, Any]]:
    """Accuracy by feature dropout, and of two plain models."""
    rows = []
    for name in (0.0, 0.2, 0.5, 0.8, "ridge", "forest"):
        row: dict[str, Any] = {"feature dropout": name}
        for kind in ("sparse", "factors"):
            found = []
            for seed in range(seeds):
                if isinstance(name, float):
                    found.append(accuracy(kind, seed, name))
                    continue
                (x, y), tested = made_up(kind, TRAINING, seed), made_up(kind, TESTED, 1000 + seed)
                plain: Any = RidgeClassifierCV(alphas=np.logspace(2, 5, 7))
                if name == "forest":
                    plain = RandomForestClassifier(300, random_state=seed)
                found.append(float(plain.fit(x, y).score(*tested)))
            row[kind] = round(float(np.mean(found)), 3)
            row[f"{kind} error"] = round(float(np.std(found, ddof=1) / len(found) ** 0.5), 3)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=20000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {"join": join(given.columns), "table": table(given.columns), "learn": learn(given.seeds)}
    for title, rows in found.items():
        print_table(title, list(rows[0]), [[str(value) for value in row.values()] for row in rows])
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
