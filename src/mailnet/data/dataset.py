"""Batches for torch from a ``StudyData``, and the order in which an epoch takes its rows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mailnet.data.cache import Images, ShardedImages
from mailnet.data.config import Split
from mailnet.data.preprocess import to_unit
from mailnet.data.study import StudyData
from mailnet.nn.batch import Batch

PREFETCH = 2


class StudyDataset:
    """Assembles batches by row number.

    Args:
        data: The study.
    """

    def __init__(self, data: StudyData) -> None:
        self.data = data
        self._ids = data.frame["id"].array
        self._companion_task = _owners(data)

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, rows: np.ndarray) -> Batch:
        """Return the studies of ``rows``.

        Args:
            rows: (B,) row numbers; or (B, M) companions, for every modality in the order of ``data.modalities`` the row
                that it comes from, -1 for none. A task comes from the row of the modality whose rows carry its labels.

        Returns:
            Images as float32 in [0, 1]. A modality that no study of the batch has is left out of ``inputs``; rows
            where it is absent are zeros.
        """
        rows = np.asarray(rows, dtype=np.int64)
        names = list(self.data.modalities)
        by_modality = rows.T if rows.ndim == 2 else np.broadcast_to(rows, (len(names), len(rows)))
        if len(by_modality) != len(names):
            raise ValueError(f"rows must be (B,) or (B, {len(names)}), got {list(rows.shape)}")
        inputs: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        for name, own in zip(names, by_modality, strict=True):
            has = (own >= 0) & self.data.present[name][own]
            present[name] = torch.from_numpy(has)
            if has.any():
                inputs[name] = _gather(self.data.arrays[name], own, has)
        targets = {}
        for task, labels in self.data.labels.items():
            own = self.label_rows(task, rows)
            unknown = -1 if labels.dtype == np.int64 else np.nan
            chosen = labels[own]
            chosen[own < 0] = unknown
            targets[task] = torch.from_numpy(chosen)
        return Batch(inputs, present, targets, self._names(rows))

    def label_rows(self, task: str, rows: np.ndarray) -> np.ndarray:
        """Return the row (B,) that the label of each study of ``rows`` comes from, -1 for none; see ``batch``."""
        return rows if rows.ndim == 1 else rows[:, self._companion_task[task]]

    def _names(self, rows: np.ndarray) -> list[str]:
        if rows.ndim == 1:
            return list(self._ids[rows].tolist())
        names = iter(self._ids[rows[rows >= 0]].tolist())
        return [" + ".join(next(names) for row in several if row >= 0) for several in rows.tolist()]


def epoch_rows(
    data: StudyData,
    split: Split,
    *,
    regime: Literal["paired", "unpaired"] | None = None,
    seed: int,
    epoch: int,
    balance: Literal["none", "weights", "sampler"] = "none",
) -> np.ndarray:
    """Return the rows of one training epoch in order, a function of data, seed and epoch alone.

    Args:
        data: The study.
        split: Which rows.
        regime: ``paired``: every row once, shuffled. ``unpaired``: companions, as many as the largest modality has;
            rows of the others come again, reshuffled. Default: the study's own.
        seed: Of the run.
        epoch: Number of the epoch, from 0.
        balance: ``sampler`` draws as often from each class (each combination of the labels of several tasks), leaving
            rows without any label out; other values change nothing.

    Returns:
        (n,) int64 row numbers, or (n, M) in the unpaired regime, -1 where a modality has no row in the split.
    """
    random = np.random.default_rng([seed, epoch])
    rows = data.rows(split)
    even = balance == "sampler"
    if (regime or data.config.regime) == "paired":
        return _draw(rows, len(rows), data, even, random)
    own = [rows[data.present[name][rows]] for name in data.modalities]
    length = max(len(several) for several in own)
    return np.stack([_draw(several, length, data, even, random) for several in own], axis=1)


def iterate(dataset: StudyDataset, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
    """Yield the batches of ``batches``, assembled ahead in a background thread.

    Args:
        dataset: The study.
        batches: Rows of each batch, as ``StudyDataset.batch`` takes them.
    """
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(PREFETCH)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for rows in batches:
                if stop.is_set():
                    return
                put(dataset.batch(rows))
            put(None)
        # The consumer raises it, in its own thread.
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _gather(array: Images, rows: np.ndarray, has: np.ndarray) -> Tensor:
    # numpy, since torch's own threads would wait for those of the network.
    if isinstance(array, ShardedImages):
        return torch.from_numpy(array.unit(np.where(has, rows, -1)))
    values = to_unit(array[rows]) if array.dtype.kind == "u" else array[rows]
    values[~has] = 0
    return torch.from_numpy(values)


def _owners(data: StudyData) -> dict[str, int]:
    owners = {}
    for task, labels in data.labels.items():
        known = _known(labels)
        count = [int((known & data.present[name]).sum()) for name in data.modalities]
        owners[task] = int(np.argmax(count))
    return owners


def _known(labels: np.ndarray) -> np.ndarray:
    known: np.ndarray = labels >= 0 if labels.ndim == 1 else ~np.isnan(labels).all(axis=1)
    return known


def _draw(rows: np.ndarray, length: int, data: StudyData, even: bool, random: np.random.Generator) -> np.ndarray:
    if len(rows) == 0:
        return np.full(length, -1)
    if not even:
        return _cycled(rows, length, random)
    labels = np.column_stack([np.nan_to_num(values[rows], nan=-1) for values in data.labels.values()])
    labelled = np.stack([_known(values[rows]) for values in data.labels.values()]).any(axis=0)
    if not labelled.any():
        return _cycled(rows, length, random)
    _, stratum = np.unique(labels[labelled], axis=0, return_inverse=True)
    strata = [rows[labelled][stratum.ravel() == k] for k in range(int(stratum.max()) + 1)]
    # What does not divide evenly goes to strata in random order, so that over epochs all are even.
    share = np.full(len(strata), length // len(strata))
    share[random.permutation(len(strata))[: length % len(strata)]] += 1
    return random.permutation(
        np.concatenate([_cycled(own, count, random) for own, count in zip(strata, share, strict=True)])
    )


def _cycled(rows: np.ndarray, length: int, random: np.random.Generator) -> np.ndarray:
    rounds = [random.permutation(rows) for _ in range(-(-length // len(rows)))]
    return np.concatenate(rounds)[:length] if rounds else rows[:0]
