"""Which studies of a run are attacked, in which batches, and which tasks together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import torch

from mailnet.attacks.objective import labelled
from mailnet.bundle import Predictor
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError, DataError
from mailnet.nn.batch import Batch


def known_labels(data: StudyData, tasks: Sequence[str]) -> np.ndarray:
    """Return (T, N) bool, whether each study has a label of each task."""
    found = [labelled(data.tasks[task], torch.from_numpy(data.labels[task])).numpy() for task in tasks]
    return np.stack(found)


def choose_tasks(predictor: Predictor, data: StudyData, tasks: Sequence[str] | None) -> list[str]:
    """Return the tasks in the model's order.

    Raises:
        ConfigError: One that the run does not have.
    """
    there = [name for name in predictor.tasks if name in data.tasks]
    for name in tasks or ():
        if name not in there:
            raise ConfigError(f"the run has no task '{name}'", remedy=f"It has {', '.join(there)}")
    return [name for name in there if not tasks or name in tasks]


def choose_attacked(data: StudyData, tasks: Sequence[str], together: bool) -> list[tuple[str, ...]]:
    """Return which tasks are attacked together: each on its own, and all at once where that is asked.

    An attacker of several tasks has won only where all are wrong, so that robustness of a task is measured by one who
    is after it alone. Where no study has two labels both are the same, and one attacker does for all.
    """
    if bool((known_labels(data, tasks).sum(0) <= 1).all()):
        return [tuple(tasks)]
    return [*((task,) for task in tasks), *([tuple(tasks)] if together and len(tasks) > 1 else [])]


def choose_rows(
    data: StudyData, tasks: Sequence[str], held: Sequence[str], studies: int | None, seed: int, split: str
) -> np.ndarray:
    """Return positions of the studies with a label of the tasks, rising; of more than wanted some at random.

    Args:
        data: The studies.
        tasks: That are attacked.
        held: Modalities in the attacker's hands.
        studies: How many are wanted; None for all. The fewer are among the more.
        seed: Of the choice.
        split: For messages.

    Raises:
        ConfigError: Fewer than one study is wanted, or none that has a label has what the attacker holds, or so few
            are wanted that this is so of those that were drawn.
        DataError: No study has a label.
    """
    if studies is not None and studies < 1:
        raise ConfigError(f"studies must be at least 1, got {studies}", remedy="Leave it away for all")
    known = known_labels(data, tasks)
    able = np.any([data.present[name] for name in held], axis=0)
    for task, own in zip(tasks, known, strict=True):
        if not own.any():
            raise DataError(
                f"no study of the split '{split}' has a label", task=task, remedy="Choose other tasks or another split"
            )
        if not (own & able).any():
            raise ConfigError(
                f"no study with a label of it has {' or '.join(held)}, so that the attacker can change nothing",
                task=task,
                remedy="Choose other modalities or tasks",
            )
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(known.any(0)))[:studies]
    for task, own in zip(tasks, known, strict=True):
        if not (own & able)[rows].any():
            raise ConfigError(
                f"none of the {len(rows)} studies that were drawn has a label of it and can be changed by the attacker",
                task=task,
                remedy="Take more studies, or choose other tasks",
            )
    return np.sort(rows)


def make_batches(data: StudyData, rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Return the rows in batches of studies that have the same modalities.

    A random network draws as many numbers as it runs layers, and which run depends on what is there: mixed, studies
    would meet other draws than in the deployed model.
    """
    if size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {size}", remedy="Usual is 128")
    pattern = np.stack([data.present[name][rows] for name in data.modalities], 1)
    batches = []
    for kind in np.unique(pattern, axis=0)[::-1]:
        own = rows[(pattern == kind).all(1)]
        batches += [own[start : start + size] for start in range(0, len(own), size)]
    return batches


def read_batch(data: StudyData, rows: np.ndarray, device: torch.device) -> Batch:
    """Return studies on a device, without their names."""
    batch = StudyDataset(data).batch(rows)
    return Batch(batch.inputs, batch.present, batch.targets).to(device)


def one_of_each_kind(data: StudyData, batches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the first batch of each kind of studies, by the modalities they have."""
    # Backwards, so that the first stays: the last is what was left over, and may be a single study.
    kinds = {tuple(bool(data.present[name][part[0]]) for name in data.modalities): part for part in reversed(batches)}
    return list(kinds.values())


def digest_studies(data: StudyData, rows: np.ndarray) -> str:
    """Return what tells studies, their preparation and their labels from others; images are not looked at."""
    found = sha256(data.frame["row"].to_numpy(dtype=np.int64)[rows].tobytes())
    prepared = {name: section.model_dump(mode="json") for name, section in data.config.modalities.items()}
    found.update(json.dumps(prepared, sort_keys=True).encode())
    for labels in data.labels.values():
        found.update(np.ascontiguousarray(labels[rows]).tobytes())
    return found.hexdigest()[:16]
