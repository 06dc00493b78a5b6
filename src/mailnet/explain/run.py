"""Studies of a run, explained: pictures and ``explanations.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mailnet
from mailnet.bundle import Predictor, load
from mailnet.data.config import ImageConfig
from mailnet.data.progress import progress
from mailnet.errors import ConfigError, RunError
from mailnet.explain.choosing import Chosen, choose_of_run, choose_of_table, truth_in_words
from mailnet.explain.columns import column_features
from mailnet.explain.explaining import explain
from mailnet.explain.explanation import Explanation
from mailnet.explain.margins import heat_on_margins
from mailnet.explain.overlay import draw_explanation, write_picture
from mailnet.explain.score import class_probability, in_unit
from mailnet.explain.shapley import Contributions, column_shares, modality_shares
from mailnet.files import read_json, write_json
from mailnet.nn.batch import Batch
from mailnet.nn.noise import get_noise
from mailnet.specs import TaskSpec

FORMAT = 1
FOLDER, FILE = "explanations", "explanations.json"
DRAWS = 10  # of a random network, as its predictions have
WIDE = 64  # columns of a table above which their shares would take thousands of predictions


def explain_run(
    run: str | Path,
    out: str | Path | None = None,
    *,
    studies: Sequence[str] = (),
    table: str | Path | None = None,
    split: str = "test",
    number: int = 6,
    tasks: Sequence[str] = (),
    target: str | None = None,
    method: str = "layer_cam",
    data_root: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """Explain studies: a picture of each and task, and in numbers what each modality and column is worth.

    Args:
        run: The run, or with ``table`` a bundle.
        out: Folder for ``row-N-TASK.png`` and ``explanations.json``, whose earlier pictures go; default
            ``explanations`` in the run, of which the report makes a section. Needed with ``table``. Both name studies
            by the row of the table; the pictures show images of patients.
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
        ConfigError: An unknown task, split, class, method or option, a method that this network has no use for, or no
            ``out`` for studies of another table.
        DataError: A study is unknown or cannot be read.
    """
    if out is None and table is not None:
        remedy = "Give a folder for them with --out"
        raise ConfigError("explanations of other studies do not belong into the run", remedy=remedy)
    run = Path(run)
    out = run / FOLDER if out is None else Path(out)
    predictor = load(run, device)
    wanted = list(tasks) or list(predictor.tasks)
    if unknown := [name for name in wanted if name not in predictor.tasks]:
        raise ConfigError(f"has no task '{unknown[0]}'", file=run, remedy=f"It has {', '.join(predictor.tasks)}")
    if target is not None and len(wanted) > 1:
        raise ConfigError("a class belongs to one task", remedy=f"Name it with --task, one of {', '.join(wanted)}")
    if table is None:
        chosen = choose_of_run(predictor, run, studies, split, number, data_root, seed)
    else:
        chosen = choose_of_table(predictor, Path(table), studies, number, data_root)
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
        "split": split if table is None and not studies else None,
        "model": predictor.bundle.model_name,
        "method": method,
        "options": options,
        "entries": entries,
    }
    earlier = _pictures(out)
    write_json(out / FILE, result)
    for name in earlier - {str(entry["picture"]) for entry in entries}:
        (out / name).unlink(missing_ok=True)
    return result


def _pictures(folder: Path) -> set[str]:
    """Return the pictures of an earlier explanation in a folder."""
    try:
        names = {str(entry["picture"]) for entry in read_json(folder / FILE)["entries"]}
    except (RunError, KeyError, TypeError):
        return set()  # none, or nothing of ours
    return {name for name in names if name.startswith("row-") and Path(name).name == name}


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
    truth = truth_in_words(spec, chosen.labels.get(spec.name), place)
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
    # Of the answer as it is given, calibrated, which is what the worth of modalities and columns adds up to.
    asked = torch.as_tensor(probabilities)[None].double()
    said = class_probability(spec, asked, found.explanation.target[place : place + 1].cpu())
    return {
        "row": row,
        "task": spec.name,
        "kind": spec.kind,
        "target": spec.classes[target],
        "probabilities": dict(zip(spec.classes, map(float, probabilities), strict=True)),
        "truth": truth,
        "log_odds": float(in_unit(said, "log_odds")),
        "score": None if score is None else float(score[place]),
        "maps": {
            name: float(total[place])
            for name, total in found.explanation.totals().items()
            if _has(chosen.batch, name, place)
        },
        "modalities": shares,
        "margins": heat_on_margins(chosen.batch, found.explanation, place),
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


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
