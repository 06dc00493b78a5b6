"""What an attacker may change, and how far: a norm, a radius for each modality, and the values that inputs may take."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from mailnet.specs import ModalitySpec

Norm: TypeAlias = Literal["linf", "l2", "l1"]
ORDERS: dict[Norm, float] = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class Threat:
    """A threat model. Each modality has a ball of its own; what has no radius is out of the attacker's hands.

    Args:
        norm: ``linf``, ``l2`` or ``l1``.
        eps: Modality -> radius, in the units of the input: images are in [0, 1].
        boxes: Table -> lowest and highest value of each of its columns, (F,) each; a table can be attacked only with
            one, and a column whose two values are equal stays as it is. Images have [0, 1].

    Raises:
        ValueError: An unknown norm, no modality, or a radius that is not a positive finite number.
    """

    norm: Norm
    eps: Mapping[str, float]
    boxes: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise ValueError(f"norm '{self.norm}' is not one of {', '.join(get_args(Norm))}")
        if not self.eps:
            raise ValueError("the attacker holds no modality; give eps for one at least")
        for name, radius in self.eps.items():
            if not (math.isfinite(radius) and radius > 0):
                raise ValueError(f"eps of modality '{name}' must be a positive number, got {radius}")

    def check(self, modalities: Mapping[str, ModalitySpec]) -> None:
        """Refuse a threat that does not fit a network's modalities.

        Raises:
            ValueError: An unknown modality, a table without a box, an image whose radius exceeds its range, or a box
                of the wrong length or order.
        """
        for name, radius in self.eps.items():
            if name not in modalities:
                raise ValueError(f"unknown modality '{name}'; the network has {', '.join(modalities)}")
            spec = modalities[name]
            if spec.kind == "tabular":
                if name not in self.boxes:
                    raise ValueError(f"modality '{name}' is a table: give its columns' lowest and highest values")
                low, high = self.boxes[name]
                if not low.shape == high.shape == (spec.channels,) or bool((low > high).any()):
                    raise ValueError(f"the box of '{name}' needs two rising rows of {spec.channels} values")
            elif self.norm == "linf" and radius > 1:
                raise ValueError(f"eps of modality '{name}' is {radius}, larger than the range [0, 1] of an image")


class Space:
    """The inputs in an attacker's hands as rows of one matrix, with the ball and the box that each row must stay in.

    Columns are the modalities one after the other, flattened. A modality that a study lacks has radius 0 there, and
    the box (``low``, ``high``, (B, D)) of what stays as it is has no room.

    Args:
        inputs: Modality -> (B, ...).
        present: Modality -> (B,) bool.
        threat: The threat model.
    """

    def __init__(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor], threat: Threat) -> None:
        self.threat = threat
        self.names = [name for name in threat.eps if name in inputs]
        self.shapes = {name: tuple(inputs[name].shape[1:]) for name in self.names}
        self.sizes = [math.prod(self.shapes[name]) for name in self.names]
        self.clean = torch.cat([inputs[name].flatten(1) for name in self.names], 1)  # (B, D)
        columns = [self._box(name, size) for name, size in zip(self.names, self.sizes, strict=True)]
        low, high = (torch.cat(side).to(self.clean) for side in zip(*columns, strict=True))  # (D,)
        radii = [threat.eps[name] * present[name].to(self.clean) for name in self.names]
        self.radius = torch.stack(radii, 1)  # (B, M)
        # What stays as it is has no room in its box, so that no attack needs to know of it.
        self.free = (low < high) & (self.spread(self.radius) > 0)  # (B, D)
        self.low = torch.where(self.free, low.minimum(self.clean), self.clean)  # (B, D)
        self.high = torch.where(self.free, high.maximum(self.clean), self.clean)  # (B, D)

    def _box(self, name: str, size: int) -> tuple[Tensor, Tensor]:
        low, high = self.threat.boxes.get(name, UNIT)
        return torch.as_tensor(low).expand(size), torch.as_tensor(high).expand(size)

    def __len__(self) -> int:
        return self.clean.shape[0]

    def take(self, rows: Tensor) -> Space:
        """Return some of the rows, (n,) positions or a mask, as a space of their own."""
        chosen = copy.copy(self)
        for name in ("clean", "radius", "free", "low", "high"):
            setattr(chosen, name, getattr(self, name)[rows])
        return chosen

    def enlarged(self, factor: float) -> Space:
        """Return the same rows in balls of so many times the radius; boxes stay."""
        changed = copy.copy(self)
        changed.radius = self.radius * factor
        return changed

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Return modality -> (B, ...) of rows (B, D)."""
        parts = torch.split(x, self.sizes, 1)
        return {name: part.reshape(-1, *self.shapes[name]) for name, part in zip(self.names, parts, strict=True)}

    def spread(self, values: Tensor) -> Tensor:
        """Return (B, M), a value a modality, as (B, D)."""
        sizes = torch.tensor(self.sizes, device=values.device)
        return values.repeat_interleave(sizes, 1, output_size=sum(self.sizes))

    def norms(self, delta: Tensor, norm: Norm | None = None) -> Tensor:
        """Return (B, M), the norm of each modality's part of (B, D)."""
        return part_norms(delta, self.sizes, norm or self.threat.norm)

    def project(self, x: Tensor) -> Tensor:
        """Return the point of each ball and box near each row (B, D): in ``linf`` and ``l1`` the nearest one.

        In ``l2`` the row is first drawn onto the ball, then into the box, which brings it nearer to the clean study.
        """
        delta = torch.where(self.free, x - self.clean, 0.0)
        if self.threat.norm == "linf":
            radius = self.spread(self.radius)
            delta = delta.clamp(-radius, radius)
        elif self.threat.norm == "l2":
            delta = delta * self.spread((self.radius / self.norms(delta).clamp(min=1e-12)).clamp(max=1))
        else:
            low, high = self.low - self.clean, self.high - self.clean
            parts = zip(*(torch.split(side, self.sizes, 1) for side in (delta, low, high)), self.radius.T, strict=True)
            delta = torch.cat([project_l1(*part) for part in parts], 1)
        # Rounding must not carry a pixel out of its range.
        return self.boxed(self.clean + delta)

    def boxed(self, x: Tensor) -> Tensor:
        """Return the point of the box nearest to each row (B, D): what the attacker does not hold is clean there."""
        return torch.where(self.free, x.clamp(self.low, self.high), self.clean)

    def random(self, generator: torch.Generator | None = None) -> Tensor:
        """Return a uniformly drawn point of each ball, drawn into the box, (B, D).

        Args:
            generator: On the CPU, so that every device draws the same numbers; None means the global one.
        """
        return self.project(self.clean + self.uniform(generator))

    def uniform(self, generator: torch.Generator | None = None) -> Tensor:
        """Return a uniformly drawn step (B, D) of length up to the radius of each modality; boxes are not looked at.

        Args:
            generator: As of ``random``.
        """
        shape = self.clean.shape
        if self.threat.norm == "linf":
            drawn = (2 * torch.rand(shape, generator=generator) - 1).to(self.clean)
            return drawn * self.spread(self.radius) * self.free
        normal = torch.randn(shape, generator=generator)
        if self.threat.norm == "l1":  # a uniform direction of the l1 sphere: signed exponentials
            normal = torch.empty(shape).exponential_(generator=generator) * normal.sign()
        free = torch.stack([part.sum(1) for part in torch.split(self.free, self.sizes, 1)], 1).clamp(min=1)  # (B, M)
        length = torch.rand(self.radius.shape, generator=generator).to(self.clean) ** (1 / free)
        normal = normal.to(self.clean) * self.free
        return normal * self.spread(self.radius * length / self.norms(normal).clamp(min=1e-12))

    def steepest(self, gradient: Tensor, fraction: float = 0.01) -> Tensor:
        """Return the steps of length 1, modality by modality, along which a linear function rises most, (B, D).

        Args:
            gradient: (B, D).
            fraction: In ``l1``, the share of a modality's values that a step changes, all alike: those of the largest
                gradient, at least one. One alone rises most, but meets the end of its box at once; steps that change
                all of them break next to nothing.

        Source of the share: Tramer, Boneh, "Adversarial training and robustness for multiple perturbations", NeurIPS
        2019.
        """
        gradient = gradient * self.free
        if self.threat.norm == "linf":
            return gradient.sign()
        if self.threat.norm == "l2":
            # First by the largest, since squares of a confident network's gradients vanish in single precision.
            tiny = torch.finfo(gradient.dtype).tiny
            scaled = gradient / self.spread(self.norms(gradient, "linf").clamp(min=tiny))
            return scaled / self.spread(self.norms(scaled).clamp(min=tiny))
        steps = []
        for part, size in zip(torch.split(gradient, self.sizes, 1), self.sizes, strict=True):
            count = max(1, int(fraction * size))
            kept = torch.zeros_like(part).scatter_(1, part.abs().topk(count, 1).indices, 1.0)
            step = part.sign() * kept
            steps.append(step / step.abs().sum(1, keepdim=True).clamp(min=1e-12))
        return torch.cat(steps, 1)


