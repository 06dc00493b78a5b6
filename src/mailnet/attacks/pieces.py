"""Which piece of a modality a random search changes at a time, and what it may put there, in each norm.

A piece of an image is a square, of a volume a cube, of a table some columns, which have no neighbours. In ``linf`` the
values of a piece go to the ends of their range. In ``l2`` and ``l1`` the change that two pieces hold, and what the ball
leaves unspent, moves into one of them: an image's takes the form of two bumps of opposite sign beside one another.

Sources: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV
2020; for ``l1`` Croce, Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from mailnet.attacks.threat import ORDERS, Norm

TILES = 5  # bumps along the shortest axis that an attack starts from
TINY = 1e-12
SAME = 1e-4  # radii: values nearer than that are told apart by rounding only


@dataclass(frozen=True)
class Held:
    """One modality of some studies, its values in rows.

    Args:
        shape: (C, H, W), (C, D, H, W), or (F,) of a table.
        clean: (n, P).
        radius: (n,).
        low: (n, P), the lowest values.
        high: (n, P).
        free: (n, P) bool, what may change; a table's columns are the same of all studies that have it.
        norm: The ball's norm.
    """

    shape: tuple[int, ...]
    clean: Tensor
    radius: Tensor
    low: Tensor
    high: Tensor
    free: Tensor
    norm: Norm

    @property
    def axes(self) -> tuple[int, ...]:
        """Sizes of an image's or volume's axes; none of a table."""
        return self.shape[1:]

    @property
    def channels(self) -> int:
        """Values of a place, which change together."""
        return self.shape[0] if self.axes else 1

    def sides(self, share: float) -> tuple[int, ...]:
        """Return the sides of a piece that covers a share of an image or volume; of a table, how many columns."""
        if not self.axes:
            free = self._columns()
            return (min(max(round(share * free), 1 if self.norm == "linf" else 2), free),)
        side = max(round((share * math.prod(self.axes)) ** (1 / len(self.axes))), 1)
        if self.norm != "linf":  # odd, so that a bump has a middle
            side = max(side, 3) // 2 * 2 + 1
        return tuple(min(side, size) for size in self.axes)

    def pieces(self, share: float) -> float:
        """Return how many pieces that cover a share each make up the whole; 0 where nothing may change."""
        if not self.axes:
            return self._columns() / max(self.sides(share)[0], 1)
        return math.prod(self.axes) / math.prod(self.sides(share))

    def rows(self, rows: Tensor) -> Held:
        """Return some of the studies."""
        parts = {name: getattr(self, name)[rows] for name in ("clean", "radius", "low", "high", "free")}
        return replace(self, **parts)

    def _columns(self) -> int:
        return int(self.free.any(0).sum())


def start(held: Held, generator: torch.Generator | None) -> Tensor:
    """Return the rows (n, P) to start from: in ``linf`` stripes along the last axis, else a grid of bumps.

    Args:
        held: The modality.
        generator: On the CPU.
    """
    n = len(held.clean)
    ends = held.radius[:, None]
    if not held.axes:
        step = _direction(tuple(held.clean.shape), held.norm, generator).to(held.clean) * held.free
        return held.clean + step / _length(step, held.norm) * ends
    if held.norm == "linf":
        stripes = _signs((n, held.channels, *[1] * (len(held.axes) - 1), held.axes[-1]), generator).to(held.clean)
        return held.clean + stripes.expand(n, *held.shape).reshape(n, -1) * ends
    side = max(1, min(held.axes) // TILES)
    counts = [size // side for size in held.axes]
    step = _signs((n, held.channels, *counts), generator).to(held.clean)
    for axis in range(len(counts)):
        step = step.repeat_interleave(side, axis + 2)
    step = step * bumps((side,) * len(counts), held.norm)[0].repeat(*counts).to(step)
    borders = []  # what is left over, from the last axis to the first
    for size, tiled in zip(reversed(held.axes), reversed(step.shape), strict=False):
        borders += [(size - tiled) // 2, size - tiled - (size - tiled) // 2]
    flat = functional.pad(step, borders).flatten(1)
    return held.clean + flat / _length(flat, held.norm) * ends


def change(held: Held, x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Return rows (n, P) with one piece changed, in the ball up to what the box cuts off.

    Args:
        held: The modality.
        x: (n, P), the rows as they are.
        share: Of the modality, that a piece covers.
        generator: On the CPU.
    """
    if held.norm == "linf":
        return _to_ends(held, x, share, generator)
    return _moved(held, x, share, generator) if held.axes else _redrawn(held, x, share, generator)


