"""What travels from the data to a network."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Batch:
    """B studies ready for a network.

    Args:
        inputs: Modality -> (B, C, H, W), (B, C, D, H, W) in [0, 1], or (B, F) for a table. Rows of an absent modality
            are zeros; a modality that no study of the batch has may be left out.
        present: Modality -> (B,) bool, True where the study has the modality.
        targets: Task -> (B,) int64 label with -1 where unknown, or (B, K) float for multilabel with NaN where unknown.
        ids: Study identifiers, B of them.
    """

    inputs: dict[str, Tensor]
    present: dict[str, Tensor]
    targets: dict[str, Tensor] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return int(next(iter(self.present.values())).shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch with every tensor on ``device``."""

        def move(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()}

        return Batch(move(self.inputs), move(self.present), move(self.targets), self.ids)
