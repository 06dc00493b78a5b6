"""One image of each modality under every kind of damage, for the report: uint8 arrays beside the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mailnet.data.config import ImageConfig
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData
from mailnet.files import replacing
from mailnet.robustness.corruptions import corrupt
from mailnet.robustness.damage.damaged import seeded

FILE = "corruptions.npz"
SEVERITY = 3
SIDE = 128


def write_pictures(
    folder: Path, data: StudyData, modalities: Sequence[str], kinds: Sequence[str], seed: int
) -> dict[str, Any]:
    """Write ``corruptions.npz`` with the first tested image of each modality, as it is and damaged.

    Args:
        folder: Where to write.
        data: The studies.
        modalities: Names of images or volumes.
        kinds: Names of ``CORRUPTIONS``.
        seed: Of the damage.

    Returns:
        ``file``, ``severity``, ``kinds`` and ``modalities``, the array of the k-th of which is ``images_k``:
        (1 + kinds, H, W) or (1 + kinds, H, W, 3), first the clean one; of volumes the middle axial plane.
    """
    arrays: dict[str, Any] = {}
    shown: list[str] = []
    for name in modalities:
        having = np.flatnonzero(data.present[name])
        if len(having):
            x = StudyDataset(data).batch(having[:1]).inputs[name]
            several = [x, *(corrupt(x, kind, SEVERITY, seeded(seed, name, kind, "picture")) for kind in kinds)]
            arrays[f"images_{len(shown)}"] = np.stack([plane_of(each, data, name) for each in several])
            shown.append(name)
    with replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return {"file": FILE, "severity": SEVERITY, "kinds": list(kinds), "modalities": shown}


def plane_of(x: Tensor, data: StudyData, name: str) -> np.ndarray:
    """Return what is shown of one study, (H, W) or (H, W, 3) uint8 of at most 128 pixels a side."""
    section = data.config.modalities[name]
    if isinstance(section, ImageConfig):  # of neighbouring planes the wanted one lies in the middle
        x = x[:, section.neighbours * section.channels :][:, : section.channels]
    plane = x[:, :, x.shape[2] // 2] if x.ndim == 5 else x
    plane = plane if plane.shape[1] == 3 else plane[:, :1]
    longest = max(plane.shape[2:])
    if longest > SIDE:
        height, width = (max(round(side * SIDE / longest), 1) for side in plane.shape[2:])
        plane = functional.adaptive_avg_pool2d(plane, (height, width))
    found = (plane[0] * 255).round().to(torch.uint8).movedim(0, -1).numpy()
    return found if found.shape[-1] == 3 else found[..., 0]
