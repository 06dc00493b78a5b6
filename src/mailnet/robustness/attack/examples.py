"""A handful of attacked studies for the report: images beside the card, known by the number of their row only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mailnet.data.study import StudyData
from mailnet.files import replacing
from mailnet.robustness.attack.batch import EXAMPLES
from mailnet.robustness.attack.cells import Cell

FILE = "robustness_examples.npz"


def write_examples(
    folder: Path,
    data: StudyData,
    cells: Sequence[Cell],
    batches: Sequence[np.ndarray],
    found: Sequence[Mapping[str, Tensor]],
) -> dict[str, Any] | None:
    """Write ``robustness_examples.npz`` and return what the card says of it; None, and no file, where there is none.

    The k-th study's m-th attacked image is ``clean_k_m``, uint8, and ``change_k_m``, float16 in units of [0, 1], both
    (C, H, W) or (C, D, H, W).

    Args:
        folder: Where to write.
        data: The studies.
        cells: The attackers.
        batches: Positions of the studies of each batch.
        found: What ``attack_batch`` gave for each.
    """
    shown: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        for task in cell.tasks if cell.exemplary else ():
            for place, part, at in _chosen(f"{number}.{task}", data.labels[task], batches, found):
                names = [name for name in cell.eps if f"{number}.{task}.clean.{name}" in part
                         and data.modalities[name].kind != "tabular" and data.present[name][place]]  # fmt: skip
                for m, name in enumerate(names):
                    clean = part[f"{number}.{task}.clean.{name}"][at].numpy()
                    attacked = part[f"{number}.{task}.attacked.{name}"][at].numpy()
                    arrays[f"clean_{len(shown)}_{m}"] = np.rint(255 * clean.clip(0, 1)).astype(np.uint8)
                    arrays[f"change_{len(shown)}_{m}"] = (attacked - clean).astype(np.float16)
                truth = data.labels[task][place]
                shown.append(
                    {
                        "row": int(data.frame["row"].iloc[place]),
                        "task": task,
                        "cell": number,
                        "truth": int(truth) if truth.ndim == 0 else [None if np.isnan(y) else int(y) for y in truth],
                        "before": _probabilities(part[f"{number}.{task}.before"][at]),
                        "after": _probabilities(part[f"{number}.{task}.after"][at]),
                        "modalities": names,
                    }
                )
    if not arrays:
        (folder / FILE).unlink(missing_ok=True)
        return None
    with replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return {"file": FILE, "shown": shown}


def _chosen(
    key: str, labels: np.ndarray, batches: Sequence[np.ndarray], found: Sequence[Mapping[str, Tensor]]
) -> list[tuple[int, Mapping[str, Tensor], int]]:
    """Position, batch and place in it of the examples of a task, one of each class before a second of any."""
    known = [
        (int(rows[row]), part, at)
        for rows, part in zip(batches, found, strict=True)
        for at, row in enumerate(part.get(f"{key}.shown", np.zeros(0, np.int64)).tolist())
    ]
    kind = [0 if labels.ndim > 1 else int(labels[place]) for place, _, _ in known]
    turn = [kind[:at].count(one) for at, one in enumerate(kind)]
    order = sorted(range(len(known)), key=lambda at: (turn[at], kind[at]))
    return [known[at] for at in order[:EXAMPLES]]


def _probabilities(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
