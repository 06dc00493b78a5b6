"""RPAN, the part that makes MAIL into Robust-MAIL: random projection filters (RPF) and modulated attention noise (MAN).

Source: Dhar, Haghighat, Zaidi, "Effective and Robust Multimodal Medical Image Analysis", KDD 2026, arXiv 2602.15346;
RPF after Dong and Xu, CVPR 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn.layers import conv
from mailnet.nn.noise import NoiseKind, NoiseSource

RPFPlacement: TypeAlias = Literal["stem", "units"]
MANVariant: TypeAlias = Literal["zero_mean", "published"]


@dataclass(frozen=True)
class RPAN:
    """What is random in a network, and where.

    Args:
        rpf: Which convolutions have random filters: ``stem`` the first one, ``units`` those of each ERLA unit.
        rpf_ratio: Share of random filters, in each group of a convolution.
        man: ``zero_mean`` noise on the attention, ``published`` for the authors' noise of mean std^2 with its clipping
            and powers, None for none.
        man_std: Standard deviation of the noise; 0.6 as published.
        noise: Where all the numbers come from.

    Raises:
        ValueError: An unknown placement or variant, or a number out of its range.
    """

    rpf: RPFPlacement | None = "stem"
    rpf_ratio: float = 0.25
    man: MANVariant | None = "zero_mean"
    man_std: float = 0.2
    noise: NoiseSource = field(default_factory=NoiseSource)

    def __post_init__(self) -> None:
        if self.rpf is not None and self.rpf not in get_args(RPFPlacement):
            raise ValueError(f"rpf must be 'stem', 'units' or None, got {self.rpf!r}")
        if self.man is not None and self.man not in get_args(MANVariant):
            raise ValueError(f"man must be 'zero_mean', 'published' or None, got {self.man!r}")
        if not 0 <= self.rpf_ratio < 1:
            raise ValueError(f"rpf_ratio must be at least 0 and below 1, got {self.rpf_ratio}")
        if self.man_std < 0:
            raise ValueError(f"man_std must not be negative, got {self.man_std}")

    def attention_noise(self, kind: NoiseKind, *, trained: bool = False) -> ModulatedNoise | None:
        """Return the noise of one attention, or None where there is none."""
        return None if self.man is None else ModulatedNoise(kind, self.man, self.man_std, self.noise, trained=trained)


def rpan_conv(
    rpan: RPAN | None,
    place: RPFPlacement,
    dims: int,
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Module:
    """Return a convolution, with random filters where ``rpan`` has them at ``place``."""
    plain = conv(dims, in_channels, out_channels, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias)
    if rpan is None or rpan.rpf != place:
        return plain
    return RandomProjectionConv(plain, rpan.rpf_ratio, rpan.noise)


class RandomProjectionConv(nn.Module):
    """A convolution of which some filters of each group are Gaussian, never trained, and redrawn at every forward pass.

    A random filter is drawn from N(0, 1 / fan_in), the scale at which a filter keeps the variance of its input; for a
    depthwise filter that is the published 1 / k^2. In noise mode ``off`` the filters of the state dict are used.

    Args:
        plain: The convolution to take over; its trainable filters are those before the random ones of each group.
        ratio: Share of random filters in each group; rounded to whole filters, of which one at least is trained.
        noise: Source of the filters.
    """

    fixed: Tensor

    def __init__(self, plain: nn.Conv2d | nn.Conv3d, ratio: float, noise: NoiseSource) -> None:
        super().__init__()
        self.noise = noise
        self.stride, self.padding, self.dilation = plain.stride, plain.padding, plain.dilation
        self.groups = plain.groups
        # A depthwise convolution has one filter a group, so the share is of its channels, the last of them.
        self.parts = 1 if plain.groups == plain.out_channels else plain.groups
        kernels = plain.weight.detach().reshape(self.parts, -1, *plain.weight.shape[1:])
        count = min(round(ratio * kernels.shape[1]), kernels.shape[1] - 1)
        self.std = 1 / math.sqrt(kernels[0, 0].numel())
        # Kernels keep the rank of a convolution's, (filters, C_in / G, k, ...), so that a memory format suits them.
        split = kernels.shape[1] - count
        self.weight = nn.Parameter(kernels[:, :split].flatten(0, 1).clone())
        self.register_buffer("fixed", torch.randn(kernels[:, split:].flatten(0, 1).shape) * self.std)
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of (B, C, ...)."""
        if self.noise.mode == "off":
            drawn = self.fixed
        else:
            drawn = self.noise.draw("rpf_kernel", self.fixed.shape, self.std, self.weight)
        shape = (self.parts, -1, *self.weight.shape[1:])
        kernel = torch.cat([self.weight.reshape(shape), drawn.reshape(shape)], 1).flatten(0, 1)
        convolve = functional.conv2d if x.ndim == 4 else functional.conv3d
        return convolve(x, kernel, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ModulatedNoise(nn.Module):
    """MAN: Gaussian noise on an attention.

    Args:
        kind: Which attention it is for.
        variant: ``zero_mean`` adds n; ``published`` adds n * (w + n * w), whose mean is w * std^2.
        std: Standard deviation of n.
        noise: Source of n.
        trained: The published w is a trained scalar that starts at 1; otherwise it is 1.
    """

    def __init__(
        self, kind: NoiseKind, variant: MANVariant, std: float, noise: NoiseSource, *, trained: bool = False
    ) -> None:
        super().__init__()
        self.kind: NoiseKind = kind
        self.published = variant == "published"
        self.std = std
        self.noise = noise
        self.weight = nn.Parameter(torch.ones(())) if trained and self.published else None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with noise added."""
        drawn = self.noise.draw(self.kind, x.shape, self.std, x)
        if self.published:
            drawn = drawn + drawn.square()
            drawn = drawn if self.weight is None else drawn * self.weight
        return x + drawn
