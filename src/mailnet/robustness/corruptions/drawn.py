"""Random numbers of corruptions. A generator seeded alike draws alike at every severity, which then only scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Generator = torch.Generator


def normal(shape: Sequence[int], like: Tensor, generator: Generator) -> Tensor:
    """Return standard normal numbers, drawn where the generator is and moved to ``like``."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device).to(like)


def uniform(shape: Sequence[int], like: Tensor, generator: Generator) -> Tensor:
    """Return uniform numbers of [0, 1)."""
    return torch.rand(tuple(shape), generator=generator, device=generator.device).to(like)


def per_image(x: Tensor, values: Tensor) -> Tensor:
    """Shape (B,) values so that they spread over (B, C, ...)."""
    return values.view(-1, *[1] * (x.ndim - 1))


def signs(x: Tensor, generator: Generator) -> Tensor:
    """Return -1 or 1 for each image, shaped to spread over ``x``."""
    return per_image(x, torch.where(uniform((len(x),), x, generator) < 0.5, -1.0, 1.0))
