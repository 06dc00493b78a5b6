"""Prediction sets: the answers that cannot be ruled out, which hold the true one with a stated probability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from mailnet.specs import TaskSpec, from_dict, to_dict
from mailnet.trust.arrays import Array, as_questions, read_names, read_probabilities
from mailnet.trust.plain import read_choice, read_count, read_fields, read_flag, read_number, read_texts
from mailnet.trust.scores import SCORES, nonconformity

BY = ("all", "class", "group")
EMPTY = ("top", "keep", "all")
# Group under which the thresholds of sets that know no groups are kept.
EVERYBODY = ""

Thresholds = dict[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True)
class ConformalSets:
    """Fitted prediction sets of one task.

    A set is every answer whose score (``scores.nonconformity``) is at most the threshold. What is promised, whatever
    the network and the data, as long as new patients come from where the calibration patients came from:

    * ``by`` all: the set of a study holds its true answer with probability 1 - alpha at least.
    * ``by`` class: so it does of studies of each class by itself, and ``by`` group of studies of each group by itself.

    The probability is over calibration and new patients alike. Where a patient has several studies it is that of one of
    them, drawn at random; that all of a patient's sets hold is not promised. In a multilabel task each label is a
    question by itself, with the sets {absent}, {present}, both, and none; that all sets of a study hold is not promised
    either.

    LAC sets of a network that is right more often than 1 - alpha can be empty. ``empty`` says what becomes of those:
    ``top`` (the default) puts the most probable answer in, ``all`` every answer, ``keep`` leaves them. All keep the
    promise. The default is the first, since a reader who is shown no answer can do nothing with it, since sets with one
    threshold then always hold the answer the network gives, and since ``all`` would make a network seem the less sure
    the better it is. An empty set is also a sign of an unusual study: ``unanswered`` finds it. APS and RAPS sets with
    one threshold, being without chance, are never empty.

    APS and RAPS are deterministic unless ``uniform`` numbers were given: the same study always gets the same set. The
    price is that they hold the true answer somewhat more often than is promised.

    Args:
        spec: The task.
        alpha: Chance of missing the true answer.
        score: ``lac`` (the smallest sets), ``aps`` or ``raps`` (sizes that tell hard studies from easy ones).
        by: What the promise holds for.
        contiguous: Sets of ordered classes are intervals.
        empty: What becomes of empty sets.
        penalty: Of RAPS, for each place after the first ``free`` ones.
        free: Of RAPS.
        randomized: Fitted with ``uniform`` numbers, and to be used with them.
        thresholds: Group -> (P, 1), or by class (P, C), infinity where there are too few patients; P and C are the
            questions and answers (1 and K, for multilabel K and 2).
        patients: Group -> number of calibration patients of each threshold.
        notes: What a reader should know, as classes with too few patients.
    """

    spec: TaskSpec
    alpha: float
    score: str
    by: str
    contiguous: bool
    empty: str
    penalty: float
    free: int
    randomized: bool
    thresholds: Thresholds
    patients: dict[str, tuple[tuple[int, ...], ...]]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sets(self.spec, self.alpha, self.score, self.empty, self.penalty, self.contiguous)
        read_choice(self.by, "by", BY)
        shape = self.shape if self.by == "class" else (self.shape[0], 1)
        if self.by != "group" and set(self.thresholds) != {EVERYBODY}:
            raise ValueError("sets that know no groups have one group of thresholds")
        if set(self.patients) != set(self.thresholds):
            raise ValueError("sets: thresholds and patients must be of the same groups")
        for table in (*self.thresholds.values(), *self.patients.values()):
            if len(table) != shape[0] or any(len(row) != shape[1] for row in table):
                raise ValueError(f"task '{self.spec.name}': thresholds and patients of a group must be {shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of questions and of the answers of each."""
        classes = len(self.spec.classes)
        return (classes, 2) if self.spec.kind == "multilabel" else (1, classes)

    @property
    def promise(self) -> str:
        """The promise in a sentence."""
        what = "label" if self.spec.kind == "multilabel" else "study"
        of = {"all": "", "class": ", whatever its class,", "group": ", whatever its group,"}[self.by]
        return (
            f"With at least {1 - self.alpha:.4g} probability the set of a {what} of a new patient{of} holds the true "
            "answer, if new patients are like those of calibration"
        )

    def predict(self, probabilities: Array, groups: Array | None = None, *, uniform: Array | None = None) -> Array:
        """Return which answers are in the sets.

        Args:
            probabilities: (N, K), calibrated as those that the sets were fitted on.
            groups: (N,) for sets by group. A study of a group without thresholds gets every answer.
            uniform: (N, P) numbers from 0 to 1, for randomized sets only.

        Returns:
            (N, K) bool; for multilabel (N, K, 2), absent and present.

        Raises:
            ValueError: Wrong shapes or values; groups or numbers missing, or given and not wanted.
        """
        members, questions = self._members(probabilities, groups, uniform)
        hollow = np.asarray(~members.any(-1))
        if self.empty == "all":
            members |= hollow[..., None]
        elif self.empty == "top":
            top = np.arange(members.shape[-1]) == questions.argmax(-1)[..., None]
            members |= hollow[..., None] & top
        if self.contiguous:
            # By class the thresholds differ, and what lies between two answers may be left out.
            numbers = members.astype(int)
            after, before = np.cumsum(numbers, -1), np.cumsum(numbers[..., ::-1], -1)[..., ::-1]
            members = np.asarray((after > 0) & (before > 0))
        return members if self.spec.kind == "multilabel" else members[:, 0]

    def unanswered(self, probabilities: Array, groups: Array | None = None, *, uniform: Array | None = None) -> Array:
        """Return where no answer conforms, so that ``empty`` decides: (N,) bool, for multilabel (N, K)."""
        hollow = np.asarray(~self._members(probabilities, groups, uniform)[0].any(-1))
        return hollow if self.spec.kind == "multilabel" else hollow[:, 0]

    def _members(self, probabilities: Array, groups: Array | None, uniform: Array | None) -> tuple[Array, Array]:
        questions = as_questions(read_probabilities(probabilities, self.spec), self.spec)
        if (groups is None) == (self.by == "group"):
            raise ValueError(f"sets by {self.by} are asked {'with' if self.by == 'group' else 'without'} groups")
        if (uniform is None) == self.randomized:
            wanted = "need uniform numbers: they were" if self.randomized else "take no uniform numbers: they were not"
            raise ValueError(f"these sets {wanted} fitted with some")
        scored = nonconformity(
            questions,
            self.score,
            contiguous=self.contiguous,
            penalty=self.penalty,
            free=self.free,
            uniform=read_uniform(uniform, questions.shape[:2]),
        )
        if groups is None:
            return scored <= np.asarray(self.thresholds[EVERYBODY]), questions
        names = read_names(groups, len(questions), "groups").astype(str)
        limit = np.full((len(questions), self.shape[0], 1), math.inf)
        for name, table in self.thresholds.items():
            limit[names == name] = np.asarray(table)
        return scored <= limit, questions

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; an infinite threshold is null."""
        return {
            **{key: getattr(self, key) for key in ("alpha", "score", "by", "contiguous", "empty", "penalty", "free")},
            "spec": to_dict(self.spec),
            "randomized": self.randomized,
            "thresholds": {
                group: [[value if math.isfinite(value) else None for value in row] for row in table]
                for group, table in self.thresholds.items()
            },
            "patients": {group: [list(row) for row in table] for group, table in self.patients.items()},
            "notes": list(self.notes),
        }

    @staticmethod
    def from_dict(values: object) -> ConformalSets:
        """Return what ``as_dict`` wrote; ValueError where it was changed to something else."""
        read = read_fields(values, "sets", ConformalSets.__dataclass_fields__)
        given = read_fields(read["spec"], "sets: spec", TaskSpec.__dataclass_fields__)
        read_texts(given["classes"], "sets: classes")
        return ConformalSets(
            spec=from_dict(TaskSpec, given),
            alpha=read_number(read["alpha"], "sets: alpha"),
            score=read_choice(read["score"], "sets: score", SCORES),
            by=read_choice(read["by"], "sets: by", BY),
            contiguous=read_flag(read["contiguous"], "sets: contiguous"),
            empty=read_choice(read["empty"], "sets: empty", EMPTY),
            penalty=read_number(read["penalty"], "sets: penalty"),
            free=read_count(read["free"], "sets: free"),
            randomized=read_flag(read["randomized"], "sets: randomized"),
            thresholds={
                group: tuple(
                    tuple(math.inf if value is None else read_number(value, "sets: threshold") for value in row)
                    for row in table
                )
                for group, table in _tables(read["thresholds"]).items()
            },
            patients={
                group: tuple(tuple(read_count(value, "sets: patients") for value in row) for row in table)
                for group, table in _tables(read["patients"]).items()
            },
            notes=read_texts(read["notes"], "sets: notes"),
        )


def check_sets(spec: TaskSpec, alpha: float, score: str, empty: str, penalty: float, contiguous: bool) -> None:
    """Raise ValueError where one of these cannot be what sets are made by."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    read_choice(score, "score", SCORES)
    read_choice(empty, "empty", EMPTY)
    read_number(penalty, "penalty", 0)
    if contiguous and spec.kind != "ordinal":
        raise ValueError(f"task '{spec.name}': contiguous sets are for ordinal tasks, not {spec.kind}")


def read_uniform(uniform: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Return the numbers of randomized sets once there is one from 0 to 1 a question; ValueError where not."""
    if uniform is None:
        return None
    given = np.asarray(uniform, dtype=np.float64)
    if given.shape != shape or not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"uniform must be {shape} numbers from 0 to 1, got {given.shape}")
    return given


def _tables(values: object) -> dict[str, list[list[Any]]]:
    """Return group -> rows of values; ValueError where it is something else."""
    whole = isinstance(values, dict) and all(
        isinstance(table, list) and all(isinstance(row, list) for row in table) for table in values.values()
    )
    if not whole:
        raise ValueError("sets: thresholds and patients must be objects of lists of lists")
    return cast(dict[str, list[list[Any]]], values)
