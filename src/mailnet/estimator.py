"""A classifier in the manner of scikit-learn: fit on a table of studies, predict another."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from mailnet.bundle import Predictions, Predictor, load
from mailnet.data.config import StudyConfig, parse_config
from mailnet.data.study import load_study
from mailnet.training import train

Manifest = str | Path | pd.DataFrame


class MAILClassifier(BaseEstimator):  # type: ignore[misc]
    """Trains a multimodal network on a table with one row a study.

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
        data_root: Folder that paths in a DataFrame start from and that no path may leave; default the folder of the
            table, or the working folder for a DataFrame.
        run: Folder of the run, which may not hold one yet; default a temporary one that goes with the estimator.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``.

    Attributes:
        predictor_: The ``Predictor`` that was trained.
        classes_: Class names of the task; with several tasks a dict of them.
        run_: The run folder.
        history_: One dict an epoch.
    """

    def __init__(
        self,
        modalities: Mapping[str, Any],
        tasks: Mapping[str, Any],
        *,
        model: str = "mail",
        model_options: Mapping[str, Any] | None = None,
        train: Mapping[str, Any] | None = None,
        group: str | None = None,
        split: str | Mapping[str, Any] | None = None,
        regime: str = "paired",
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
        self.data_root = data_root
        self.run = run
        self.device = device

    def fit(self, manifest: Manifest, y: None = None) -> MAILClassifier:
        """Train.

        Args:
            manifest: Path of a CSV or Parquet table, or a DataFrame, with a column for every modality and task.
            y: Not used; labels are columns of the table.

        Raises:
            ConfigError: A parameter is wrong.
            DataError: The data cannot be used.
            RunError: The folder ``run`` holds a run already.
        """
        config = self._config(manifest)
        if self.run is None:
            self._folder = tempfile.TemporaryDirectory(prefix="mailnet-")
        self.run_ = Path(self._folder.name) / "run" if self.run is None else Path(self.run)
        table = manifest if isinstance(manifest, pd.DataFrame) else None
        data = load_study(config, splits=("train", "val"), table=table)
        self.history_ = train(config, self.run_, data=data, resume=False, progress=False).history
        self.predictor_: Predictor = load(self.run_, device=self.device)
        classes = {name: np.array(spec.classes) for name, spec in self.predictor_.tasks.items()}
        self.classes_ = next(iter(classes.values())) if len(classes) == 1 else classes
        return self

    def predict_proba(self, manifest: Manifest | Sequence[Mapping[str, Any]]) -> Any:
        """Return (N, K) probabilities; with several tasks a dict of them.

        Args:
            manifest: As for ``fit``, without labels; or a list of dicts.
        """
        return self._single(self._predict(manifest).probabilities)

    def predict(self, manifest: Manifest | Sequence[Mapping[str, Any]]) -> Any:
        """Return (N,) class names; with several tasks a dict of them."""
        predictions = self._predict(manifest)
        return self._single({name: np.array(predictions.labels(name)) for name in predictions.tasks})

    def _predict(self, manifest: Manifest | Sequence[Mapping[str, Any]]) -> Predictions:
        return self.predictor_.predict(manifest, data_root=self.data_root)

    def _config(self, manifest: Manifest) -> StudyConfig:
        split = {"train": 0.8, "val": 0.2, "test": 0.0} if self.split is None else self.split
        values: dict[str, Any] = {
            "name": "study",
            "manifest": [],
            "data_root": str(Path(self.data_root or ".").resolve()),
            "regime": self.regime,
            "group": self.group,
            "split": split if isinstance(split, str) else dict(split),
            "modalities": dict(self.modalities),
            "tasks": dict(self.tasks),
            "model": {"name": self.model, "options": dict(self.model_options or {})},
            "train": {"device": self.device, **(self.train or {})},
        }
        if not isinstance(manifest, pd.DataFrame):
            file = Path(manifest).resolve()
            values["data_root"] = str(Path(self.data_root).resolve() if self.data_root else file.parent)
            values["manifest"] = [str(file)]
        return parse_config(values)

    @staticmethod
    def _single(values: dict[str, Any]) -> Any:
        return next(iter(values.values())) if len(values) == 1 else values
