"""From files to probabilities, by the very preparation that training used."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mailnet.bundle.draws import AVERAGED, calibrate_draws
from mailnet.bundle.foreign import ForeignFound, join_found
from mailnet.bundle.model import LoadedModel
from mailnet.bundle.predictions import Predictions
from mailnet.bundle.reading import Read, Reader
from mailnet.bundle.requests import Studies, gather
from mailnet.bundle.store import read_bundle
from mailnet.errors import ConfigError, DataError, MailnetError
from mailnet.nn.batch import Batch
from mailnet.trust.uncertainty import Uncertainty, measure_uncertainty

DRAWS = AVERAGED
THREADS = 4


class Predictor(LoadedModel):
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

    def predict(
        self,
        studies: Studies,
        *,
        without: Sequence[str] = (),
        batch_size: int = 64,
        skip_bad: bool = False,
        data_root: str | Path | None = None,
        alpha: float | None = None,
        draws: int | None = None,
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
            draws: Also measure how unsure the model is, by so many answers to each study, two or more; an ensemble has
                as many as members. See ``draw``.

        Raises:
            DataError: A study cannot be read, or has no modality.
            ConfigError: The model has no sets for ``alpha``, or nothing to draw from.
            ValueError: Fewer than two draws.
        """
        self._check(without)
        alpha = self._alpha(alpha)
        if draws is not None:
            if draws < 2:
                raise ValueError(f"draws must be at least 2, got {draws}")
            _ = self.draw_source  # refused before anything takes long
        requests = gather(studies, self.bundle.preprocessing, data_root, self.bundle.id_column)
        parts: list[_Part] = []
        bad: list[MailnetError] = []
        kept: list[int] = []
        with ThreadPoolExecutor(THREADS) as pool:
            reader = self._reader(pool)
            for start in range(0, len(requests.ids), batch_size):
                rows = range(start, min(start + batch_size, len(requests.ids)))
                read = reader.read(requests, rows, without)
                if read.errors and not skip_bad:
                    raise read.errors[0]
                bad += read.errors
                if read.kept:
                    kept += read.kept
                    parts.append(self._part(read, draws))
        raw = {
            name: np.concatenate([part.raw[name] for part in parts]) if parts else np.zeros((0, len(spec.classes)))
            for name, spec in self.tasks.items()
        }
        return Predictions(
            ids=[requests.ids[row] for row in kept],
            tasks=self.tasks,
            probabilities=self._calibrated(raw),
            sets={} if alpha is None or self.reliability is None else self.reliability.members(raw, alpha),
            alpha=alpha,
            answered={} if self.reliability is None else self.reliability.answered(raw, self.tasks),
            absent={name: np.concatenate([part.absent[name] for part in parts]) for name in self.modalities if parts},
            bad=bad,
            foreign=join_found([part.foreign for part in parts]),
            odd=[words for part in parts for words in part.odd],
            uncertainty={} if draws is None or not parts else self._uncertainty(parts),
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
            read = self._reader(pool).read(requests, rows)
        if read.errors:
            raise read.errors[0]
        return read.batch, [requests.rows[row] + 1 for row in rows]

    def _alpha(self, alpha: float | None) -> float | None:
        if self.reliability is None or not self.reliability.alphas:
            if alpha is not None:
                remedy = f"Fit them with 'mailnet evaluate RUN --conformal {alpha:g}'"
                raise ConfigError("the model has no prediction sets", remedy=remedy)
            return None
        return self.reliability.alphas[0] if alpha is None else alpha

    def _reader(self, pool: ThreadPoolExecutor) -> Reader:
        return Reader(self.modalities, self.bundle.preprocessing, self.tables, pool)

    def _part(self, read: Read, draws: int | None) -> _Part:
        values, foreign = self.predict_examined(read.batch, read.odd)
        ranged = set() if self.foreign is None else set(self.foreign.tables)
        odd: list[list[str]] = [[] for _ in read.kept]
        for name, several in read.odd.items():
            for words, one in zip(odd, several, strict=True):
                words += [f"{name}: {text}" for text in one.words(ranged=name in ranged)]
        absent = {name: ~here.numpy() for name, here in read.batch.present.items()}
        drawn = {} if draws is None else self.passes.draw(read.batch, draws, 0)
        return _Part(values, absent, foreign, odd, drawn)

    def _uncertainty(self, parts: Sequence[_Part]) -> dict[str, Uncertainty]:
        drawn = {name: np.concatenate([part.drawn[name] for part in parts], 1) for name in self.tasks}
        drawn = drawn if self.reliability is None else calibrate_draws(self.reliability, drawn)
        return {name: measure_uncertainty(drawn[name], spec) for name, spec in self.tasks.items()}


@dataclass(frozen=True)
class _Part:
    """Of n studies that were predicted together: what the network said, what they lack, and what is odd about them."""

    raw: dict[str, np.ndarray]
    absent: dict[str, np.ndarray]
    foreign: dict[str, ForeignFound]
    odd: list[list[str]]
    drawn: dict[str, np.ndarray]


def load(path: str | Path, device: str = "auto", *, raw: bool = False) -> Predictor:
    """Load the bundle of a run, or a bundle, as a ``Predictor``; with ``raw`` without its calibration.

    Raises:
        RunError: It is missing, damaged or written by a newer mailnet, or the device does not exist here.
    """
    return Predictor(read_bundle(path), device, raw=raw)
