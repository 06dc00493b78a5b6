"""Gradient boosting on the table's columns alone: what a study's images have to beat.

scikit-learn's histogram gradient boosting (after LightGBM: Ke et al., NeurIPS 2017), a model a task, of a multilabel
task one a class; the number of rounds is chosen on the validation studies as a network's epoch is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier

from mailnet.benchmark.outcome import Outcome
from mailnet.data.config import ROBUST, StudyConfig
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.metrics import summary
from mailnet.specs import TaskSpec
from mailnet.training.losses import class_weights

DEFAULTS: dict[str, Any] = {"max_iter": 300, "learning_rate": 0.1}
EVERY = 5  # rounds between two looks at the validation studies


def run_boosting(config: StudyConfig, options: Mapping[str, Any], data: StudyData, test: StudyData) -> Outcome:
    """Fit the models of all tasks and predict.

    A task is answered where training studies have both its label and a table; a study without a table is a row of
    missing values.

    Args:
        config: The study; ``train.balance``, ``train.monitor`` and ``train.seed`` are used.
        options: Of ``HistGradientBoostingClassifier``, over the defaults here.
        data: The study, loaded.
        test: Its test studies.

    Raises:
        ConfigError: The study has no table, no task can be learnt from it, or an option is unknown.
    """
    tables = [name for name, spec in data.modalities.items() if spec.kind == "tabular"]
    if not tables:
        raise ConfigError("the study has no table to boost on", remedy="Skip this network on the study")
    begun = time.monotonic()
    weights = {name: w.numpy() for name, w in class_weights(data).items()} if config.train.balance != "none" else {}
    features, asked = _features(data, tables), _features(test, tables)
    has_table = np.any([data.present[name] for name in tables], axis=0)
    train, val = (rows[has_table[rows]] for rows in (data.rows("train"), data.rows("val")))
    monitor = config.train.monitor.removeprefix(ROBUST)  # a table is not attacked
    chosen = {}
    for task, labels in data.labels.items():
        if (labels[train] >= 0).any() and (labels[val] >= 0).any():
            models = _fit_task(features[train], labels[train], data.tasks[task], weights.get(task), config, options)
            chosen[task] = _choose(models, features[val], labels[val], asked, data.tasks[task], monitor)
    if not chosen:
        raise ConfigError("no task has labels where the table has rows", remedy="Skip this network on the study")
    mean = float(np.mean([found[monitor] for _, _, found in chosen.values()]))
    return Outcome(
        probabilities={task: answers for task, (answers, _, _) in chosen.items()},
        best={
            "epoch": max(rounds for _, rounds, _ in chosen.values()),
            "monitor": monitor,
            "value": mean if np.isfinite(mean) else None,
            "loss": float(np.mean([found["loss"] for _, _, found in chosen.values()])),
        },
        history=[],
        seconds=time.monotonic() - begun,
        machine={"device": "cpu", "precision": "fp64", "scikit-learn": sklearn.__version__},
    )


def _choose(
    models: Sequence[_Fitted], val: np.ndarray, labels: np.ndarray, asked: np.ndarray, spec: TaskSpec, monitor: str
) -> tuple[np.ndarray, int, dict[str, float]]:
    """Return the answers (n, K) to ``asked`` after the rounds that validate best, these rounds, and their metrics."""
    best: tuple[tuple[float, float], np.ndarray, int, dict[str, float]] | None = None
    for stage, parts in enumerate(zip(*(model.staged(val, asked) for model in models), strict=True), 1):
        seen, answers = (_joined([part[side] for part in parts], spec) for side in (0, 1))
        found = summary(seen, labels, spec)
        score = -found["loss"] if monitor == "loss" else found[monitor]
        rank = (score if np.isfinite(score) else -np.inf, -found["loss"])
        if best is None or rank > best[0]:
            best = rank, answers, stage * EVERY, found
    if best is None:
        raise ConfigError(f"max_iter must be {EVERY} or more", remedy="Mend the options of the boosting in the suite")
    return best[1:]


class _Fitted:
    """A boosted model of one label, or a constant where training knows but one value.

    Args:
        model: The model, or None.
        classes: (c,) values that training knows.
        size: K, number of values that the label may have.
        rounds: Rounds of boosting.
    """

    def __init__(
        self, model: HistGradientBoostingClassifier | None, classes: np.ndarray, size: int, rounds: int
    ) -> None:
        self.model, self.classes, self.size, self.rounds = model, classes, size, rounds

    def staged(self, *features: np.ndarray) -> Iterator[list[np.ndarray]]:
        """Yield (n, K) of each of the feature arrays after every ``EVERY`` rounds."""
        stages = [None if self.model is None else self.model.staged_predict_proba(array) for array in features]
        for number in range(1, self.rounds + 1):
            answers = [np.ones((len(a), 1)) if s is None else next(s) for a, s in zip(features, stages, strict=True)]
            if number % EVERY == 0:
                yield [self._whole(answer) for answer in answers]

    def _whole(self, answer: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(answer), self.size))
        whole[:, self.classes] = answer
        return whole


def _fit_task(
    features: np.ndarray,
    labels: np.ndarray,
    spec: TaskSpec,
    weight: np.ndarray | None,
    config: StudyConfig,
    options: Mapping[str, Any],
) -> list[_Fitted]:
    """Return one model, of a multilabel task one a class; ``weight`` (K,) is of classes, else of their positives."""
    settings = {**DEFAULTS, **options, "early_stopping": False, "random_state": config.train.seed}
    weight = np.ones(len(spec.classes)) if weight is None else weight
    if spec.kind != "multilabel":
        return [_fit(features, labels, weight, settings)]
    return [_fit(features, column, np.array([1.0, weight[k]]), settings) for k, column in enumerate(labels.T)]


def _fit(features: np.ndarray, labels: np.ndarray, weight: np.ndarray, settings: dict[str, Any]) -> _Fitted:
    known = labels >= 0  # NaN is not
    truth = labels[known].astype(np.int64)
    classes = np.unique(truth)
    rounds = int(settings["max_iter"])
    if len(classes) < 2:
        return _Fitted(None, classes if len(classes) else np.zeros(1, np.int64), len(weight), rounds)
    try:
        model = HistGradientBoostingClassifier(**settings).fit(features[known], truth, sample_weight=weight[truth])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the boosting cannot be made: {error}", remedy="Mend its options in the suite") from error
    return _Fitted(model, classes, len(weight), rounds)


def _joined(parts: list[np.ndarray], spec: TaskSpec) -> np.ndarray:
    return np.stack([part[:, 1] for part in parts], axis=1) if spec.kind == "multilabel" else parts[0]


def _features(data: StudyData, tables: list[str]) -> np.ndarray:
    """(N, F) of all tables, NaN where a study lacks one."""
    parts = []
    for name in tables:
        values = np.asarray(data.arrays[name][np.arange(len(data))], dtype=np.float32)
        values[~data.present[name]] = np.nan
        parts.append(values)
    return np.concatenate(parts, axis=1)
