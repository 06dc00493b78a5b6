"""Calibration, prediction sets and abstention of a run: fitted on validation studies, measured on others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mailnet.bundle.reliability import REORDERING, Reliability, least_confidence
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.evaluation.subgroups import Subgroups, subgroups_of
from mailnet.evaluation.tables import Measure, labelled
from mailnet.specs import TaskSpec
from mailnet.trust.abstain import abstain_threshold
from mailnet.trust.conformal import fit_sets
from mailnet.trust.coverage import measure_coverage, measure_sets
from mailnet.trust.fitting import fit_calibrator
from mailnet.trust.selective import risk_coverage
from mailnet.trust.uncertainty import wrong_of

SHOWN = ("ece", "adaptive_ece", "brier", "nll")
DIVISIONS = 100
SALT = "mailnet calibration: "  # never to be changed: bundles were divided by it


@dataclass(frozen=True)
class Wanted:
    """What is to be fitted; what is None stays as the bundle has it.

    Args:
        calibration: ``temperature``, ``vector``, ``isotonic`` or ``none``.
        alphas: Prediction sets that miss the true answer with at most these chances.
        score: Of the sets, ``lac``, ``aps`` or ``raps``.
        by: None, or ``class`` for sets whose promise holds for each class.
        risk: Share of wrong answers above which the model shall rather not answer.
    """

    calibration: str | None = None
    alphas: Sequence[float] | None = None
    score: str = "lac"
    by: str | None = None
    risk: float | None = None

    def __bool__(self) -> bool:
        return self.calibration is not None or self.alphas is not None or self.risk is not None

    def check(self) -> None:
        """Raise ConfigError where a number is out of range, which is best known before anything is predicted."""
        chances = [("alpha (--conformal)", alpha) for alpha in self.alphas or ()]
        chances += [] if self.risk is None else [("risk (--abstain-at-risk)", self.risk)]
        for name, value in chances:
            if not 0 < value < 1:
                raise ConfigError(
                    f"{name} must be between 0 and 1, got {value}", remedy="See 'mailnet evaluate --help'"
                )


def fit_reliability(
    before: Reliability | None, data: StudyData, raw: Mapping[str, np.ndarray], wanted: Wanted
) -> Reliability:
    """Fit what is wanted on validation studies.

    A new calibration that may change answers takes half of the patients, and makes sets and thresholds void that are
    not fitted anew. These take the other half, then or later: see ``in_first_half``.

    Args:
        before: What the model has.
        data: Validation studies.
        raw: Task -> (N, K) as the network gives them.
        wanted: What to fit.

    Raises:
        ValueError: A calibration that a task cannot have, or numbers out of range.
    """
    patients = _patients(data)
    found = before or Reliability()
    first = in_first_half(patients)
    everybody = np.ones(len(patients), bool)
    if wanted.calibration is not None:
        rows = first if wanted.calibration in REORDERING else everybody
        void = wanted.calibration in REORDERING or any(one.method in REORDERING for one in found.calibrators.values())
        found = Reliability(
            {
                task: fit_calibrator(
                    raw[task][rows],
                    data.labels[task][rows],
                    spec,
                    _possible(wanted.calibration, spec),
                    patients=patients[rows],
                )
                for task, spec in data.tasks.items()
            },
            {} if void else found.sets,
            {} if void else found.abstentions,
        )
    sets, abstentions = dict(found.sets), dict(found.abstentions)
    for task, spec in data.tasks.items():
        calibrator = found.calibrators.get(task)
        rows = ~first if calibrator is not None and calibrator.method in REORDERING else everybody
        values, labels = found.read(task, raw[task][rows]), data.labels[task][rows]
        if wanted.alphas is not None:
            sets[task] = tuple(
                fit_sets(values, labels, spec, alpha, wanted.score, by=wanted.by, patients=patients[rows])
                for alpha in wanted.alphas
            )
        if wanted.risk is not None:
            abstentions[task] = abstain_threshold(
                least_confidence(values, spec), any_wrong(values, labels, spec), wanted.risk, patients=patients[rows]
            )
    return replace(found, sets=sets, abstentions=abstentions)


def in_first_half(patients: np.ndarray) -> np.ndarray:
    """Return (N,) bool, of which studies a calibration that may change answers is fitted; sets are, of the others.

    Every patient is on the side that the name's digest says, so that sets that are fitted another day, with other
    studies left out, have no patient in common with the calibration. Halves are equal by chance, not exactly.

    Args:
        patients: (N,) names.
    """
    names, place = np.unique(patients, return_inverse=True)
    sides = [hashlib.sha256(f"{SALT}{name}".encode()).digest()[0] % 2 == 0 for name in names.tolist()]
    return np.array(sides, dtype=bool)[place.reshape(-1)]


def reliability_tables(
    data: StudyData,
    raw: Mapping[str, np.ndarray],
    calibrated: Mapping[str, np.ndarray],
    reliability: Reliability,
    measured: Measure,
) -> dict[str, Any]:
    """Return what ``evaluation.json`` says of a model's reliability.

    Args:
        data: The studies measured.
        raw: Task -> (N, K) as the network gives them.
        calibrated: The same, calibrated.
        reliability: What was fitted.
        measured: Measures a task.

    Returns:
        ``split`` it was fitted on; ``calibration`` (task -> method, temperature, reason, ``before`` and ``after``),
        ``sets`` (task -> one entry an alpha: promise, notes, coverage of the model's sets, ``divisions`` of the
        measured studies into calibration and test with one threshold and with one a class) and ``abstention`` (task ->
        threshold, promise, and what it comes to on the measured studies).
    """
    rows, patients = np.arange(len(data)), _patients(data)
    groups = subgroups_of(data)
    columns = {name: of.values for name, of in groups.items()}
    calibration = {}
    for task, one in reliability.calibrators.items():
        several = {"before": raw, "after": calibrated}
        calibration[task] = {
            **{key: getattr(one, key) for key in ("method", "reason", "studies", "patients")},
            "temperature": list(one.temperature),
            **{key: _shown(measured(task, values[task], rows)) for key, values in several.items()},
        }
    sets: dict[str, list[dict[str, Any]]] = {}
    for task, several_sets in reliability.sets.items():
        values, labels = reliability.read(task, raw[task]), data.labels[task]
        if len(np.unique(patients[labelled(data, task, rows)])) < 2:
            continue
        sets[task] = [
            {
                "alpha": one.alpha,
                "score": one.score,
                "by": one.by,
                "promise": one.promise,
                "notes": list(one.notes),
                "measured": _in_order(
                    measure_sets(one, values, labels, patients=patients, subgroups=columns).as_dict(), groups
                ),
                "divisions": {
                    by or "all": _in_order(
                        measure_coverage(
                            values,
                            labels,
                            data.tasks[task],
                            one.alpha,
                            one.score,
                            by=by,
                            patients=patients,
                            subgroups=columns,
                            divisions=DIVISIONS,
                        ).as_dict(),
                        groups,
                    )
                    for by in (None, "class")
                },
            }
            for one in several_sets
        ]  # fmt: skip
    return {
        "split": reliability.split,
        "calibration": calibration,
        "sets": sets,
        "abstention": {
            task: {**one.as_dict(), "promise": one.promise, "measured": _abstained(data, raw, reliability, task)}
            for task, one in reliability.abstentions.items()
        },
    }


def _in_order(coverage: dict[str, Any], groups: Mapping[str, Subgroups]) -> dict[str, Any]:
    """Return what was measured of sets, bands of a number from low to high."""
    return {**coverage, "subgroups": {name: groups[name].ordered(of) for name, of in coverage["subgroups"].items()}}


def selective_tables(data: StudyData, probabilities: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return task -> risk-coverage curve of the probability of the answer, None where no study has a label."""
    found = {}
    for task, spec in data.tasks.items():
        values = probabilities[task]
        curve = risk_coverage(least_confidence(values, spec), any_wrong(values, data.labels[task], spec))
        found[task] = None if curve is None else curve.as_dict()
    return found