def _to_ends(held: Held, x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """A piece's channels go to one end of their range each, a table's columns likewise."""
    n = len(x)
    where = _places(held, share, generator).to(x.device)[:, None].expand(n, held.channels, -1)
    low, high, clean = (
        values.reshape(n, held.channels, -1).gather(2, where) for values in (held.low, held.high, held.clean)
    )
    values = x.reshape(n, held.channels, -1)
    old = values.gather(2, where)
    # A channel's sign is one of the whole piece; columns have signs of their own.
    signs = _signs((n, held.channels, 1) if held.axes else tuple(where.shape), generator).to(x)

    def ends(signs: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(clean + signs * held.radius[:, None, None], low), high)

    # A question about the same point tells nothing: one sign is turned instead.
    same = ((ends(signs) - old).abs() < SAME * held.radius[:, None, None]).flatten(1).all(1)
    count = signs[0].numel()
    turned = torch.randint(count, (n,), generator=generator).to(x.device)
    turn = functional.one_hot(turned, count).view_as(signs).bool() & same[:, None, None]
    new = ends(torch.where(turn, -signs, signs))
    return values.scatter(2, where, new).reshape(n, -1)


def _moved(held: Held, x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """One piece's change and what is unspent move into another, where bumps of a random sign join what is there."""
    n, p = len(x), 2 if held.norm == "l2" else 1
    step = (x - held.clean).reshape(n, held.channels, -1)
    unspent = (held.radius**p - step.abs().pow(p).sum((1, 2))).clamp(min=0)
    here, there = (_places(held, share, generator).to(x.device)[:, None].expand(n, held.channels, -1) for _ in range(2))
    old = step.gather(2, here)
    step = step.scatter(2, here, 0.0)
    moving = step.gather(2, there)
    step = step.scatter(2, there, 0.0)
    forms = bumps(held.sides(share), held.norm).flatten(1)
    form = forms[torch.randint(len(forms), (n,), generator=generator)].to(x)[:, None]
    new = form * _signs((n, held.channels, 1), generator).to(x) + old / _length(old, held.norm)
    held_there = (old.abs().pow(p) + moving.abs().pow(p)).sum(2, keepdim=True)
    budget = (held_there + unspent[:, None, None] / held.channels).pow(1 / p)
    step = step.scatter(2, here, new / _length(new, held.norm) * budget)
    return held.clean + step.reshape(n, -1)


def _redrawn(held: Held, x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Some columns share out anew, at random, what they hold and what is unspent."""
    p = 2 if held.norm == "l2" else 1
    step = x - held.clean
    where = _places(held, share, generator).to(x.device)
    outside = step.scatter(1, where, 0.0).abs().pow(p).sum(1)
    budget = (held.radius**p - outside).clamp(min=0).pow(1 / p)
    new = _direction(tuple(where.shape), held.norm, generator).to(x)
    step = step.scatter(1, where, new / _length(new, held.norm) * budget[:, None])
    return held.clean + step


def _places(held: Held, share: float, generator: torch.Generator | None) -> Tensor:
    """Return (n, S), the places of a randomly placed piece of each study, or as many random columns."""
    n, sides = len(held.clean), held.sides(share)
    if not held.axes:
        drawn = torch.rand(held.free.shape, generator=generator)
        return torch.where(held.free.cpu(), drawn, -1.0).topk(sides[0], 1).indices
    places = torch.zeros(n, *[1] * len(sides), dtype=torch.long)
    for axis, (size, side) in enumerate(zip(held.axes, sides, strict=True)):
        corner = torch.randint(size - side + 1, (n, *[1] * len(sides)), generator=generator)
        along = torch.arange(side).view([-1 if i == axis else 1 for i in range(len(sides))])
        places = places * size + corner + along
    return places.flatten(1)


def bumps(sides: tuple[int, ...], norm: Norm) -> Tensor:
    """Return (axes, *sides): for each axis two bumps side by side along it, of opposite sign, of norm 1 together.

    A bump is a pile of squares, each a ring larger and lower than the last.

    Args:
        sides: Of the piece.
        norm: Which norm is 1.
    """
    return _bumps(sides, 2 if norm == "l2" else 1)


@lru_cache(maxsize=64)
def _bumps(sides: tuple[int, ...], p: int) -> Tensor:
    forms = []
    for axis, side in enumerate(sides):
        halves = [(*sides[:axis], half, *sides[axis + 1 :]) for half in (side // 2, side - side // 2)]
        form = torch.cat([_bump(halves[0]), -_bump(halves[1])], axis)
        forms.append(form / torch.linalg.vector_norm(form, p))
    return torch.stack(forms)


def _bump(sides: tuple[int, ...]) -> Tensor:
    distance = torch.zeros(sides, dtype=torch.long)
    for axis, side in enumerate(sides):
        along = (torch.arange(side) - side // 2).abs().view([-1 if i == axis else 1 for i in range(len(sides))])
        distance = torch.maximum(distance, along)
    rings = torch.arange(1, max(side // 2 for side in sides) + 2, dtype=torch.float32).pow(-2)
    return rings.flip(0).cumsum(0).flip(0)[distance]


def _signs(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return torch.randint(2, shape, generator=generator) * 2.0 - 1


def _direction(shape: tuple[int, ...], norm: Norm, generator: torch.Generator | None) -> Tensor:
    """A random direction, uniform on the sphere of ``l2`` or ``l1``; of ``linf`` one of the corners of the ball."""
    if norm == "linf":
        return _signs(shape, generator)
    if norm == "l2":
        return torch.randn(shape, generator=generator)
    return torch.empty(shape).exponential_(generator=generator) * _signs(shape, generator)


def _length(step: Tensor, norm: Norm) -> Tensor:
    """The norm along the last axis, which stays, at least what can be divided by."""
    found: Tensor = torch.linalg.vector_norm(step, ORDERS[norm], -1, keepdim=True)
    return found.clamp(min=TINY)
