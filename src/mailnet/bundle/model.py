"""A bundle's network with all that was fitted on it, asked about studies that are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from mailnet.bundle.asking import StudyPredictor
from mailnet.bundle.draws import DrawSource, calibrate_draws
from mailnet.bundle.features import Chosen
from mailnet.bundle.foreign import ForeignFound
from mailnet.bundle.odd import Odd
from mailnet.bundle.passes import Passes, batches_of, hidden
from mailnet.bundle.store import Bundle
from mailnet.data.dataset import StudyDataset, iterate
from mailnet.data.study import StudyData
from mailnet.nn.batch import Batch


class LoadedModel(StudyPredictor):
    """The part of a ``Predictor`` that asks about studies which are loaded.

    Args:
        bundle: What ``read_bundle`` gave.
        device: As ``Predictor`` takes it.
        raw: Leave calibration, prediction sets and warnings of foreign studies out.

    Raises:
        RunError: The device does not exist here.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", *, raw: bool = False) -> None:
        super().__init__(bundle, raw=raw)
        self.bundle = bundle
        self.passes = Passes(bundle.model, bundle.model_name, bundle.modalities, bundle.tasks, device)
        self.device = self.passes.device

    @property
    def model(self) -> nn.Module:
        """The network, on its device and in evaluation mode."""
        return self.passes.model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self.passes.model = model

    @property
    def noise(self) -> dict[str, Any] | None:
        """How a random network answers: ``mode``, ``draws`` and ``seed``; None of others."""
        return self.passes.noise

    def predict_data(
        self, data: StudyData, rows: np.ndarray, *, without: Sequence[str] = (), batch_size: int = 64
    ) -> dict[str, np.ndarray]:
        """Return task -> (n, K) probabilities of loaded studies, in the order of ``rows``.

        Args:
            data: The studies, loaded with this model's tables.
            rows: (n,) row numbers.
            without: Modalities to treat as absent; every row must have another one.
            batch_size: Studies at a time.
        """
        self._check(without)
        batches, place = batches_of(data, rows, batch_size)
        parts = [self.passes.answers(hidden(batch, without)) for batch in iterate(StudyDataset(data), batches)]
        raw = {
            name: np.concatenate([part[name] for part in parts])[place] if parts else np.zeros((0, len(spec.classes)))
            for name, spec in self.tasks.items()
        }
        return self._calibrated(raw)

    @property
    def draw_source(self) -> DrawSource:
        """Where ``draw`` gets several answers from: ``members`` of an ensemble, ``noise`` or ``dropout``.

        Raises:
            ConfigError: The network has none of these.
        """
        return self.passes.source

    def draw(
        self, data: StudyData, rows: np.ndarray, *, draws: int = 20, seed: int = 0, batch_size: int = 64
    ) -> dict[str, np.ndarray]:
        """Return task -> (S, n, K), several answers to each study, as ``mailnet.trust.uncertainty`` reads them.

        S single draws of a random network's numbers; of another one S times with its dropout layers on (MC dropout); of
        an ensemble one of each member, whatever S is asked for. A draw has the same numbers for every study of the same
        modalities, whatever else is asked. The predictions are their mean only of an ensemble without calibration: of a
        random network they are that of other draws, and of one with dropout an answer without it.

        Args:
            data: The studies, loaded with this model's tables.
            rows: (n,) row numbers, at least one.
            draws: S.
            seed: Of the numbers.
            batch_size: Studies at a time.

        Raises:
            ConfigError: There is nothing to draw from; the error says what to do.
            ValueError: No draw, or no row.
        """
        if draws < 1 or not len(rows):
            raise ValueError(f"draws and rows must be at least 1, got {draws} and {len(rows)}")
        _ = self.draw_source  # raises where there is none
        batches, place = batches_of(data, rows, batch_size)
        parts = [self.passes.draw(batch, draws, seed) for batch in iterate(StudyDataset(data), batches)]
        found = {name: np.concatenate([part[name] for part in parts], 1)[:, place] for name in self.tasks}
        return found if self.reliability is None else calibrate_draws(self.reliability, found)

    def predict_batch(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return task -> (B, K) probabilities of assembled studies, as they are or changed on purpose.

        Args:
            batch: The studies, ``present`` on the CPU; images in [0, 1].

        Raises:
            ValueError: The batch does not fit the network.
        """
        return self._calibrated(self.passes.answers(batch))

    def features(self, batch: Batch, layers: Chosen) -> dict[str, np.ndarray]:
        """Return image or volume -> (B, C), features of the network, see ``mailnet.bundle.features``; NaN where absent.

        Args:
            batch: As of ``predict_batch``.
            layers: Which of the network's ``feature_layers``.
        """
        return self.passes.watched(batch, layers)[1].features()

    def early_layers(self, batch: Batch) -> dict[str, tuple[int, ...]]:
        """Return image or volume -> the layers by which foreign ones are told best, of those that the batch has."""
        return self.passes.watched(batch)[1].early()

    def predict_examined(
        self, batch: Batch, odd: Mapping[str, Sequence[Odd]] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, ForeignFound]]:
        """Return probabilities as the network gives them, and how foreign the studies look to it in the same pass.

        Args:
            batch: As of ``predict_batch``.
            odd: Table -> B of what is odd about its cells, where these are known.

        Returns:
            Task -> (B, K), not calibrated; and modality -> what is found, empty where the model can't tell.
        """
        if self.foreign is None:
            return self.passes.answers(batch), {}
        features: dict[str, np.ndarray] = {}
        if self.foreign.needs_features:
            values, watch = self.passes.watched(batch, self.foreign.layers)
            features = watch.features()
        else:
            values = self.passes.answers(batch)
        inputs, present = ({name: x.numpy() for name, x in of.items()} for of in (batch.inputs, batch.present))
        return values, self.foreign.examine(inputs, present, features, odd)
