"""From files to probabilities, by the very preparation that training used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mailnet.bundle.draws import AVERAGED, DrawSource, average_draws, calibrate_draws, draw_batch, draw_source, kinds
from mailnet.bundle.features import Chosen, Watch, watching
from mailnet.bundle.foreign import ForeignFound, join_found
from mailnet.bundle.predictions import Predictions
from mailnet.bundle.requests import Requests, Studies, gather
from mailnet.bundle.store import Bundle, read_bundle
from mailnet.data.config import PixelConfig
from mailnet.data.dataset import StudyDataset, iterate
from mailnet.data.preprocess import to_unit
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError, DataError, MailnetError, RunError
from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.nn.layers import channels_last
from mailnet.nn.noise import get_noise

DRAWS = AVERAGED
THREADS = 4


class Predictor:
    """A trained network with everything that it needs to read a study.

    A network that draws random numbers is put into the mode ``mean`` with a fixed seed and the same numbers for every
    study, so that a prediction repeats and does not depend on what else is predicted. ``noise`` says so: mode, draws
    and seed; it is None for other networks.

    Probabilities are calibrated where the bundle holds a calibration.

    Args:
        bundle: What ``read_bundle`` gave.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        raw: Give probabilities as the network does, without calibration, prediction sets and warnings of foreign
            studies.

    Raises:
        RunError: The device does not exist here.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", *, raw: bool = False) -> None:
        self.bundle = bundle
        self.reliability = None if raw else bundle.reliability
        self.foreign = None if raw else bundle.foreign
        self.device = _device(device)
        self.model = channels_last(bundle.model.to(self.device).eval())
        self.modalities = bundle.modalities
        self.tasks = bundle.tasks
        self.tables = bundle.tables
        random = get_noise(self.model) is not None
        self.noise: dict[str, Any] | None = {"mode": "mean", "draws": DRAWS, "seed": 0} if random else None

    def predict(
        self,
        studies: Studies,
        *,
        without: Sequence[str] = (),
        batch_size: int = 64,
        skip_bad: bool = False,
        data_root: str | Path | None = None,
        alpha: float | None = None,
    ) -> Predictions:
        """Predict studies; labels are not needed, and any modality but the last may be absent.

        A study of a model whose images are planes (``slice: all``) is as many predictions as its file has planes.

        Args:
            studies: Path of a CSV or Parquet table with the columns of training or of a study.yaml, a DataFrame, a dict
                or several dicts (column or modality -> path, array or value).
            without: Modalities to treat as absent.
            batch_size: Studies at a time.
            skip_bad: Leave studies that cannot be read out and list them in ``bad``.
            data_root: Folder that paths may not leave; default the table's own folder.
            alpha: Also give sets of answers that miss the true one with at most this chance, see
                ``mailnet.trust.sets``; default, where the model has such sets, the first alpha it has.

        Raises:
            DataError: A study cannot be read, or has no modality.
            ConfigError: The model has no sets for ``alpha``.
        """
        self._check(without)
        alpha = self._alpha(alpha)
        requests = gather(studies, self.bundle.preprocessing, data_root, self.bundle.id_column)
        bad: list[MailnetError] = []
        kept: list[int] = []
        found: list[dict[str, np.ndarray]] = []
        absent: list[dict[str, np.ndarray]] = []
        foreign: list[dict[str, ForeignFound]] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(requests.ids), batch_size):
                rows = list(range(start, min(start + batch_size, len(requests.ids))))
                batch, good, errors = self._batch(requests, rows, without, pool)
                if errors and not skip_bad:
                    raise errors[0]
                bad += errors
                if good:
                    kept += good
                    values, warnings = self.predict_examined(batch)
                    found.append(values)
                    foreign.append(warnings)
                    absent.append({name: ~here.numpy() for name, here in batch.present.items()})
        raw = {
            name: np.concatenate([part[name] for part in found]) if found else np.zeros((0, len(spec.classes)))
            for name, spec in self.tasks.items()
        }
        return Predictions(
            ids=[requests.ids[row] for row in kept],
            tasks=self.tasks,
            probabilities=self._calibrated(raw),
            sets={} if alpha is None or self.reliability is None else self.reliability.members(raw, alpha),
            alpha=alpha,
            answered={} if self.reliability is None else self.reliability.answered(raw, self.tasks),
            absent={name: np.concatenate([part[name] for part in absent]) for name in self.modalities if absent},
            bad=bad,
            foreign=join_found(foreign),
        )

    def read(
        self, studies: Studies, ids: Sequence[str] = (), *, data_root: str | Path | None = None
    ) -> tuple[Batch, list[int]]:
        """Return studies as the network is given them, and their rows in the table, counted from 1.

        Args:
            studies: As of ``predict``.
            ids: Those of these identifiers alone, in this order; default all.
            data_root: As of ``predict``.

        Raises:
            DataError: A study cannot be read, has no modality, or is not there.
        """
        requests = gather(studies, self.bundle.preprocessing, data_root, self.bundle.id_column)
        places = {name: row for row, name in enumerate(requests.ids)}
        if missing := [name for name in ids if name not in places]:
            raise DataError("is not among the studies", study=missing[0], remedy="Name it as the table does")
        rows = [places[name] for name in ids] or list(range(len(requests.ids)))
        with ThreadPoolExecutor(THREADS) as pool:
            batch, _, errors = self._batch(requests, rows, (), pool)
        if errors:
            raise errors[0]
        return batch, [requests.rows[row] + 1 for row in rows]

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
        batches, place = _batches(data, rows, batch_size)
        parts = [self._forward(_without(batch, without)) for batch in iterate(StudyDataset(data), batches)]
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
        return draw_source(self.model, self.bundle.model_name)

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
        draw_source(self.model, self.bundle.model_name)  # raises where there is none
        batches, place = _batches(data, rows, batch_size)
        parts = [
            draw_batch(self.model, self.tasks, batch, draws, seed, self.device)
            for batch in iterate(StudyDataset(data), batches)
        ]
        found = {name: np.concatenate([part[name] for part in parts], 1)[:, place] for name in self.tasks}
        return found if self.reliability is None else calibrate_draws(self.reliability, found)

    def predict_batch(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return task -> (B, K) probabilities of assembled studies, as they are or changed on purpose.

        Args:
            batch: The studies, ``present`` on the CPU; images in [0, 1].

        Raises:
            ValueError: The batch does not fit the network.
        """
        return self._calibrated(self._forward(batch))

    def features(self, batch: Batch, layers: Chosen) -> dict[str, np.ndarray]:
        """Return image or volume -> (B, C), features of the network, see ``mailnet.bundle.features``; NaN where absent.

        Args:
            batch: As of ``predict_batch``.
            layers: Which of the network's ``feature_layers``.
        """
        with watching(self.model, self.modalities, batch, layers) as watch:
            self._forward(batch, watch)
        return watch.features()

    def early_layers(self, batch: Batch) -> dict[str, tuple[int, ...]]:
        """Return image or volume -> the layers by which foreign ones are told best, of those that the batch has."""
        with watching(self.model, self.modalities, batch) as watch:
            self._forward(batch, watch)
        return watch.early()

    def predict_examined(self, batch: Batch) -> tuple[dict[str, np.ndarray], dict[str, ForeignFound]]:
        """Return probabilities as the network gives them, and how foreign the studies look to it in the same pass.

        Args:
            batch: As of ``predict_batch``.

        Returns:
            Task -> (B, K), not calibrated; and modality -> what is found, empty where the model can't tell.
        """
        if self.foreign is None:
            return self._forward(batch), {}
        features: dict[str, np.ndarray] = {}
        if self.foreign.needs_features:
            with watching(self.model, self.modalities, batch, self.foreign.layers) as watch:
                values = self._forward(batch, watch)
            features = watch.features()
        else:
            values = self._forward(batch)
        inputs, present = ({name: x.numpy() for name, x in of.items()} for of in (batch.inputs, batch.present))
        return values, self.foreign.examine(inputs, present, features)

    def _calibrated(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return raw if self.reliability is None else self.reliability.calibrate(raw)

    def _alpha(self, alpha: float | None) -> float | None:
        if self.reliability is None or not self.reliability.alphas:
            if alpha is not None:
                remedy = f"Fit them with 'mailnet evaluate RUN --conformal {alpha:g}'"
                raise ConfigError("the model has no prediction sets", remedy=remedy)
            return None
        return self.reliability.alphas[0] if alpha is None else alpha

    @torch.inference_mode()
    def _forward(self, batch: Batch, watch: Watch | None = None) -> dict[str, np.ndarray]:
        if self.noise is None:
            return self._forward_together(batch)
        found = {name: np.zeros((len(batch), len(spec.classes)), np.float32) for name, spec in self.tasks.items()}
        for rows, alike in kinds(batch):
            if watch is not None:
                watch.expect(rows)
            average_draws(self.model)
            for name, values in self._forward_together(alike).items():
                found[name][rows.numpy()] = values
        return found

    def _forward_together(self, batch: Batch) -> dict[str, np.ndarray]:
        moved = batch.to(self.device)
        logits = self.model(moved.inputs, moved.present)
        return {name: probabilities(spec, logits[name].float()).cpu().numpy() for name, spec in self.tasks.items()}

    def _batch(
        self, requests: Requests, rows: list[int], without: Sequence[str], pool: ThreadPoolExecutor
    ) -> tuple[Batch, list[int], list[MailnetError]]:
        used = {name: section for name, section in self.bundle.preprocessing.items() if name not in without}
        errors: dict[int, MailnetError] = {}
        arrays: dict[str, list[np.ndarray | None]] = {}
        for name, section in used.items():
            if isinstance(section, PixelConfig):
                results = pool.map(partial(_tried, requests, name, section), rows)
                arrays[name] = [self._noted(errors, row, result) for row, result in zip(rows, results, strict=True)]
            else:
                arrays[name] = list(self._table(requests, rows, name, errors))
        for place, row in enumerate(rows):
            if row not in errors and all(several[place] is None for several in arrays.values()):
                remedy = "Give at least one of its modalities"
                errors[row] = DataError("has no modality at all", study=requests.ids[row], remedy=remedy)
        good = [place for place, row in enumerate(rows) if row not in errors]
        batch = self._assembled({name: [several[place] for place in good] for name, several in arrays.items()})
        return batch, [rows[place] for place in good], [errors[row] for row in sorted(errors)]

    @staticmethod
    def _noted(
        errors: dict[int, MailnetError], row: int, result: np.ndarray | MailnetError | None
    ) -> np.ndarray | None:
        if isinstance(result, MailnetError):
            errors.setdefault(row, result)
            return None
        return result

    def _table(
        self, requests: Requests, rows: list[int], name: str, errors: dict[int, MailnetError]
    ) -> Iterator[np.ndarray | None]:
        try:
            features, present = requests.table(rows, self.tables[name])
            yield from (row if has else None for row, has in zip(features, present, strict=True))
        except MailnetError:
            # One wrong cell refuses the whole frame; the other rows are still good.
            for row in rows:
                try:
                    features, present = requests.table([row], self.tables[name])
                    yield features[0] if present[0] else None
                except MailnetError as error:
                    errors.setdefault(row, error)
                    yield None

    def _assembled(self, arrays: Mapping[str, Sequence[np.ndarray | None]]) -> Batch:
        count = len(next(iter(arrays.values())))
        inputs, present = {}, {}
        for name, spec in self.modalities.items():
            several = arrays.get(name, [None] * count)
            present[name] = torch.tensor([array is not None for array in several], dtype=torch.bool)
            if present[name].any():
                zeros = np.zeros((spec.channels, *(spec.size or ())), np.float32)
                filled = [zeros if a is None else to_unit(a) if a.dtype.kind == "u" else a for a in several]
                inputs[name] = torch.from_numpy(np.stack(filled))
        return Batch(inputs, present)

    def _check(self, without: Sequence[str]) -> None:
        unknown = [name for name in without if name not in self.modalities]
        if unknown:
            raise DataError(f"the model has no modality '{unknown[0]}'", remedy=f"It has {', '.join(self.modalities)}")


def load(path: str | Path, device: str = "auto", *, raw: bool = False) -> Predictor:
    """Load the bundle of a run, or a bundle, as a ``Predictor``; with ``raw`` without its calibration.

    Raises:
        RunError: It is missing, damaged or written by a newer mailnet, or the device does not exist here.
    """
    return Predictor(read_bundle(path), device, raw=raw)


def _tried(requests: Requests, name: str, section: PixelConfig, row: int) -> np.ndarray | MailnetError | None:
    try:
        return requests.image(row, name, section)
    except MailnetError as error:
        return error


def _batches(data: StudyData, rows: np.ndarray, size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the rows of each batch, and the place of each row in the order of the batches."""
    # Rows with the same modalities travel together, since a modality that a whole batch lacks costs nothing.
    order = np.lexsort(np.stack([data.present[name][rows] for name in data.modalities]))
    return [rows[order[i : i + size]] for i in range(0, len(order), size)], np.argsort(order)


def _without(batch: Batch, without: Sequence[str]) -> Batch:
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name not in without}
    present = {name: here & (name not in without) for name, here in batch.present.items()}
    return Batch(inputs, present, batch.targets, batch.ids)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"the device '{name}' cannot be used ({reason})", remedy="Use --device cpu") from error
    return device
