"""What a model answers when a modality is damaged, or is another patient's; nothing is asked twice."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mailnet.bundle import Predictor
from mailnet.data.dataset import StudyDataset, iterate
from mailnet.data.progress import Advance
from mailnet.data.study import StudyData
from mailnet.nn.batch import Batch
from mailnet.robustness.corruptions import corrupt
from mailnet.robustness.kept import Kept

TOGETHER = 64
Answers: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True)
class Asked:
    """Where the answers of one model are kept until all is measured.

    Args:
        kept: What is done; None to keep nothing.
        model: By which the answers of two models are told apart.
        advance: Called with the number of predictions made.
    """

    kept: Kept | None
    model: str
    advance: Advance

    def once(self, name: str, count: int, make: Callable[[], Answers]) -> Answers:
        """Return task -> (n, K) probabilities, made unless they were before.

        Args:
            name: By which they are known again.
            count: Of the studies or predictions.
            make: Makes them.
        """
        if self.kept is None:
            found, before = make(), False
        else:
            tensors, before = self.kept.once(f"{self.model}-{name}", lambda: _tensors(make()))
            found = {task: tensor.numpy() for task, tensor in tensors.items()}
        self.advance(count, before=before)
        return found


def predict_damaged(
    predictor: Predictor,
    data: StudyData,
    modality: str,
    rows: np.ndarray,
    kinds: Sequence[str],
    severities: Sequence[int],
    seed: int,
    asked: Asked,
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
        asked: Where answers are kept, those of a kind of damage of some studies together.
    """
    found: dict[tuple[str, int], list[Answers]] = {(kind, s): [] for kind in kinds for s in severities}
    place = list(data.modalities).index(modality)
    chunks = [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]
    for number, batch in enumerate(iterate(StudyDataset(data), chunks)):
        for kind in kinds:
            make = partial(_damaged, predictor, batch, modality, kind, severities, (seed, modality, kind, number))
            answers = asked.once(f"damaged-{place}-{kind}-{number:05d}", len(batch) * len(severities), make)
            for severity in severities:
                found[kind, severity].append({task: answers[f"{severity}.{task}"] for task in predictor.tasks})
    return {key: joined(parts) for key, parts in found.items()}


def _damaged(
    predictor: Predictor, batch: Batch, modality: str, kind: str, severities: Sequence[int], seed: tuple[object, ...]
) -> Answers:
    """``SEVERITY.TASK`` -> (B, K) probabilities."""
    found: Answers = {}
    inputs = {name: x.to(predictor.device) for name, x in batch.inputs.items()}
    for severity in severities:
        changed = inputs | {modality: corrupt(inputs[modality], kind, severity, seeded(*seed))}
        answers = predictor.predict_batch(Batch(changed, batch.present))
        found |= {f"{severity}.{task}": values for task, values in answers.items()}
    return found


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
    predictor: Predictor, data: StudyData, modality: str, rows: np.ndarray, partners: np.ndarray
) -> Answers:
    """Return task -> (n, K) probabilities of studies whose modality is that of other rows.

    Args:
        predictor: The model.
        data: The studies.
        modality: What is swapped, images or a table.
        rows: (n,) row numbers.
        partners: (n,) row numbers that the modality comes from.
    """
    origins = np.repeat(rows[:, None], len(data.modalities), axis=1)
    origins[:, list(data.modalities).index(modality)] = partners
    chunks = [origins[start : start + TOGETHER] for start in range(0, len(origins), TOGETHER)]
    return joined([predictor.predict_batch(batch) for batch in iterate(StudyDataset(data), chunks)])


def _tensors(answers: Answers) -> dict[str, Tensor]:
    return {task: torch.from_numpy(np.ascontiguousarray(values)) for task, values in answers.items()}


def joined(parts: Sequence[Answers]) -> Answers:
    """Return the answers of several batches as one."""
    return {task: np.concatenate([part[task] for part in parts]) for task in parts[0]}
