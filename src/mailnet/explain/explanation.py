"""What an explanation is: how much each pixel and each column of each modality speaks for a class."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Explanation:
    """Why a network answered so, for a batch of studies and one task.

    Args:
        task: The task.
        target: (B,) int64, the class explained of each study.
        method: Name of the method.
        maps: Image or volume -> (B, H, W) or (B, D, H, W) at input resolution, channels summed: above zero where it
            speaks for the class, below zero where against it, if the method tells the two apart. In the same unit for
            all modalities of a study, so that they may share one scale. Zero where a study lacks the modality.
        columns: Table -> (B, F), the same of each of its features.
        signed: Whether values below zero mean something.
    """

    task: str
    target: Tensor
    method: str
    maps: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    signed: bool = False
