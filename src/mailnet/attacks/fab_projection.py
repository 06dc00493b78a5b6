"""The shortest way to hyperplanes inside a box, in the norm of ``unit``: the greatest of the modalities' norms.

A ball and a box hold a point that lies furthest along the plane's normal. How far it gets is a concave function of the
ball's radius, so the least radius that reaches the plane is found by Newton's method from below, which never goes too
far: without an active box its first guess is exact, and in ``linf`` it ends after finitely many steps.

Source: Croce, Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020, which
gives the projection for one input and one plane; for several inputs with balls of their own, and beyond two planes at
once, it is this file's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mailnet.attacks.threat import Norm, part_norms

DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}
ROUNDS = 100
EXACT = 1e-6  # of the way to the plane; sums of single precision are no better
LEAST = 1e-30
FAR = 1e15  # no box is as wide
UNREACHED = 1e6  # times as far is a plane that the box holds off
SLACK = 1e-3  # of the way to a plane may be missing
BISECTIONS = 8

# From a radius (B,) to the furthest point (B, D) and by how much it gets further as the radius grows, (B,).
Furthest: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]


def dual_norms(normal: Tensor, sizes: Sequence[int], norm: Norm) -> Tensor:
    """Return (B,), how far along a normal (B, D) the unit ball reaches: by it an offset becomes a distance."""
    scaled, scale = _scaled(normal)
    return part_norms(scaled, sizes, DUAL[norm]).sum(1) * scale


def _scaled(normal: Tensor) -> tuple[Tensor, Tensor]:
    """A normal with a largest value of 1, and what it was: squares of small gradients vanish in single precision."""
    scale = normal.abs().amax(1).clamp(min=torch.finfo(normal.dtype).tiny)
    return normal / scale[:, None], scale


def nearest(normal: Tensor, offset: Tensor, low: Tensor, high: Tensor, sizes: Sequence[int], norm: Norm) -> Tensor:
    """Return the shortest d with <normal, d> = offset and low <= d <= high, or the corner nearest to the plane.

    Args:
        normal: (B, D).
        offset: (B,).
        low: (B, D), at most 0.
        high: (B, D), at least 0.
        sizes: Columns of each modality.
        norm: Of each modality's part.
    """
    normal, scale = _scaled(torch.where(offset[:, None] < 0, -normal, normal))  # the plane lies ahead
    offset = (offset.abs() / scale).clamp(max=FAR)
    room = torch.where(normal > 0, high, -low)
    weight = torch.where(room > 0, normal.abs(), torch.zeros_like(normal))
    columns = list(sizes)
    parts = zip(torch.split(weight, columns, 1), torch.split(room, columns, 1), strict=True)
    balls = [_BALLS[norm](*part) for part in parts]
    reach = dual_norms(weight, sizes, norm)
    radius = torch.where(reach > 0, offset / reach.clamp(min=LEAST), torch.zeros_like(reach))
    for _ in range(ROUNDS):
        points, rates = zip(*(ball(radius) for ball in balls), strict=True)
        point, rate = torch.cat(points, 1), torch.stack(rates).sum(0)
        gap = offset - (weight * point).sum(1)
        far = (gap > EXACT * offset) & (rate > 0)
        if not bool(far.any()):
            break
        radius = torch.where(far, radius + gap / rate.clamp(min=LEAST), radius)
    return point * normal.sign()


def ways(normal: Tensor, offset: Tensor, step: Tensor, sizes: Sequence[int], norm: Norm) -> Tensor:
    """Return (B,) how far a plane lies ahead, negative behind: the length of the step that ``nearest`` gave.

    Planes that the box holds off are further than all others, in the order of their distance without a box.
    """
    reached = (normal * step).sum(1).abs() >= (1 - SLACK) * offset.abs()
    free = offset.abs() / dual_norms(normal, sizes, norm).clamp(min=LEAST)
    away = torch.where(reached, part_norms(step, sizes, norm).amax(1), free.clamp(min=1) * UNREACHED)
    return torch.where(offset < 0, -away, away)


def beyond_all(normals: Tensor, offsets: Tensor, low: Tensor, high: Tensor, sizes: Sequence[int], norm: Norm) -> Tensor:
    """Return the shortest d with <normal, d> >= offset for every plane; where 0 is beyond all, to the nearest of them.

    Planes are met two at a time, the furthest and the one that the way to it leaves most ahead, which is exact for two;
    of more, a walk meets the others at its next steps. Beyond two planes is beyond each of their mixtures, so the
    shortest way is that to the furthest mixture, which is found by bisection.

    Args:
        normals: (B, T, D).
        offsets: (B, T), minus infinity for a plane that does not count; one counts at least.
        low: (B, D), at most 0.
        high: (B, D), at least 0.
        sizes: Columns of each modality.
        norm: Of each modality's part.
    """
    counts = offsets.isfinite()
    offsets = torch.where(counts, offsets, 0.0)
    planes = list(zip(normals.unbind(1), offsets.unbind(1), strict=True))
    steps = [nearest(*plane, low, high, sizes, norm) for plane in planes]
    if len(planes) == 1:
        return steps[0]
    ahead = [ways(*plane, step, sizes, norm) for plane, step in zip(planes, steps, strict=True)]
    away, first = torch.where(counts, torch.stack(ahead, 1), -torch.inf).max(1)
    rows = torch.arange(len(first), device=first.device)
    step = torch.stack(steps, 1)[rows, first]
    # In distances, so that planes can be compared.
    reach = torch.stack([dual_norms(normal, sizes, norm) for normal, _ in planes], 1).clamp(min=LEAST)
    normals, offsets = normals / reach[..., None], (offsets / reach).clamp(-FAR, FAR)
    missing = offsets - (normals * step[:, None]).sum(2)
    missing[rows, first] = -torch.inf
    missing, second = torch.where(counts, missing, -torch.inf).max(1)
    rows = ((away > 0) & (missing > EXACT * away)).nonzero()[:, 0]
    if len(rows):
        pair = torch.stack([first[rows], second[rows]], 1)
        some = rows[:, None]
        step[rows] = _beyond_two(normals[some, pair], offsets[some, pair], low[rows], high[rows], sizes, norm)
    return step


def _beyond_two(
    normals: Tensor, offsets: Tensor, low: Tensor, high: Tensor, sizes: Sequence[int], norm: Norm
) -> Tensor:
    """The shortest way beyond two planes (B, 2, D), where the way to either alone leaves the other ahead."""

    def mixed(share: Tensor) -> tuple[Tensor, Tensor]:
        """The way to a mixture, and by how much more of the first plane than of the second is left."""
        shares = torch.stack([share, 1 - share], 1)
        normal, offset = (normals * shares[..., None]).sum(1), (offsets * shares).sum(1).clamp(min=0)
        step = nearest(normal, offset, low, high, sizes, norm)
        left = offsets - (normals * step[:, None]).sum(2)
        return step, left[:, 0] - left[:, 1]

    less, more = torch.zeros_like(offsets[:, 0]), torch.ones_like(offsets[:, 0])
    (step_less, gap_less), (step_more, gap_more) = mixed(less), mixed(more)
    for _ in range(BISECTIONS):
        share = (less + more) / 2
        step, gap = mixed(share)
        up = gap > 0
        less, more = torch.where(up, share, less), torch.where(up, more, share)
        gap_less, gap_more = torch.where(up, gap, gap_less), torch.where(up, gap_more, gap)
        step_less = torch.where(up[:, None], step, step_less)
        step_more = torch.where(up[:, None], step_more, step)
    # The way may jump between the two mixtures; in between lies the one that leaves as much of both planes.
    part = (-gap_more / (gap_less - gap_more).clamp(min=LEAST)).clamp(0, 1)[:, None]
    return part * step_less + (1 - part) * step_more


def _linf(weight: Tensor, room: Tensor) -> Furthest:
    def furthest(radius: Tensor) -> tuple[Tensor, Tensor]:
        ball = radius[:, None]
        return room.minimum(ball), (weight * (room > ball)).sum(1)

    return furthest


def _l2(weight: Tensor, room: Tensor) -> Furthest:
    """The furthest point is min(t weight, room), with t such that it lies on the sphere."""
    squares, rooms = weight.square(), room.square()

    def furthest(radius: Tensor) -> tuple[Tensor, Tensor]:
        # The squared norm of the point is concave in the square of t, which is found from below likewise.
        wanted = radius.square()
        square = (wanted / squares.sum(1).clamp(min=LEAST)).clamp(max=1 / LEAST)
        for _ in range(ROUNDS):
            grown = squares * square[:, None]
            gap = wanted - grown.minimum(rooms).sum(1)
            rate = (squares * (grown < rooms)).sum(1)
            far = (gap > EXACT * wanted) & (rate > 0)
            if not bool(far.any()):
                break
            square = torch.where(far, square + gap / rate.clamp(min=LEAST), square).clamp(max=1 / LEAST)
        t = square.sqrt()
        rises = (rate > 0) & (t > 0)
        return (weight * t[:, None]).minimum(room), torch.where(rises, radius / t.clamp(min=LEAST), 0.0)

    return furthest


def _l1(weight: Tensor, room: Tensor) -> Furthest:
    """The furthest point spends the radius on the columns of largest weight, each up to its room."""
    weights, order = weight.sort(1, descending=True)
    rooms = room.gather(1, order)
    spent = rooms.cumsum(1)
    ends = torch.cat([weights, torch.zeros_like(weights[:, :1])], 1)

    def furthest(radius: Tensor) -> tuple[Tensor, Tensor]:
        ball = radius[:, None]
        point = (ball - (spent - rooms)).clamp(min=0).minimum(rooms)
        rate = ends.gather(1, (spent <= ball).sum(1, keepdim=True))[:, 0]
        return torch.zeros_like(point).scatter(1, order, point), rate

    return furthest


_BALLS: dict[Norm, Callable[[Tensor, Tensor], Furthest]] = {"linf": _linf, "l2": _l2, "l1": _l1}