def _abstained(data: StudyData, raw: Mapping[str, np.ndarray], reliability: Reliability, task: str) -> dict[str, Any]:
    answered = reliability.answered({task: raw[task]}, data.tasks)[task]
    wrong = any_wrong(reliability.read(task, raw[task]), data.labels[task], data.tasks[task])
    known = np.isfinite(wrong)
    given = wrong[known & answered]
    return {
        "coverage": float(answered[known].mean()) if known.any() else None,
        "wrong": float(given.mean()) if len(given) else None,
        "answered": len(given),
        "studies": int(known.sum()),
    }


def any_wrong(probabilities: np.ndarray, labels: np.ndarray, spec: TaskSpec) -> np.ndarray:
    """Return (N,) 1 where the answer, of a multilabel task any of its labels, is wrong; NaN where that is unknown."""
    wrong = wrong_of(probabilities, labels, spec)
    return np.asarray(wrong.max(1) if wrong.ndim == 2 else wrong)


def _possible(method: str, spec: TaskSpec) -> str:
    # A study may have a binary task beside others, for which isotonic regression is not defined.
    return "temperature" if method == "isotonic" and spec.kind not in ("binary", "multilabel") else method


def _shown(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found["metrics"][name] for name in SHOWN if name in found["metrics"]}


def _patients(data: StudyData) -> np.ndarray:
    return data.frame["group"].to_numpy(dtype=str)
