"""What goes wrong in CT: rings of a bad detector, streaks of metal, a wrong window. Within planes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mailnet.robustness.corruptions.drawn import Generator, normal, signs, uniform

RAYS = 48
METAL = 0.02
PULL = 0.25
NARROWER, WIDER = 1.0, -0.5


def ring(x: Tensor, strength: float, generator: Generator) -> Tensor:
    """Add rings around the middle, one pixel wide, their brightness normal with a deviation of ``strength``."""
    down, across = _grid(x)
    height, width = x.shape[-2:]
    radius = torch.hypot(down * height / 2, across * width / 2).round().long()
    rings = normal((len(x), int(radius.max()) + 1), x, generator)
    return x + strength * _over(x, rings[:, radius])


def metal(x: Tensor, strength: float, generator: Generator) -> Tensor:
    """Put a small piece of metal in, with bright and dark rays from it that fade with the distance.

    The piece grows with ``strength``, which is the deviation of the rays near it. A sketch of what beam hardening and
    lost photons do, not a simulation of the scan.
    """
    down, across = _grid(x)
    place = uniform((len(x), 2), x, generator) - 0.5
    rays = normal((len(x), RAYS), x, generator)
    y, z = down - place[:, 0, None, None], across - place[:, 1, None, None]
    distance = torch.hypot(y, z)
    turn = (torch.atan2(y, z) / (2 * math.pi)).remainder(1) * RAYS
    first = turn.floor().long() % RAYS
    flat = [rays.gather(1, index.flatten(1)).view_as(turn) for index in (first, (first + 1) % RAYS)]
    streak = torch.lerp(flat[0], flat[1], turn - turn.floor()) * PULL / (PULL + distance)
    piece = distance <= METAL + 0.2 * strength
    return torch.where(_over(x, piece), 1.0, x + strength * _over(x, streak))


def window(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Show values through a window of another level and width, whose ends clip.

    The level is off by a quarter of ``share``, up or down; the window is narrower, its gain up to 1 + ``share``, or
    wider, down to 1 - ``share`` / 2.
    """
    level = signs(x, generator) * 0.25 * share
    gain = 1 + share * torch.where(signs(x, generator) > 0, NARROWER, WIDER)
    return (x - 0.5) * gain + 0.5 + level


def _grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """(H, 1) and (1, W) coordinates in (-1, 1)."""
    height, width = x.shape[-2:]
    down = (torch.arange(height, device=x.device, dtype=x.dtype) * 2 + 1) / height - 1
    across = (torch.arange(width, device=x.device, dtype=x.dtype) * 2 + 1) / width - 1
    return down[:, None], across[None, :]


def _over(x: Tensor, planes: Tensor) -> Tensor:
    """Shape (B, H, W) to spread over (B, C, ..., H, W)."""
    return planes.view(len(x), *[1] * (x.ndim - 3), *x.shape[-2:])
