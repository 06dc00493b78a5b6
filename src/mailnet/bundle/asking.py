"""Studies are read, a model is asked, and its answers become predictions, whatever the model runs on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mailnet.bundle.facts import BundleFacts
from mailnet.bundle.foreign import ForeignFound, join_found
from mailnet.bundle.predictions import Predictions
from mailnet.bundle.reading import Read, Reader
from mailnet.bundle.requests import Requests, Studies, gather
from mailnet.data.memory import Prepare
from mailnet.errors import ConfigError, DataError, MailnetError
from mailnet.trust.uncertainty import measure_uncertainty

THREADS = 4
BATCH, TABLE_BATCH = 64, 1024  # studies at a time, with images and of tables alone, 3 times as fast as by 64


@dataclass(frozen=True)
class Answers:
    """What a model says of n studies that it is given together.

    Args:
        raw: Task -> (n, K) probabilities, not calibrated.
        foreign: Modality -> whether it is like those of training; empty where the model can't tell.
        drawn: Task -> (S, n, K), several calibrated answers to each study, where they were asked for.
    """

    raw: dict[str, np.ndarray]
    foreign: dict[str, ForeignFound]
    drawn: dict[str, np.ndarray]


class StudyPredictor(ABC):
    """Predicts studies as they come from outside: files, tables, arrays.

    Args:
        facts: Of the bundle.
        raw: Leave calibration, prediction sets and warnings of foreign studies out.
    """

    def __init__(self, facts: BundleFacts, *, raw: bool = False) -> None:
        self.facts = facts
        self.reliability = None if raw else facts.reliability
        self.foreign = None if raw else facts.foreign
        self.modalities = facts.modalities
        self.tasks = facts.tasks
        self.tables = facts.tables

    @abstractmethod
    def _answer(self, read: Read, draws: int | None) -> Answers:
        """Return what the model says of studies, with so many draws if any are asked for."""

    @abstractmethod
    def _check_draws(self) -> None:
        """Raise ConfigError where the model has nothing to draw several answers from."""

    def predict(
        self,
        studies: Studies,
        *,
        without: Sequence[str] = (),
        batch_size: int | None = None,
        skip_bad: bool = False,
        data_root: str | Path | None = None,
        alpha: float | None = None,
        draws: int | None = None,
        prepare: Prepare | None = None,
    ) -> Predictions:
        """Predict studies; labels are not needed, and any modality but the last may be absent.

        A study of a model whose images are planes (``slice: all``) is as many predictions as its file has planes.

        Args:
            studies: Path of a CSV or Parquet table with the columns of training or of a study.yaml, a DataFrame, a dict
                or several dicts (column or modality -> path, array, tensor or value), or a data set of dicts, as of
                MONAI.
            without: Modalities to treat as absent.
            batch_size: Studies at a time; default 64, and 1,024 of tables alone.
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
            self._check_draws()
        if batch_size is None:
            tables_alone = all(spec.kind == "tabular" for spec in self.modalities.values())
            batch_size = TABLE_BATCH if tables_alone else BATCH
        requests = self._gathered(studies, data_root, prepare)
        parts: list[tuple[Read, Answers]] = []
        bad: list[MailnetError] = []
        with ThreadPoolExecutor(THREADS) as pool:
            reader = self._reader(pool)
            for start in range(0, len(requests.ids), batch_size):
                rows = range(start, min(start + batch_size, len(requests.ids)))
                read = reader.read(requests, rows, without)
                if read.errors and not skip_bad:
                    raise read.errors[0]
                bad += read.errors
                if read.kept:
                    parts.append((read, self._answer(read, draws)))
        raw = {
            name: np.concatenate([said.raw[name] for _, said in parts]) if parts else np.zeros((0, len(spec.classes)))
            for name, spec in self.tasks.items()
        }
        present = {name: np.concatenate([read.present[name] for read, _ in parts]) for name in self.modalities if parts}
        drawn = {} if draws is None or not parts else {
            name: np.concatenate([said.drawn[name] for _, said in parts], 1) for name in self.tasks
        }  # fmt: skip
        return Predictions(
            ids=[requests.ids[row] for read, _ in parts for row in read.kept],
            tasks=self.tasks,
            probabilities=self._calibrated(raw),
            sets={} if alpha is None or self.reliability is None else self.reliability.members(raw, alpha),
            alpha=alpha,
            answered={} if self.reliability is None else self.reliability.answered(raw, self.tasks),
            absent={name: ~here for name, here in present.items()},
            bad=bad,
            foreign=join_found([said.foreign for _, said in parts]),
            odd=[words for read, _ in parts for words in self._odd(read)],
            uncertainty={name: measure_uncertainty(values, self.tasks[name]) for name, values in drawn.items()},
        )

    def _gathered(self, studies: Studies, data_root: str | Path | None, prepare: Prepare | None = None) -> Requests:
        return gather(studies, self.facts.preprocessing, data_root, self.facts.id_column, prepare)

    def _reader(self, pool: ThreadPoolExecutor) -> Reader:
        return Reader(self.modalities, self.facts.preprocessing, self.tables, pool)

    def _odd(self, read: Read) -> list[list[str]]:
        ranged = set() if self.foreign is None else set(self.foreign.tables)
        odd = [[*words] for words in read.owners] or [[] for _ in read.kept]
        for name, several in read.odd.items():
            for words, one in zip(odd, several, strict=True):
                words += [f"{name}: {text}" for text in one.words(ranged=name in ranged)]
        return odd

    def _alpha(self, alpha: float | None) -> float | None:
        if self.reliability is None or not self.reliability.alphas:
            if alpha is not None:
                remedy = f"Fit them with 'mailnet evaluate RUN --conformal {alpha:g}'"
                raise ConfigError("the model has no prediction sets", remedy=remedy)
            return None
        return self.reliability.alphas[0] if alpha is None else alpha

    def _calibrated(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return raw if self.reliability is None else self.reliability.calibrate(raw)

    def _check(self, without: Sequence[str]) -> None:
        unknown = [name for name in without if name not in self.modalities]
        if unknown:
            raise DataError(f"the model has no modality '{unknown[0]}'", remedy=f"It has {', '.join(self.modalities)}")
