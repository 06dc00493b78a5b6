"""Fitting prediction sets on labelled studies that neither the network nor its calibration has learned from."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust.arrays import Array, as_questions, read_answers, read_names, read_patients, read_probabilities
from mailnet.trust.scores import conformal_quantile, nonconformity, patients_needed
from mailnet.trust.sets import EVERYBODY, ConformalSets, Thresholds, check_sets, read_uniform

Counts = dict[str, tuple[tuple[int, ...], ...]]


def fit_sets(
    probabilities: Array,
    labels: Array,
    spec: TaskSpec,
    alpha: float = 0.1,
    score: str = "lac",
    *,
    by: str | Array | None = None,
    patients: Array | None = None,
    contiguous: bool | None = None,
    empty: str = "top",
    penalty: float = 0.01,
    free: int = 1,
    uniform: Array | None = None,
) -> ConformalSets:
    """Fit prediction sets by split conformal prediction; ``ConformalSets`` says what they promise.

    Args:
        probabilities: (N, K) of studies that were used for nothing before. Fit their calibration, if any, on other
            patients: on the same ones the promise would no longer be proved.
        labels: (N,) with -1, or for multilabel (N, K) with NaN, where unknown; those studies are left out.
        spec: The task.
        alpha: Chance of missing the true answer, between 0 and 1.
        score: ``lac``, ``aps`` or ``raps``.
        by: None for one threshold, ``class`` for one a class (of a multilabel task, one for absent and one for
            present), or (N,) groups for one a group (Mondrian conformal prediction).
        patients: (N,) patient of each study; None where each is of another. A patient weighs as one, however many
            studies there are of him.
        contiguous: Whether sets of ordered classes are intervals; None for yes where the task is ordinal. A set of
            grade 1 and grade 3 without 2 can't be read.
        empty: What becomes of empty sets: ``top``, ``all`` or ``keep``.
        penalty: Of RAPS. Choose it, and ``free``, without looking at these studies.
        free: Of RAPS.
        uniform: (N, P) random numbers from 0 to 1 for randomized APS and RAPS sets, whose coverage is exact, at the
            price that the same study may get another set the next time.

    Returns:
        The sets. Where a threshold has too few patients it is infinite, every such answer is in every set, and
        ``notes`` says so.

    Raises:
        ValueError: Wrong shapes, values or choices.
    """
    if isinstance(by, str) and by not in ("all", "class"):
        raise ValueError(f"by must be None, 'class' or an array of groups, got {by!r}")
    contiguous = spec.kind == "ordinal" if contiguous is None else contiguous
    check_sets(spec, alpha, score, empty, penalty, contiguous)
    if uniform is not None and score == "lac":
        raise ValueError("LAC sets have no randomized form: leave uniform out")
    values = read_probabilities(probabilities, spec)
    answers = read_answers(labels, spec, len(values))
    member = read_patients(patients, len(values))
    scored = nonconformity(
        as_questions(values, spec),
        score,
        contiguous=contiguous,
        penalty=penalty,
        free=free,
        uniform=read_uniform(uniform, answers.shape),
    )
    true = np.take_along_axis(scored, np.maximum(answers, 0)[..., None], axis=-1)[..., 0]
    kind = "all" if by is None else by if isinstance(by, str) else "group"
    names = np.full(len(values), EVERYBODY)
    if not (by is None or isinstance(by, str)):
        names = read_names(by, len(values), "groups").astype(str)
    thresholds: Thresholds = {}
    counts: Counts = {}
    for name in np.unique(names).tolist() if kind == "group" else [EVERYBODY]:
        here = np.asarray(names == name)
        thresholds[name], counts[name] = _table(true, answers, member, here, alpha, scored.shape[-1], kind == "class")
    return ConformalSets(
        spec=spec,
        alpha=alpha,
        score=score,
        by=kind,
        contiguous=contiguous,
        empty=empty,
        penalty=penalty,
        free=free,
        randomized=uniform is not None,
        thresholds=thresholds,
        patients=counts,
        notes=tuple(_notes(thresholds, counts, spec, alpha, kind)),
    )


def _table(
    true: Array, answers: Array, member: Array, here: Array, alpha: float, size: int, by_class: bool
) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[int, ...], ...]]:
    """Return the thresholds (P, 1), or by class (P, C), and how many patients each is from."""
    limits, counts = [], []
    for p in range(answers.shape[1]):
        known = here & (answers[:, p] >= 0)
        chosen = [known & (answers[:, p] == k) for k in range(size)] if by_class else [known]
        limits.append(tuple(conformal_quantile(true[rows, p], member[rows], alpha) for rows in chosen))
        counts.append(tuple(len(np.unique(member[rows])) for rows in chosen))
    return tuple(limits), tuple(counts)


def _notes(thresholds: Thresholds, counts: Counts, spec: TaskSpec, alpha: float, kind: str) -> Iterator[str]:
    """Yield a sentence for every threshold that has too few patients."""
    least = patients_needed(alpha)
    several = spec.kind == "multilabel"
    for group, table in thresholds.items():
        for p, row in enumerate(table):
            for k, limit in enumerate(row):
                if math.isfinite(limit):
                    continue
                where = [f"group '{group}'"] if kind == "group" else []
                where += [f"label '{spec.classes[p]}'"] if several else []
                if kind == "class":
                    where.append(("absent", "present")[k] if several else f"class '{spec.classes[k]}'")
                what = "it is in every set" if kind == "class" else "every answer is in every set"
                seen = counts[group][p][k]
                place = ", ".join([*where, ""]) if where else ""
                yield f"{place}{seen} calibration patients where {least} are needed: {what}"
