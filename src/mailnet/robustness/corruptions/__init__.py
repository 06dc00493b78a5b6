"""Natural damage to images and volumes, on whole batches, in five strengths."""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.robustness.corruptions.table import CORRUPTIONS, SEVERITIES, Corruption

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corrupt"]

CACHED = 2**20  # numbers of a tensor that a CPU's cache holds beside intermediate results


def corrupt(x: Tensor, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """Return damaged images or volumes.

    A generator seeded alike draws alike at every severity: the same noise grows, the same field deepens, the same box
    widens.

    Args:
        x: (B, C, H, W) or (B, C, D, H, W) in [0, 1]; it is not changed.
        kind: A name of ``CORRUPTIONS``.
        severity: 1, slight, to 5.
        generator: Where random numbers come from, on any device; a CPU's gives the same numbers everywhere.

    Returns:
        As ``x``, in [0, 1].

    Raises:
        ValueError: An unknown kind or severity, or what is no image.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"corruption '{kind}' is not one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be 1 to 5, got {severity}")
    if x.ndim not in (4, 5):
        raise ValueError(f"corruptions are of images (B, C, H, W) or volumes (B, C, D, H, W), got {list(x.shape)}")
    if not len(x):
        return x
    found = CORRUPTIONS[kind]
    value = found.values[severity - 1]
    together = max(CACHED // x[0].numel(), 1) if x.device.type == "cpu" else len(x)
    return torch.cat([found.change(part, value, generator).clamp(0, 1) for part in torch.split(x, together)])
