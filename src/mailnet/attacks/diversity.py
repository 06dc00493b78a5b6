"""Inputs shown to the network in another size and place at every step, so that an attack does not cling to one network.

Source: Xie et al., "Improving transferability of adversarial examples with input diversity", CVPR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Diversity:
    """Shrinks images and volumes and puts them somewhere in a black field of their old size; leaves tables.

    The publication enlarges and pads, which needs a network that takes any size; here the size stays. Every study and
    modality has its own draw, and the axes of a modality shrink alike.

    Args:
        chance: Share of the studies that are changed, in [0, 1].
        smallest: Least size, as a share of the whole, in (0, 1].
        generator: On the CPU, so that every device draws the same numbers; None means the global one.

    Raises:
        ValueError: A share out of its range.
    """

    chance: float = 0.5
    smallest: float = 0.9
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1:
            raise ValueError(f"diversity must be a chance in [0, 1], got {self.chance}")
        if not 0 < self.smallest <= 1:
            raise ValueError(f"smallest must be in (0, 1], got {self.smallest}")

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return inputs (B, ...) of the same shapes."""
        return {name: x if x.ndim < 3 else self._moved(x) for name, x in inputs.items()}

    def _moved(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        changed = torch.rand(count, generator=self.generator) < self.chance
        scale = self.smallest + (1 - self.smallest) * torch.rand(count, generator=self.generator)
        scale = torch.where(changed, scale, 1.0)
        for axis in range(2, x.ndim):
            size = x.shape[axis]
            small = (scale * size).round().clamp(min=1).long()
            start = (torch.rand(count, generator=self.generator) * (size - small + 1)).long()
            place = torch.arange(size) - start[:, None]  # (B, size), within the shrunk image
            source = (place * size // small[:, None]).clamp(0, size - 1)  # the nearest pixel
            inside = (place >= 0) & (place < small[:, None])
            shape = [count, *(size if other == axis else 1 for other in range(1, x.ndim))]
            source, inside = source.view(shape).to(x.device), inside.view(shape).to(x.device)
            x = x.gather(axis, source.expand(x.shape)) * inside
        return x
