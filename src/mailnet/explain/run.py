"""Studies of a run, explained: pictures and ``explanations.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import mailnet
from mailnet.bundle import Predictor, load
from mailnet.data.config import SPLITS, ImageConfig, StudyConfig, load_config
from mailnet.data.manifest import load_manifest
from mailnet.data.progress import progress
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.explain.columns import column_features, typical_row
from mailnet.explain.explaining import explain
from mailnet.explain.explanation import Explanation
from mailnet.explain.overlay import draw_explanation, write_picture
from mailnet.explain.shapley import Contributions, column_shares, modality_shares
from mailnet.files import write_json
from mailnet.nn.batch import Batch
from mailnet.nn.noise import get_noise
from mailnet.specs import TaskSpec

FORMAT = 1
DRAWS = 10  # of a random network, as its predictions have
WIDE = 64  # columns of a table above which their shares would take thousands of predictions


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


def explain_run(
    run: str | Path,
    out: str | Path,
    *,
    studies: Sequence[str] = (),
    table: str | Path | None = None,
    split: str = "test",
    number: int = 6,
    tasks: Sequence[str] = (),
    target: str | None = None,
    method: str = "grad_cam",
    data_root: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Explain studies: a picture of each and task, and in numbers what each modality and column is worth.

    Args:
        run: The run, or with ``table`` a bundle.
        out: Folder for ``row-N-TASK.png`` and ``explanations.json``. Both name studies by the row of the table; the
            pictures show images of patients.
        studies: Identifiers, as the study's column of them has them; default a few at random.
        table: Other studies, as ``Predictor.predict`` takes them; default those of the run.
        split: Of which some are chosen at random where ``studies`` names none, ``train``, ``val``, ``test`` or ``all``.
        number: How many are chosen.
        tasks: Tasks to explain; default all.
        target: Class to explain, of a single task; default the one predicted.
        method: One of ``mailnet.explain.list_explainers()``.
        data_root: Where images lie now; default as the study.yaml says.
        device: As ``mailnet.bundle.load`` takes it.
        seed: Of the choice.
        options: Those of the method.

    Returns:
        What ``explanations.json`` holds.

    Raises:
        RunError: The run cannot be read, or the folder written.
        ConfigError: An unknown task, split, class, method or option, or a method that this network has no use for.
        DataError: A study is unknown or cannot be read.
    """
    run, out = Path(run), Path(out)
    predictor = load(run, device)
    wanted = list(tasks) or list(predictor.tasks)
    if unknown := [name for name in wanted if name not in predictor.tasks]:
        raise ConfigError(f"has no task '{unknown[0]}'", file=run, remedy=f"It has {', '.join(predictor.tasks)}")
    if target is not None and len(wanted) > 1:
        raise ConfigError("a class belongs to one task", remedy=f"Name it with --task, one of {', '.join(wanted)}")
    if table is None:
        chosen = _of_run(predictor, run, studies, split, number, data_root, seed)
    else:
        chosen = _of_table(predictor, Path(table), studies, number, data_root)
    probabilities = predictor.predict_batch(chosen.batch)
    entries: list[dict[str, Any]] = []
    with progress("Explaining studies", len(wanted) * len(chosen.rows)) as advance:
        for name in wanted:
            found = _explained(predictor, chosen, name, target, method, options)
            for place in range(len(chosen.rows)):
                entries.append(_written(predictor, chosen, found, probabilities[name][place], place, out))
                advance(1)
    result = {
        "format": FORMAT,
        "mailnet": mailnet.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "study": predictor.bundle.study,
        "model": predictor.bundle.model_name,
        "method": method,
        "options": options,
        "entries": entries,
    }
    write_json(out / "explanations.json", result)
    return result


@dataclass(frozen=True)
class _Found:
    """All studies explained for one task."""

    task: TaskSpec
    explanation: Explanation
    shares: Contributions | None
    columns: dict[str, Contributions]


