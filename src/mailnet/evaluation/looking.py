"""What the images of training and validation look like, picture and network's features, a bounded number of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from mailnet.bundle import Predictor
from mailnet.bundle.foreign_images import Look
from mailnet.data.dataset import StudyDataset, iterate
from mailnet.data.study import StudyData
from mailnet.nn.batch import Batch

LIMIT = 2000  # images of a modality that are looked at, in training and in validation
TOGETHER = 64


def draw(data: StudyData, seed: int) -> dict[str, np.ndarray]:
    """Return image or volume -> the rows that are looked at; of several modalities the same where they have them."""
    order = np.random.default_rng(seed).permutation(len(data))
    images = [name for name in data.modalities if name not in data.tables]
    return {name: np.sort(order[data.present[name][order]][:LIMIT]) for name in images}


def find_layers(predictor: Predictor, data: StudyData, rows: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Return image or volume -> the layers whose features are looked at, found by a pass over a study that has it."""
    first = np.unique([own[0] for own in rows.values() if len(own)]).astype(np.int64)
    return predictor.early_layers(StudyDataset(data).batch(first)) if len(first) else {}


def work(data: StudyData, seed: int) -> int:
    """Return the number of studies that are looked at."""
    return len(_union(draw(data, seed)))


def look(
    predictor: Predictor,
    data: StudyData,
    rows: Mapping[str, np.ndarray],
    layers: Mapping[str, tuple[int, ...]],
    advance: Callable[[int], object] = int,
) -> dict[str, Look]:
    """Return image or volume -> what is seen of its rows, in their order."""
    every = _union(rows)
    parts: dict[str, list[tuple[np.ndarray, Look]]] = {name: [] for name in rows}
    for some, batch in batches(data, every):
        features = predictor.features(batch, layers)
        for name, own in rows.items():
            places = np.flatnonzero(np.isin(some, own))
            if len(places):
                given = features[name][places] if name in features else None
                parts[name].append((some[places], Look.at(batch.inputs[name].numpy()[places], given)))
        advance(len(some))
    return {name: _joined(several) for name, several in parts.items() if several}


def batches(data: StudyData, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield rows and the batch of them; those with the same modalities travel together, as in predictions."""
    order = rows[np.lexsort(np.stack([data.present[name][rows] for name in data.modalities]))]
    several = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
    yield from zip(several, iterate(StudyDataset(data), several), strict=True)


def _union(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([*rows.values(), np.zeros(0, dtype=np.int64)]))


def _joined(parts: list[tuple[np.ndarray, Look]]) -> Look:
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    looks = [own for _, own in parts]
    features = [own.features for own in looks if own.features is not None]
    return Look(
        np.concatenate([own.statistics for own in looks])[order],
        np.concatenate([own.picture for own in looks])[order],
        np.concatenate(features)[order] if len(features) == len(looks) else None,
    )
