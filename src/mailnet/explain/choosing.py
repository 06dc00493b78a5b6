"""The studies that are explained: some of a run, or those of another table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mailnet.bundle import Predictor
from mailnet.data.config import SPLITS, StudyConfig, load_config
from mailnet.data.manifest import load_manifest, without_modality
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.explain.columns import column_features, typical_row
from mailnet.nn.batch import Batch
from mailnet.specs import TaskSpec


@dataclass(frozen=True)
class Chosen:
    """The studies to explain.

    Args:
        batch: B studies.
        rows: (B,) their rows in the table, counted from 1; what pictures and JSON call them.
        labels: Task -> (B,), or for multilabel (B, K), what is known of them; empty of a table without labels.
        typical: Table -> (F,) features of an ordinary training study, where training studies are at hand.
    """

    batch: Batch
    rows: list[int]
    labels: dict[str, np.ndarray]
    typical: dict[str, Tensor]


def choose_of_run(
    predictor: Predictor,
    run: Path,
    studies: Sequence[str],
    split: str,
    number: int,
    data_root: str | Path | None,
    seed: int,
) -> Chosen:
    """Return studies of a run.

    Args:
        predictor: The run's.
        run: The run.
        studies: Identifiers; where there are none, some are drawn.
        split: Of which, or ``all``.
        number: How many.
        data_root: Where images lie now.
        seed: Of the choice.

    Raises:
        RunError: The run has no study.yaml.
        ConfigError: The split is unknown.
        DataError: A study is unknown or cannot be read.
    """
    path = run / "study.yaml"
    if not path.is_file():
        raise RunError("has no study.yaml, so its studies are not known", file=run, remedy="Give a --table of studies")
    if split not in (*SPLITS, "all"):
        raise ConfigError(f"'{split}' is no split", remedy=f"Choose {', '.join(SPLITS)} or all")
    config = load_config(path, data_root=data_root)
    frame = load_manifest(config, skip_bad=True).frame  # a run can be trained without the studies that lack all
    if studies:
        rows = [frame.index[frame["id"] == name] for name in studies]
        if missing := [name for name, found in zip(studies, rows, strict=True) if not len(found)]:
            named = f"its column '{config.id}' does" if config.id else "'row 7', by its row in the table counted from 1"
            raise DataError("is not in the study's tables", study=missing[0], remedy=f"Name it as {named}")
        places = [int(found[0]) for found in rows]
    else:
        wanted = np.ones(len(frame), bool) if split == "all" else (frame["split"] == split).to_numpy(bool)
        inside = np.flatnonzero(wanted & ~without_modality(frame, config))
        random = np.random.default_rng(seed)
        places = sorted(random.choice(inside, min(number, len(inside)), replace=False).tolist())
    part = frame.loc[places]
    batch, _ = predictor.read(path, [str(name) for name in part["id"]], data_root=config.root)
    return Chosen(
        batch,
        [int(row) for row in part["row"]],
        {name: _labels(part, config, spec) for name, spec in predictor.tasks.items()},
        _typical(predictor, frame),
    )


def choose_of_table(
    predictor: Predictor, table: Path, studies: Sequence[str], number: int, data_root: str | Path | None
) -> Chosen:
    """Return the studies of another table, all or those named.

    Args:
        predictor: Of the model.
        table: As ``Predictor.predict`` takes it.
        studies: Identifiers.
        number: How many at most, where none are named.
        data_root: Where images lie.

    Raises:
        ConfigError: There are more.
        DataError: A study is unknown or cannot be read.
    """
    batch, rows = predictor.read(table, studies, data_root=data_root)
    if not studies and len(rows) > number:
        raise ConfigError(
            f"has {len(rows)} studies, more than the {number} that are explained at a time",
            file=table,
            remedy="Name some with --study, or raise --number",
        )
    return Chosen(batch, rows, {}, {})


def _labels(frame: pd.DataFrame, config: StudyConfig, spec: TaskSpec) -> np.ndarray:
    if spec.kind == "multilabel":
        return np.stack([frame[f"label:{spec.name}:{name}"].to_numpy(float) for name in spec.classes], 1)
    return frame[f"label:{spec.name}"].to_numpy(int)


def _typical(predictor: Predictor, frame: pd.DataFrame) -> dict[str, Tensor]:
    """Return table -> the features of an ordinary training study."""
    found = {}
    for name, state in predictor.tables.items():
        rows = frame[(frame["split"] == "train") & frame[f"has:{name}"]]
        if len(rows):
            plain = rows.rename(columns=lambda column: column.removeprefix("raw:"))
            features = state.transform(plain, [str(row) for row in rows["row"]])
            found[name] = typical_row(torch.from_numpy(np.asarray(features)), column_features(state))
    return found


def truth_in_words(spec: TaskSpec, labels: np.ndarray | None, place: int) -> str | None:
    """Return what is known to be true of the study at a place, None where nothing is."""
    if labels is None:
        return None
    own = labels[place]
    if spec.kind == "multilabel":
        known = np.isfinite(own)
        present = [name for name, value in zip(spec.classes, own, strict=True) if value == 1]
        return (", ".join(present) or "none") if known.any() else None
    return spec.classes[int(own)] if own >= 0 else None