def _explained(
    predictor: Predictor, chosen: Chosen, task: str, target: str | None, method: str, options: Mapping[str, Any]
) -> _Found:
    spec, model, batch = predictor.tasks[task], predictor.model, chosen.batch
    draws = DRAWS if get_noise(model) is not None else 1
    try:
        found = explain(model, batch, task, target, method, draws=draws, **options)
    except ValueError as error:
        raise ConfigError(str(error), task=task, remedy="See 'mailnet explain --help' for the methods") from error
    classes = found.target.cpu()
    several = len(predictor.modalities) > 1 and bool(
        (torch.stack([here for here in batch.present.values()]).sum(0) > 1).any()
    )
    shares = modality_shares(predictor.predict_batch, batch, spec, classes) if several else None
    columns = {}
    for name, state in predictor.tables.items():
        groups = column_features(state)
        if bool(batch.present[name].any()) and len(groups) <= WIDE:
            columns[name] = column_shares(
                predictor.predict_batch, batch, spec, name, groups, classes, baseline=chosen.typical.get(name)
            )
    return _Found(spec, found, shares, columns)


def _written(
    predictor: Predictor, chosen: Chosen, found: _Found, probabilities: np.ndarray, place: int, out: Path
) -> dict[str, Any]:
    """Draw one study and return what JSON says of it."""
    spec, row = found.task, chosen.rows[place]
    truth = _truth(spec, chosen.labels.get(spec.name), place)
    shares = None if found.shares is None else _of_study(found.shares, place, chosen.batch)
    columns = {name: _of_study(one, place) for name, one in found.columns.items() if _has(chosen.batch, name, place)}
    shown = replace(
        found.explanation,
        columns={
            name: torch.stack([one.shares[column] for column in one.shares], 1) for name, one in found.columns.items()
        },
    )
    picture = f"row-{row}-{_safe(spec.name)}.png"
    drawn = draw_explanation(
        chosen.batch,
        shown,
        place,
        modalities=predictor.modalities,
        task=spec,
        probabilities=probabilities,
        truth=truth,
        title=f"row {row}",
        columns={name: list(one.shares) for name, one in found.columns.items()},
        shares=shares,
        planes={
            name: 2 * section.neighbours + 1
            for name, section in predictor.bundle.preprocessing.items()
            if isinstance(section, ImageConfig) and section.neighbours
        },
    )
    write_picture(out / picture, drawn)
    target = int(found.explanation.target[place])
    score = found.explanation.score
    return {
        "row": row,
        "task": spec.name,
        "target": spec.classes[target],
        "probabilities": dict(zip(spec.classes, map(float, probabilities), strict=True)),
        "truth": truth,
        "log_odds": None if score is None else float(score[place]),
        "maps": {
            name: float(total[place])
            for name, total in found.explanation.totals().items()
            if _has(chosen.batch, name, place)
        },
        "modalities": shares,
        "columns": columns,
        "absent": [name for name, here in chosen.batch.present.items() if not here[place]],
        "picture": picture,
    }


def _of_study(found: Contributions, place: int, batch: Batch | None = None) -> dict[str, float]:
    return {
        name: float(values[place]) for name, values in found.shares.items() if batch is None or _has(batch, name, place)
    }


def _has(batch: Batch, name: str, place: int) -> bool:
    return bool(batch.present[name][place])


def _truth(spec: TaskSpec, labels: np.ndarray | None, place: int) -> str | None:
    if labels is None:
        return None
    own = labels[place]
    if spec.kind == "multilabel":
        known = np.isfinite(own)
        present = [name for name, value in zip(spec.classes, own, strict=True) if value == 1]
        return (", ".join(present) or "none") if known.any() else None
    return spec.classes[int(own)] if own >= 0 else None


def _of_run(
    predictor: Predictor,
    run: Path,
    studies: Sequence[str],
    split: str,
    number: int,
    data_root: str | Path | None,
    seed: int,
) -> Chosen:
    path = run / "study.yaml"
    if not path.is_file():
        raise RunError("has no study.yaml, so its studies are not known", file=run, remedy="Give a --table of studies")
    if split not in (*SPLITS, "all"):
        raise ConfigError(f"'{split}' is no split", remedy=f"Choose {', '.join(SPLITS)} or all")
    config = load_config(path, data_root=data_root)
    frame = load_manifest(config).frame
    if studies:
        rows = [frame.index[frame["id"] == name] for name in studies]
        if missing := [name for name, found in zip(studies, rows, strict=True) if not len(found)]:
            raise DataError("is not in the study's tables", study=missing[0], remedy="Name it as its column 'id' does")
        places = [int(found[0]) for found in rows]
    else:
        inside = np.flatnonzero(np.ones(len(frame), bool) if split == "all" else (frame["split"] == split).to_numpy())
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


def _of_table(
    predictor: Predictor, table: Path, studies: Sequence[str], number: int, data_root: str | Path | None
) -> Chosen:
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


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
