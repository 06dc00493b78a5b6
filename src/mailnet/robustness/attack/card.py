"""The result card: what was attacked, how, and what is left, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mailnet.bundle import Predictor
from mailnet.bundle.weights import weights_digest
from mailnet.data.config import load_config
from mailnet.data.study import StudyData
from mailnet.robustness.attack.cells import Cell
from mailnet.robustness.attack.score import WAYS
from mailnet.robustness.attack.studies import known_labels
from mailnet.robustness.attack.suites import get_suite
from mailnet.robustness.figures import figures

# Two decimals more than any interval is wide, so that the file stays readable.
DIGITS = 6


def describe_model(predictor: Predictor, run: Path) -> dict[str, Any]:
    """Return what the card says of the network."""
    study = run / "study.yaml"
    defense = getattr(load_config(study).train, "defense", None) if study.is_file() else None
    return {
        "name": predictor.bundle.model_name,
        "options": predictor.bundle.options,
        "parameters": sum(parameter.numel() for parameter in predictor.model.parameters()),
        "noise": predictor.noise,
        "weights": weights_digest(run),
        "defense": None if defense is None else defense.name,
    }


def describe_tables(data: StudyData, tables: Mapping[str, float]) -> dict[str, Any]:
    """Return table -> radius and the columns that the attacker changes, for the card."""
    return {
        name: {"radius": radius, "columns": list(data.tables[name].numeric.names)} for name, radius in tables.items()
    }


def describe_cell(
    cell: Cell,
    number: int,
    data: StudyData,
    batches: Sequence[np.ndarray],
    found: Sequence[Mapping[str, Tensor]],
    *,
    random: bool,
    redraws: bool,
) -> dict[str, Any]:
    """Return what the card says of one attacker.

    Args:
        cell: The attacker.
        number: Its place among the cells.
        data: The studies.
        batches: Positions of the studies of each batch.
        found: What ``attack_batch`` gave for each.
        random: Whether the network draws; one whose source of noise gives none is frozen, and met in no way.
        redraws: Whether the draws of the intervals are wanted too.

    Returns:
        The threat; ``n`` studies and in how many of them the attacker holds something; ``figures`` of each task;
        ``at_once``, in how many studies any answer is right, None where no study is asked two tasks at once;
        ``standing``, the share of studies that is not broken as the suite begins and after each attack.
    """
    own = [part for part in found if f"{number}.rows" in part]
    places = [rows[part[f"{number}.rows"].numpy()] for rows, part in zip(batches, found, strict=True)
              if f"{number}.rows" in part]  # fmt: skip
    rows = np.concatenate(places)
    held = np.any([data.present[name][rows] for name in cell.eps], axis=0)
    after = torch.cat([part[f"{number}.after"].double() for part in own], 1).mean(1).tolist()
    seconds, passes = (torch.stack([part[f"{number}.{name}"] for part in own]).sum(0).tolist()
                       for name in ("seconds", "passes"))  # fmt: skip
    suite = get_suite(cell.suite)
    return {
        **cell.as_dict(),
        **({} if random else {"noise": None}),
        "n": len(rows),
        "n_held": int(held.sum()),
        "figures": {task: _figures(cell, number, task, data, rows, own, redraws) for task in cell.tasks},
        "at_once": _at_once(cell, number, data, rows, own),
        "standing": {
            "start": round(after[0], DIGITS),
            "after": [
                {"attack": member.name, "standing": round(share, DIGITS), "seconds": round(spent, 2), "passes": asked}
                for member, share, spent, asked in zip(suite.members, after[1:], seconds, passes, strict=True)
            ],
        },
        "seconds": round(sum(seconds), 2),
        "passes": sum(passes),
    }


def _figures(
    cell: Cell,
    number: int,
    task: str,
    data: StudyData,
    rows: np.ndarray,
    own: Sequence[Mapping[str, Tensor]],
    redraws: bool,
) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    drawn: dict[str, list[float | None]] = {}
    for point in ("clean", "robust"):
        ways = [_joined(own, f"{number}.{point}.{task}"), *_joined(own, f"{number}.ways.{point}.{task}")]
        for place, way in enumerate(WAYS if cell.noise == "sample" else WAYS[:1]):
            first = place == 0
            measured = _measured(ways[place], data.labels[task][rows], data, rows, redraws and first)
            if redraws and first:
                drawn[point] = measured.pop("redraws")
            own_way = found.setdefault(way, {"n": measured.pop("n")})
            own_way[point] = _rounded({name: measured[name] for name in ("accuracy", "balanced_accuracy")})
    single = found.pop("single")
    others = {way: {point: both[point] for point in ("clean", "robust")} for way, both in found.items()}
    return {**single, "ways": others or None, **({"redraws": drawn} if redraws else {})}


def _at_once(
    cell: Cell, number: int, data: StudyData, rows: np.ndarray, own: Sequence[Mapping[str, Tensor]]
) -> dict[str, Any] | None:
    if bool((known_labels(data, cell.tasks)[:, rows].sum(0) <= 1).all()):
        return None
    found: dict[str, Any] = {}
    for point in ("clean", "robust"):
        # A task whose label is not known has no say in it.
        right = np.fmax.reduce([_joined(own, f"{number}.{point}.{task}") for task in cell.tasks])
        measured = _measured(right, np.zeros((len(rows), 1)), data, rows)
        found |= {"n": measured["n"], point: _rounded({"accuracy": measured["accuracy"]})}
    return found


def _measured(
    shares: np.ndarray, labels: np.ndarray, data: StudyData, rows: np.ndarray, redraws: bool = False
) -> dict[str, Any]:
    settings = data.config.evaluation
    groups = data.frame["group"].to_numpy(dtype=str)[rows]
    return figures(shares, labels, groups=groups, bootstrap=settings.bootstrap, seed=settings.seed, redraws=redraws)


def _joined(own: Sequence[Mapping[str, Tensor]], name: str) -> np.ndarray:
    """(R, n), what was found of all batches."""
    joined: np.ndarray = torch.cat([part[name] for part in own], 1).numpy()
    return joined


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return round(value, DIGITS) if isinstance(value, float) else value
