"""What the functions of this room are given: probabilities, labels and patients, checked and in one form."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from mailnet.specs import TaskSpec

Array: TypeAlias = "np.ndarray[Any, Any]"

# Half precision, and a mean over draws in it, adds up to one no better than this.
SUM_TOLERANCE = 5e-3


def read_probabilities(probabilities: Array, spec: TaskSpec) -> Array:
    """Return the probabilities as (N, K) float64.

    Raises:
        ValueError: They have another shape, hold NaN or values outside [0, 1], or rows of a task whose classes
            exclude each other do not sum to one.
    """
    given, size = np.asarray(probabilities), len(spec.classes)
    if given.ndim != 2 or given.shape[1] != size:
        raise ValueError(f"task '{spec.name}': probabilities must be (N, {size}), got {given.shape}")
    values = given.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"task '{spec.name}': probabilities hold NaN or infinity; look for a network that diverged")
    if len(values) and not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):
        raise ValueError(f"task '{spec.name}': probabilities go from {values.min():g} to {values.max():g}, not 0 to 1")
    if spec.kind != "multilabel" and (np.abs(values.sum(1) - 1) > SUM_TOLERANCE).any():
        raise ValueError(f"task '{spec.name}': rows of probabilities do not sum to one; these may be logits")
    return np.asarray(np.clip(values, 0.0, 1.0))


def read_answers(labels: Array, spec: TaskSpec, studies: int) -> Array:
    """Return the labels as (N, P) whole numbers, -1 where unknown: one column, or for multilabel one a label (0, 1).

    Raises:
        ValueError: They have another shape or other values.
    """
    given, size = np.asarray(labels), len(spec.classes)
    if spec.kind == "multilabel":
        if given.shape != (studies, size):
            raise ValueError(f"task '{spec.name}': labels must be {(studies, size)}, got {given.shape}")
        values = given.astype(np.float64)
        if not np.isin(values[np.isfinite(values)], (0.0, 1.0)).all():
            raise ValueError(f"task '{spec.name}': labels of a multilabel task must be 0, 1 or NaN (unknown)")
        return np.where(np.isfinite(values), np.nan_to_num(values), -1).astype(np.int64)
    if given.shape != (studies,):
        raise ValueError(f"task '{spec.name}': labels must be ({studies},), got {given.shape}")
    if given.dtype.kind not in "iu" or (studies and not -1 <= given.min() <= given.max() < size):
        raise ValueError(f"task '{spec.name}': labels must be whole numbers from -1 (unknown) to {size - 1}")
    return given.astype(np.int64)[:, None]


def as_questions(probabilities: Array, spec: TaskSpec) -> Array:
    """Return (N, P, C): the P questions of a task with the probabilities of their C answers.

    One question with K answers, but for multilabel, which asks K questions with the answers absent and present.
    """
    if spec.kind == "multilabel":
        return np.stack([1 - probabilities, probabilities], axis=-1)
    return probabilities[:, None, :]


def read_patients(patients: Array | None, studies: int) -> Array:
    """Return (N,) whole numbers from 0 that tell patients apart; None means that each study is of another patient.

    Raises:
        ValueError: Another number of values than studies.
    """
    if patients is None:
        return np.arange(studies)
    return np.unique(read_names(patients, studies, "patients"), return_inverse=True)[1].reshape(-1)


def read_names(values: Array, studies: int, what: str) -> Array:
    """Return (N,) values, objects as texts, once there is one a study; ValueError where there is not."""
    given = np.asarray(values)
    if given.shape != (studies,):
        raise ValueError(f"{what} must be one value a study, ({studies},), got {given.shape}")
    return given.astype(str) if given.dtype.kind == "O" else given


def one_each(member: Array, random: np.random.Generator) -> Array:
    """Return rows in rising order, one drawn at random of every patient.

    Args:
        member: (N,) which patient each study is of.
        random: Source of the draw.
    """
    order = random.permutation(len(member))
    firsts = np.unique(member[order], return_index=True)[1]
    return np.sort(order[firsts])
