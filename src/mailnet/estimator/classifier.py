"""``MAILClassifier``: fit on a table of studies or on an array of features, predict another."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from mailnet.bundle import Predictions, Predictor, load
from mailnet.data.memory import plain_cell
from mailnet.data.study import load_study
from mailnet.data.values import cell_text
from mailnet.errors import ConfigError
from mailnet.estimator.given import Given, given_array, given_studies
from mailnet.estimator.labels import class_numbers
from mailnet.estimator.packing import pack_bundle, unpack_bundle
from mailnet.training import train


class MAILClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains a multimodal network on studies, or on an array of features, as an estimator of scikit-learn.

    With ``modalities``, X is a table with one row a study: the path of a CSV or Parquet file, a DataFrame, or dicts in
    a list or a data set, as of MONAI, whose images may be tensors. Without, X is an array (N, F) of numbers, NaN where
    missing, and becomes one table of F columns. Labels are columns of the table (keys of the dicts) that ``tasks``
    name, or y; without ``tasks`` the classes are what y holds.

    A part of what it is fitted on (``split``) is kept for choosing the best epoch.

    Args:
        modalities: Name -> what ``study.yaml`` says under it, for example ``{"column": "image", "size": 64}``.
        tasks: Name -> likewise, for example ``{"column": "diagnosis", "classes": ["benign", "malignant"]}``.
        model: Name of a network of ``mailnet.list_models()``.
        model_options: Its options.
        train: Keys of the section ``train``, for example ``{"epochs": 10}``.
        group: Column that names the patient; rows of one patient never fall on two sides of the split.
        split: Column, or fractions such as ``{"train": 0.8, "val": 0.2, "test": 0}``, which is the default: a test set
            is the caller's own.
        regime: ``paired`` or ``unpaired``.
        prepare: Applied to each study in memory before it is read, also for predictions: a MONAI transform of dicts
            that draws nothing random. The bundle does not hold it.
        augment: Applied to each study of training anew in every epoch, in place of the modalities' ``augment``; see
            ``mailnet.training.train``.
        data_root: Folder that paths in a DataFrame start from and that no path may leave; default the folder of the
            table, or the working folder for a DataFrame.
        run: Folder of the run, which may not hold one yet; default a temporary one that goes with the estimator.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.

    Attributes:
        predictor_: The ``Predictor`` that was trained.
        classes_: Classes of the task, as y has them, or their names; with several tasks a dict of names.
        n_features_in_: Columns of the array that it was fitted on.
        feature_names_in_: Their names, where it was a DataFrame.
        run_: The run folder; of an unpickled estimator a folder with its bundle.
        history_: One dict an epoch.

    A pickle holds the bundle's files (safetensors and JSON). Whoever opens a pickle runs what it says: give others the
    bundle, ``run_ / "bundle"``, instead.
    """

    def __init__(
        self,
        modalities: Mapping[str, Any] | None = None,
        tasks: Mapping[str, Any] | None = None,
        *,
        model: str = "mail",
        model_options: Mapping[str, Any] | None = None,
        train: Mapping[str, Any] | None = None,
        group: str | None = None,
        split: str | Mapping[str, Any] | None = None,
        regime: str = "paired",
        prepare: Any = None,
        augment: Any = None,
        data_root: str | Path | None = None,
        run: str | Path | None = None,
        device: str = "auto",
    ) -> None:
        self.modalities = modalities
        self.tasks = tasks
        self.model = model
        self.model_options = model_options
        self.train = train
        self.group = group
        self.split = split
        self.regime = regime
        self.prepare = prepare
        self.augment = augment
        self.data_root = data_root
        self.run = run
        self.device = device

    def fit(self, X: Any, y: Any = None) -> MAILClassifier:
        """Train.

        Args:
            X: Path of a CSV or Parquet table, a DataFrame or dicts, with a column or key for every modality and task;
                without ``modalities`` an array (N, F) of numbers.
            y: (N,) labels of the one task, in place of its column.

        Raises:
            ConfigError: A parameter is wrong.
            DataError: The data cannot be used.
            RunError: The folder ``run`` holds a run already.
            ValueError: X or y is no array of the kind needed, or y holds fewer than two classes.
        """
        given = self._given(X, y)
        data = load_study(given.config, splits=("train", "val"), table=given.rows)
        folder = tempfile.TemporaryDirectory(prefix="mailnet-") if self.run is None else None
        run = Path(str(self.run)) if folder is None else Path(folder.name) / "run"
        self.history_ = train(given.config, run, data=data, resume=False, progress=False, augment=self.augment).history
        self.predictor_: Predictor = load(run, device=self.device)
        self.run_, self._folder, self._answer = run, folder, given.answer
        names = {name: np.array(spec.classes) for name, spec in self.predictor_.tasks.items()}
        self.classes_ = given.classes if given.classes is not None else _single(names)
        return self

    def predict_proba(self, X: Any) -> Any:
        """Return (N, K) probabilities; with several tasks a dict of them.

        Args:
            X: As for ``fit``, without labels.
        """
        return _single(self._predict(X).probabilities)

    def predict(self, X: Any) -> Any:
        """Return (N,) classes; with several tasks a dict of them, of a multilabel task names joined by ``|``."""
        predictions = self._predict(X)
        if self._answer is not None:
            return self.classes_[next(iter(predictions.probabilities.values())).argmax(axis=1)]
        return _single({name: np.array(predictions.labels(name)) for name in predictions.tasks})

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy on studies of one task, of those that have a label.

        Args:
            X: As for ``fit``.
            y: (N,) labels; default the column of a DataFrame, or the keys of a list of dicts.
            sample_weight: (N,) what each study counts.

        Raises:
            ConfigError: There are several tasks, or no labels.
        """
        check_is_fitted(self)
        if self._answer is None:
            raise ConfigError("the score is that of one task", remedy="Compare the predictions of each task by itself")
        column, meanings = self._answer
        if y is None and isinstance(X, list):
            y = [plain_cell(study.get(column)) for study in X]
        elif y is None:
            if not isinstance(X, pd.DataFrame) or column not in X:
                raise ConfigError("there are no labels to compare with", remedy="Give them as y")
            y = X[column]
        labels = column_or_1d(y)
        truth = class_numbers(meanings, labels)
        # Answers that the labels do not know, as "malignant" for a 1, are compared by their place.
        predicted = next(iter(self._predict(X).probabilities.values())).argmax(axis=1)
        known = np.array([cell_text(label) != "" for label in labels], dtype=bool)
        weight = None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(accuracy_score(truth[known], predicted[known], sample_weight=weight))

    def _given(self, X: Any, y: Any) -> Given:
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        settings = self.get_params(deep=False)
        if self.modalities is not None:
            return given_studies(settings, X, y)
        X, y = validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=2, multi_output=False
        )
        return given_array(settings, X, self._columns(), y)

    def _columns(self) -> list[str]:
        names = getattr(self, "feature_names_in_", None)
        return [f"x{k}" for k in range(self.n_features_in_)] if names is None else [str(name) for name in names]

    def _predict(self, X: Any) -> Predictions:
        check_is_fitted(self)
        if self.modalities is not None:
            return self.predictor_.predict(X, data_root=self.data_root, prepare=self.prepare)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        return self.predictor_.predict(pd.DataFrame(X, columns=self._columns()))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = self.modalities is None or self.tasks is None
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "predictor_")

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {**super().__getstate__()}
        if "predictor_" in state:
            state = {key: value for key, value in state.items() if key not in ("predictor_", "run_", "_folder")}
            state["_packed"] = pack_bundle(self.run_)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.get("_packed")
        super().__setstate__({key: value for key, value in state.items() if key != "_packed"})
        if packed is not None:
            self._folder = tempfile.TemporaryDirectory(prefix="mailnet-")
            self.run_ = Path(self._folder.name)
            unpack_bundle(packed, self.run_)
            self.predictor_ = load(self.run_, device=self.device)


def _single(values: dict[str, Any]) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values
