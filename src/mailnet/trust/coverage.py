"""Do prediction sets keep what they promise: coverage and size, overall, by class and by subgroup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mailnet.specs import TaskSpec
from mailnet.trust.arrays import Array, one_each, read_answers, read_names, read_patients, read_probabilities
from mailnet.trust.conformal import fit_sets
from mailnet.trust.sets import ConformalSets
from mailnet.trust.tally import Cell, Tally

LEVEL = 0.95


@dataclass(frozen=True)
class Coverage:
    """Coverage and size of the sets of one task.

    Args:
        alpha: Chance of missing the true answer.
        score: Score of the sets.
        by: What the promise holds for: ``all``, ``class`` or ``group``.
        divisions: Number of divisions into calibration and test; 1 for given sets.
        studies: Labelled studies.
        patients: Their patients.
        overall: Every study; of a multilabel task every label of every study, for which no interval is known.
        labels: Multilabel: label -> its sets.
        classes: Class -> studies of it; for multilabel ``label: absent`` and ``label: present``.
        groups: Sets by group: group -> its studies.
        subgroups: Column -> value -> its studies.
    """

    alpha: float
    score: str
    by: str
    divisions: int
    studies: int
    patients: int
    overall: Cell
    labels: dict[str, Cell] = field(default_factory=dict)
    classes: dict[str, Cell] = field(default_factory=dict)
    groups: dict[str, Cell] = field(default_factory=dict)
    subgroups: dict[str, dict[str, Cell]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = {key: getattr(self, key) for key in ("alpha", "score", "by", "divisions", "studies", "patients")}
        named = {key: _plain(getattr(self, key)) for key in ("labels", "classes", "groups")}
        return {
            **plain,
            "overall": self.overall.as_dict(),
            **named,
            "subgroups": {column: _plain(cells) for column, cells in self.subgroups.items()},
        }


def measure_coverage(
    probabilities: Array,
    labels: Array,
    spec: TaskSpec,
    alpha: float = 0.1,
    score: str = "lac",
    *,
    by: str | Array | None = None,
    patients: Array | None = None,
    subgroups: Mapping[str, Array] | None = None,
    divisions: int = 100,
    share: float = 0.5,
    level: float = LEVEL,
    seed: int = 0,
    **options: Any,
) -> Coverage:
    """Divide labelled studies at random into calibration and test, many times, and measure the sets.

    Patients are divided, never their studies, and of each patient one study is drawn for each division, so that the
    theory is exact. Since the division is random the interval holds whatever the studies are: this shows what such
    studies' sets are like and that they are made rightly. Whether they also hold at another hospital, only studies from
    there can show (``measure_sets``).

    Args:
        probabilities: (N, K).
        labels: (N,) with -1, or for multilabel (N, K) with NaN, where unknown.
        spec: The task.
        alpha: Chance of missing the true answer.
        score: ``lac``, ``aps`` or ``raps``.
        by: None, ``class`` or (N,) groups, as of ``fit_sets``.
        patients: (N,) patient of each study; None where each is of another.
        subgroups: Column -> (N,) values, for which coverage and size are told as well; an empty text is unknown.
        divisions: How many.
        share: Share of patients that calibrate.
        level: Of the intervals.
        seed: Of the divisions.
        options: ``contiguous``, ``empty``, ``penalty`` and ``free`` of ``fit_sets``.

    Raises:
        ValueError: Wrong shapes or values, or fewer than two patients with a label.
    """
    by = None if isinstance(by, str) and by == "all" else by
    values = read_probabilities(probabilities, spec)
    answers = read_answers(labels, spec, len(values))
    given = np.asarray(labels)
    known = np.flatnonzero((answers >= 0).any(1))
    member = read_patients(patients, len(values))[known]
    units = len(np.unique(member))
    if units < 2 or not 0 < share < 1 or divisions < 1:
        raise ValueError(
            f"a division needs two labelled patients or more, got {units}, share {share}, {divisions} times"
        )
    random = np.random.default_rng(seed)
    half = min(max(round(share * units), 1), units - 1)
    groups = None if by is None or isinstance(by, str) else read_names(by, len(values), "groups").astype(str)
    tally = Tally(spec, answers, by if groups is None else groups, _columns(subgroups, len(values)))
    for _ in range(divisions):
        order = random.permutation(known[one_each(member, random)])
        here, there = order[:half], order[half:]
        strata = by if groups is None else groups[here]
        sets = fit_sets(values[here], given[here], spec, alpha, score, by=strata, **options)
        tally.add(sets.predict(values[there], None if groups is None else groups[there]), there, here)
    return _report(tally, sets, divisions, len(known), units, level)


def measure_sets(
    sets: ConformalSets,
    probabilities: Array,
    labels: Array,
    *,
    groups: Array | None = None,
    patients: Array | None = None,
    subgroups: Mapping[str, Array] | None = None,
    level: float = LEVEL,
) -> Coverage:
    """Measure given sets on studies that they were not fitted on, as those of the test split or of another hospital.

    The interval says where coverage lies if these studies are like those of calibration; below it they are not. There
    is none where a patient has several studies, since then the coverage of single studies is not what is promised. It
    counts a calibration patient as one study: where these had several it may be wider than need be.

    Args:
        sets: The sets.
        probabilities: (N, K).
        labels: (N,) with -1, or for multilabel (N, K) with NaN, where unknown.
        groups: (N,) for sets by group.
        patients: (N,) patient of each study; None where each is of another.
        subgroups: Column -> (N,) values.
        level: Of the interval.

    Raises:
        ValueError: Wrong shapes or values, or no label.
    """
    values = read_probabilities(probabilities, sets.spec)
    answers = read_answers(labels, sets.spec, len(values))
    known = np.flatnonzero((answers >= 0).any(1))
    if not len(known):
        raise ValueError(f"task '{sets.spec.name}': no study has a label")
    member = read_patients(patients, len(values))[known]
    units = len(np.unique(member))
    names = None if groups is None else read_names(groups, len(values), "groups").astype(str)
    by = names if sets.by == "group" else None if sets.by == "all" else "class"
    tally = Tally(sets.spec, answers, by, _columns(subgroups, len(values)))
    members = sets.predict(values[known], None if names is None else names[known])
    tally.add(members, known, sets if units == len(known) else None)
    return _report(tally, sets, 1, len(known), units, level)


def _report(tally: Tally, sets: ConformalSets, divisions: int, studies: int, patients: int, level: float) -> Coverage:
    labels, classes, groups = (tally.cells(sets.alpha, level, key) for key in ("labels", "classes", "groups"))
    return Coverage(
        alpha=sets.alpha,
        score=sets.score,
        by=sets.by,
        divisions=divisions,
        studies=studies,
        patients=patients,
        overall=tally.cells(sets.alpha, level)["overall"],
        labels=labels,
        classes=classes,
        groups=groups,
        subgroups={column: tally.cells(sets.alpha, level, "subgroups", column) for column in tally.columns},
    )


def _columns(columns: Mapping[str, Array] | None, studies: int) -> dict[str, Array]:
    """Return column -> (N,) texts."""
    return {name: read_names(values, studies, f"'{name}'").astype(str) for name, values in (columns or {}).items()}


def _plain(cells: Mapping[str, Cell]) -> dict[str, Any]:
    return {name: cell.as_dict() for name, cell in cells.items()}
