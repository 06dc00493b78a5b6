"""What a model answers when a modality is damaged, or is another patient's."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch

from mailnet.bundle import Predictor
from mailnet.data.dataset import StudyDataset, iterate
from mailnet.data.study import StudyData
from mailnet.nn.batch import Batch
from mailnet.robustness.corruptions import corrupt

TOGETHER = 64
Advance: TypeAlias = Callable[[int], None]
Answers: TypeAlias = dict[str, np.ndarray]


def predict_damaged(
    predictor: Predictor,
    data: StudyData,
    modality: str,
    rows: np.ndarray,
    kinds: Sequence[str],
    severities: Sequence[int],
    seed: int,
    advance: Advance,
) -> dict[tuple[str, int], Answers]:
    """Return task -> (n, K) probabilities under each kind and severity.

    The damage depends on the studies, their order and the seed, not on the network nor on what else is asked, so that
    two networks meet the same images.

    Args:
        predictor: The model.
        data: The studies.
        modality: What is damaged.
        rows: (n,) row numbers of studies that have it.
        kinds: Names of ``CORRUPTIONS``.
        severities: 1 to 5.
        seed: Of the random numbers.
        advance: Called with the number of predictions made.
    """
    found: dict[tuple[str, int], list[Answers]] = {(kind, s): [] for kind in kinds for s in severities}
    chunks = [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]
    for number, batch in enumerate(iterate(StudyDataset(data), chunks)):
        inputs = {name: x.to(predictor.device) for name, x in batch.inputs.items()}
        for (kind, severity), parts in found.items():
            generator = seeded(seed, modality, kind, number)
            changed = inputs | {modality: corrupt(inputs[modality], kind, severity, generator)}
            parts.append(predictor.predict_batch(Batch(changed, batch.present)))
            advance(len(batch))
    return {key: joined(parts) for key, parts in found.items()}


def seeded(*of: object) -> torch.Generator:
    """Return a CPU generator whose seed follows from all that is given."""
    return torch.Generator().manual_seed(zlib.crc32("/".join(map(str, of)).encode()))


def swap_partners(groups: np.ndarray, seed: int) -> np.ndarray:
    """Return for each study another one, of another patient, each being given once.

    Args:
        groups: (n,) what is one patient.
        seed: Of the choice.

    Returns:
        (n,) positions, -1 where there is no other patient left: one that holds more than half of the studies.

    >>> partners = swap_partners(np.array(["a", "a", "b", "c"]), 0)
    >>> sorted(partners.tolist())
    [0, 1, 2, 3]
    """
    patients, member = np.unique(groups, return_inverse=True)
    member = member.reshape(-1)
    partners = np.full(len(groups), -1)
    if len(patients) < 2:
        return partners
    place = np.random.default_rng(seed).permutation(len(patients))
    order = np.argsort(place[member], kind="stable")
    # Blocks of one patient, moved on by the longest of them, never come to lie on themselves.
    partners[order] = np.roll(order, np.bincount(member).max())
    partners[member[partners] == member] = -1
    return partners


def predict_swapped(
    predictor: Predictor, data: StudyData, modality: str, rows: np.ndarray, partners: np.ndarray, advance: Advance
) -> Answers:
    """Return task -> (n, K) probabilities of studies whose modality is that of other rows.

    Args:
        predictor: The model.
        data: The studies.
        modality: What is swapped, images or a table.
        rows: (n,) row numbers.
        partners: (n,) row numbers that the modality comes from.
        advance: Called with the number of predictions made.
    """
    origins = np.repeat(rows[:, None], len(data.modalities), axis=1)
    origins[:, list(data.modalities).index(modality)] = partners
    chunks = [origins[start : start + TOGETHER] for start in range(0, len(origins), TOGETHER)]
    parts = []
    for batch in iterate(StudyDataset(data), chunks):
        parts.append(predictor.predict_batch(batch))
        advance(len(batch))
    return joined(parts)


def joined(parts: Sequence[Answers]) -> Answers:
    """Return the answers of several batches as one."""
    return {task: np.concatenate([part[task] for part in parts]) for task in parts[0]}