def part_norms(x: Tensor, sizes: Sequence[int], norm: Norm) -> Tensor:
    """Return (B, M), the norm of each part of rows (B, D) whose columns are ``sizes`` (M) after one another."""
    parts = torch.split(x, list(sizes), 1)
    return torch.stack([torch.linalg.vector_norm(part, ORDERS[norm], 1) for part in parts], 1)


def project_l1(delta: Tensor, low: Tensor, high: Tensor, radius: Tensor) -> Tensor:
    """Return the nearest points of l1 balls cut by boxes.

    The point is clip(shrink(delta, t), low, high) with the smallest t >= 0 that brings it into the ball; its norm falls
    with t, so t is found by bisection.

    Args:
        delta: (B, D).
        low: (B, D), at most 0.
        high: (B, D), at least 0.
        radius: (B,).

    Source: Croce, Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML 2021.
    """

    def shrunk(t: Tensor) -> Tensor:
        return (delta.sign() * (delta.abs() - t[:, None]).clamp(min=0)).clamp(low, high)

    under, over = torch.zeros_like(radius), delta.abs().amax(1)
    inside = shrunk(under).abs().sum(1) <= radius
    for _ in range(50):
        middle = (under + over) / 2
        fits = shrunk(middle).abs().sum(1) <= radius
        under, over = torch.where(fits, under, middle), torch.where(fits, middle, over)
    return shrunk(torch.where(inside, torch.zeros_like(over), over))
