"""What a model's own uncertainty is worth: how much of it there is, and whether its wrong answers have more of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.bundle import Predictor
from mailnet.bundle.doubt import PARTS, part_columns
from mailnet.bundle.draws import calibrate_draws
from mailnet.bundle.reliability import Reliability, least_confidence
from mailnet.data.config import EvaluationConfig
from mailnet.data.progress import progress
from mailnet.data.study import StudyData
from mailnet.evaluation.reliability import any_wrong
from mailnet.metrics.bootstrap import draw_weights, interval
from mailnet.metrics.ranking import Ranking
from mailnet.trust.selective import risk_coverage
from mailnet.trust.uncertainty import Uncertainty, measure_uncertainty

CONFIDENCE = "confidence"  # 1 less the probability of the answer, which needs no draws: what they have to beat
AT_A_TIME = 512


@dataclass(frozen=True)
class Drawn:
    """The uncertainty of each study.

    Args:
        source: Where the draws came from, see ``Predictor.draw_source``.
        draws: How many there were.
        tasks: Task -> what they say.
    """

    source: str
    draws: int
    tasks: dict[str, Uncertainty]


def measure_draws(
    predictor: Predictor, reliability: Reliability | None, data: StudyData, draws: int, seed: int
) -> Drawn:
    """Return the uncertainty of each study, of calibrated draws where there is a calibration.

    Each draw is calibrated by itself. Their mean, of which ``total`` is the entropy, is therefore not quite the answer
    that is predicted, for that is the calibrated mean: calibration is no straight line.

    Args:
        predictor: The model, as loaded with ``raw``.
        reliability: Its calibration.
        data: The studies.
        draws: S, see ``Predictor.draw``.
        seed: Of the draws.

    Raises:
        ConfigError: The network has nothing to draw from.
    """
    parts = []
    with progress("Drawing answers", len(data)) as advance:
        for start in range(0, len(data), AT_A_TIME):
            rows = np.arange(start, min(start + AT_A_TIME, len(data)))
            parts.append(predictor.draw(data, rows, draws=draws, seed=seed))
            advance(len(rows))
    drawn = {task: np.concatenate([part[task] for part in parts], 1) for task in data.tasks}
    drawn = drawn if reliability is None else calibrate_draws(reliability, drawn)
    count = len(next(iter(drawn.values())))
    found = {task: measure_uncertainty(drawn[task], spec) for task, spec in data.tasks.items()}
    return Drawn(predictor.draw_source, count, found)


def uncertainty_tables(
    data: StudyData,
    probabilities: Mapping[str, np.ndarray],
    found: Drawn,
    settings: EvaluationConfig,
) -> dict[str, Any]:
    """Return what ``evaluation.json`` says of the uncertainty.

    Of a multilabel task a study's uncertainty is the mean over labels, and its answer is wrong where any label is; one
    with an unknown label is left out of what needs labels.

    Args:
        data: The studies.
        probabilities: Task -> (N, K), the predictions, of which some are wrong.
        found: From ``measure_draws``.
        settings: Bootstrap of the intervals, which redraw patients.

    Returns:
        ``source`` and ``draws`` as of ``Drawn``, and ``tasks``: task -> ``parts`` (mean of each over all studies, in
        nats; of ``variation`` a share), ``studies`` and ``wrong`` (how many have a label, how many of these are wrong),
        and for each measure and for ``confidence``, by which studies can be ordered: ``auroc`` (the chance that a wrong
        answer has more of it than a right one) and ``aurc`` (see ``mailnet.trust.selective``); None where all or no
        answers are wrong, or no study has a label.
    """
    groups = data.frame["group"]
    patients = None if groups.is_unique else groups.to_numpy(dtype=str)
    tables = {}
    for task, spec in data.tasks.items():
        wrong = any_wrong(probabilities[task], data.labels[task], spec)
        scores = {part: per_study(getattr(found.tasks[task], part)) for part in PARTS}
        ordering = {**scores, CONFIDENCE: 1 - least_confidence(probabilities[task], spec)}
        known = np.isfinite(wrong)
        curves = {name: risk_coverage(-values, wrong) for name, values in ordering.items()}
        tables[task] = {
            "parts": {name: _with_interval(_mean(values), patients, len(data), settings)
                      for name, values in scores.items()},
            "studies": int(known.sum()),
            "wrong": int(wrong[known].sum()),
            "auroc": {name: _auroc(wrong[known], values[known], None if patients is None else patients[known], settings)
                      for name, values in ordering.items()},
            "aurc": {name: None if curve is None else curve.aurc for name, curve in curves.items()},
        }  # fmt: skip
    return {"source": found.source, "draws": found.draws, "tasks": tables}


def uncertainty_columns(data: StudyData, found: Drawn) -> dict[str, np.ndarray]:
    """Return the columns of ``predictions.parquet``: ``<part>:<task>``, of a label ``<part>:<task>:<class>``."""
    return part_columns(data.tasks, found.tasks)


def per_study(values: np.ndarray) -> np.ndarray:
    """Return (N,) of a measure (N,), or of each label (N, K) the mean."""
    return np.asarray(values if values.ndim == 1 else values.mean(1))


def _mean(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda weights: weights @ values / weights.sum(1)


def _auroc(
    wrong: np.ndarray, score: np.ndarray, patients: np.ndarray | None, settings: EvaluationConfig
) -> dict[str, float] | None:
    if wrong.all() or not wrong.any():
        return None
    ranking = Ranking(wrong == 1, score)
    return _with_interval(lambda weights: ranking.areas(weights)[0], patients, len(wrong), settings)


def _with_interval(
    metric: Callable[[np.ndarray], np.ndarray], patients: np.ndarray | None, studies: int, settings: EvaluationConfig
) -> dict[str, float]:
    value = {"value": float(metric(np.ones((1, studies)))[0])}
    weights = draw_weights(studies, patients, settings.bootstrap, settings.seed) if settings.bootstrap else ()
    draws = [metric(several) for several in weights]
    ends = interval(np.concatenate(draws)) if draws else None
    return value if ends is None else {**value, "low": ends[0], "high": ends[1]}
