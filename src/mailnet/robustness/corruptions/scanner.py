"""What goes wrong in MR scanners: bias field, ghosts, motion between lines of k-space, truncation. Within planes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mailnet.robustness.corruptions.drawn import Generator, normal, per_image, uniform

DEGREE = 3
SEGMENTS = 4
GHOSTS = (3, 8)
RESTORED = 0.04


def bias_field(x: Tensor, coefficient: float, generator: Generator) -> Tensor:
    """Multiply with the exponential of a smooth polynomial of degree 3, its coefficients uniform in +-``coefficient``.

    Legendre polynomials over the whole image, as MONAI's ``RandBiasField``; their total degree is at most 3, as
    TorchIO's and, of volumes, MONAI's.
    """
    powers = field_powers(x.ndim - 2)
    drawn = (uniform((len(x), len(powers)), x, generator) * 2 - 1) * coefficient
    return x * torch.exp(polynomial_field(drawn, powers, x.shape[2:]))[:, None]


def polynomial_field(coefficients: Tensor, powers: list[tuple[int, ...]], sides: torch.Size) -> Tensor:
    """Return (B, ...) sums of products of Legendre polynomials on [-1, 1] along each axis.

    Args:
        coefficients: (B, P).
        powers: P degrees along the axes.
        sides: Of the axes.
    """
    columns = []
    for side in sides:
        t = torch.linspace(-1, 1, side, dtype=coefficients.dtype, device=coefficients.device)
        columns.append([torch.ones_like(t), t, (3 * t**2 - 1) / 2, (5 * t**3 - 3 * t) / 2])
    total = coefficients.new_zeros(len(coefficients), *sides)
    for k, degrees in enumerate(powers):
        term = coefficients[:, k].view(-1, *[1] * len(sides))
        for axis, degree in enumerate(degrees):
            term = term * columns[axis][degree].view(-1, *[1] * (len(sides) - axis - 1))
        total = total + term
    return total


def ghosting(x: Tensor, strength: float, generator: Generator) -> Tensor:
    """Weaken every n-th line of k-space along rows or columns, its centre spared, which gives n faint copies.

    As TorchIO's ``RandomGhosting``: ``strength`` 1 leaves nothing of these lines.
    """
    swap = uniform((len(x),), x, generator) < 0.5
    ghosts = (uniform((len(x),), x, generator) * (GHOSTS[1] - GHOSTS[0] + 1)).floor() + GHOSTS[0]
    spectrum = torch.fft.fft2(x)
    weakened = per_image(x, ghosts)
    lines = []
    for axis in (-2, -1):
        line = _frequencies(x, axis).round()
        spared = line.abs() <= RESTORED * x.shape[axis] / 2
        lines.append(torch.where((line.remainder(weakened) == 0) & ~spared, 1 - strength, 1.0))
    weight = torch.where(per_image(x, swap), lines[1].expand(len(x), *lines[1].shape[1:]), lines[0])
    return _magnitude(spectrum * weight)


def motion(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Let the patient move while the lines of k-space are taken: some parts of it belong to a shifted image.

    The lines fall into four parts; the shift of each is normal with a deviation of ``share`` of the side, that of the
    part with the centre none. As TorchIO's ``RandomMotion`` with translations.
    """
    moves = normal((len(x), SEGMENTS, 2), x, generator)
    start = uniform((len(x), SEGMENTS - 1), x, generator).sort(1).values - 0.5
    rows, columns = _frequencies(x, -2), _frequencies(x, -1)
    place = rows / x.shape[-2]  # time runs from the lowest to the highest frequency, [-0.5, 0.5)
    part = torch.stack([place >= per_image(x, start[:, k]) for k in range(SEGMENTS - 1)]).sum(0)
    middle = (start <= 0).sum(1)
    moves = moves - moves[torch.arange(len(x), device=x.device), middle][:, None]
    phase = torch.zeros((), device=x.device)
    for k in range(SEGMENTS):
        down, across = (per_image(x, moves[:, k, axis]) * share for axis in range(2))
        phase = phase + torch.where(part == k, 1.0, 0.0) * (rows * down + columns * across)
    turned = torch.polar(torch.ones_like(phase), -2 * math.pi * phase)
    return _magnitude(torch.fft.fft2(x) * turned)


def gibbs(x: Tensor, share: float, generator: Generator) -> Tensor:
    """Cut k-space off, which rings at edges: 1 - ``share`` of half its diagonal (of a longer side's square) is kept.

    As MONAI's ``GibbsNoise`` with ``alpha``, within planes.
    """
    height, width = x.shape[-2:]
    # Distances from the middle of the shifted spectrum, as MONAI counts them.
    rows = torch.arange(height, device=x.device, dtype=x.dtype) - (height - 1) / 2
    columns = torch.arange(width, device=x.device, dtype=x.dtype) - (width - 1) / 2
    distance = torch.hypot(rows[:, None], columns[None, :])
    kept = distance <= (1 - share) * max(height, width) / math.sqrt(2)
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1)) * kept
    image: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1)))
    return image.real


def _magnitude(spectrum: Tensor) -> Tensor:
    image: Tensor = torch.fft.ifft2(spectrum)
    return image.abs()


def field_powers(axes: int) -> list[tuple[int, ...]]:
    """Return the degrees along each axis of the terms of a field."""
    if axes == 2:
        return [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    return [(i, j, k) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i) for k in range(DEGREE + 1 - i - j)]


def _frequencies(x: Tensor, axis: int) -> Tensor:
    """Whole frequencies along one of the last two axes, shaped to spread over ``x``."""
    side = x.shape[axis]
    found: Tensor = torch.fft.fftfreq(side, 1 / side, device=x.device, dtype=x.dtype)
    return found.view(1, *[1] * (x.ndim - 3), -1, 1) if axis == -2 else found.view(1, *[1] * (x.ndim - 2), -1)
