"""ERLA, the efficient residual learning attention block of MAIL's trunks, and the units that it is made of.

Source: Dhar, Haghighat, Zaidi, "Effective and Robust Multimodal Medical Image Analysis", KDD 2026, arXiv 2602.15346.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from mailnet.nn.layers import (
    ACTIVATIONS,
    Activation,
    Projection,
    StagePlan,
    conv,
    expand_as,
    norm,
    pool_max,
    pool_mean,
    spatial_axes,
)
from mailnet.nn.merged import fuse_branches, merges, msgdc
from mailnet.nn.rpan import RPAN, rpan_conv

Shortcut: TypeAlias = Literal["mean", "strided"]
UnitKind: TypeAlias = Literal["single", "multiscale", "emila"]
Attention: TypeAlias = Literal["normalised", "published", "none"]

SHUFFLE_GROUPS = 16  # groups of EMILA's grouped convolution and channel shuffle


@dataclass(frozen=True)
class ERLAOptions:
    """How an ERLA block is built.

    Args:
        unit: ``single``, a dense 3x3 convolution, normalised and activated; ``multiscale``, in its place a dense and a
            dilated 3x3 of half the width each; or ``emila``, the published grouped 1x1, depthwise 3x3 and depthwise 5x5
            branches fused by a grouped 1x1.
        branches: Kernels of the branches of an ``emila``, of 1 (in groups), 3 and 5 (depthwise).
        units: Units in a block (the published block has two).
        fuse_kernel: Kernel of the convolution after the units, odd; 1 as published.
        shortcut: How a shortcut halves the grid, by the ``mean`` of its pixels or, as published, ``strided``.
        activation: ``silu``, ``gelu``, or ``relu`` as published.
        attention: What channel attention reads: ``normalised`` mean and maximum; ``published``, 2 max + sum, which
            grows with the number of pixels; or ``none`` for no channel attention.
        gamma: Initial scale of the attention logits; None for a random one of either sign, as published.

    Raises:
        ValueError: An unknown choice or a number out of its range.
    """

    unit: UnitKind = "multiscale"
    branches: tuple[int, ...] = (1, 3, 5)
    units: int = 1
    fuse_kernel: int = 3
    shortcut: Shortcut = "strided"
    activation: Activation = "relu"
    attention: Attention = "normalised"
    gamma: float | None = 1.0

    def __post_init__(self) -> None:
        if self.unit not in get_args(UnitKind):
            raise ValueError(f"unit must be one of {', '.join(get_args(UnitKind))}, got {self.unit!r}")
        if not self.branches or not set(self.branches) <= {1, 3, 5} or len(set(self.branches)) < len(self.branches):
            raise ValueError(f"branches must be some of 1, 3, 5, got {list(self.branches)}")
        if self.units < 1:
            raise ValueError(f"units must be at least 1, got {self.units}")
        if self.fuse_kernel < 1 or self.fuse_kernel % 2 == 0:
            raise ValueError(f"fuse_kernel must be odd, got {self.fuse_kernel}")
        if self.shortcut not in get_args(Shortcut):
            raise ValueError(f"shortcut must be one of {', '.join(get_args(Shortcut))}, got {self.shortcut!r}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if self.attention not in get_args(Attention):
            raise ValueError(f"attention must be one of {', '.join(get_args(Attention))}, got {self.attention!r}")


class ChannelAttention(nn.Module):
    """CA: a gate for each channel, from statistics over space.

    Args:
        channels: C.
        statistics: See ``ERLAOptions``.
        gamma: See ``ERLAOptions``.
        rpan: Where its noise comes from, if any.
    """

    def __init__(self, channels: int, statistics: Attention, gamma: float | None, rpan: RPAN | None) -> None:
        super().__init__()
        published = statistics == "published"
        self.statistics = published_statistics if published else normalised_statistics
        hidden = max(channels // 4, 8)
        self.squeeze = nn.Linear(channels if published else 2 * channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        self.gamma = nn.Parameter(torch.randn(()) if gamma is None else torch.tensor(float(gamma)))
        self.man = rpan.attention_noise("channel_noise") if rpan else None
        self.clip = rpan is not None and rpan.man == "published"

    def forward(self, x: Tensor) -> Tensor:
        """Return the gates (B, C, 1, ...) in (0, 1) of features (B, C, ...)."""
        z: Tensor = self.excite(self.squeeze(self.statistics(x)).relu())
        z = z if self.man is None else self.man(z)
        z = z.clamp(0, 1) if self.clip else z
        return expand_as((self.gamma * z).sigmoid(), x)


def normalised_statistics(x: Tensor) -> Tensor:
    """Return mean and maximum over space, (B, C, ...) -> (B, 2C)."""
    return torch.cat([pool_mean(x), pool_max(x)], 1)


def published_statistics(x: Tensor) -> Tensor:
    """Return (min + mean + max + sum) + (max - mean - min) over space, (B, C, ...) -> (B, C)."""
    return 2 * pool_max(x) + x.sum(spatial_axes(x))


class DenseConv(nn.Module):
    """A 3x3 convolution, or a 3x3 and a dilated 3x3 of half of the output channels each; normalised and activated.

    An axis of up to four pixels is not dilated, where most taps would lie outside.
    """

    def __init__(
        self, dims: int, channels: int, out_channels: int, plan: StagePlan, options: ERLAOptions, rpan: RPAN | None
    ) -> None:
        super().__init__()
        half = out_channels // 2 if options.unit == "multiscale" else 0
        reach = tuple(2 if pixels > 4 else 1 for pixels in plan.grid)
        self.near = rpan_conv(rpan, "units", dims, channels, out_channels - half, 3, stride=plan.stride)
        self.far = (
            rpan_conv(rpan, "units", dims, channels, half, 3, stride=plan.stride, dilation=reach) if half else None
        )
        self.norm = norm(dims, out_channels)
        self.activation = ACTIVATIONS[options.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C_out, ...)."""
        near = self.near(x)
        y: Tensor = self.activation(self.norm(near if self.far is None else torch.cat([near, self.far(x)], 1)))
        return y


class MSGDC(nn.Module):
    """The published multi-scale convolution: 1x1 in groups, depthwise 3x3 and 5x5, channels shuffled, fused."""

    def __init__(
        self, dims: int, channels: int, out_channels: int, plan: StagePlan, options: ERLAOptions, rpan: RPAN | None
    ) -> None:
        super().__init__()
        groups = SHUFFLE_GROUPS
        if channels % groups or out_channels % groups:
            raise ValueError(f"unit 'emila' needs widths divisible by {groups}, got {channels} and {out_channels}")

        # kernel -> channels that it gives, and groups
        shapes = {
            kernel: (out_channels, groups) if kernel == 1 else (channels, channels) for kernel in options.branches
        }
        self.branches = nn.ModuleList(
            rpan_conv(rpan, "units", dims, channels, out, kernel, stride=plan.stride, groups=count, bias=True)
            for kernel, (out, count) in shapes.items()
        )
        self.fuse = conv(dims, sum(out for out, _ in shapes.values()), out_channels, 1, groups=2)
        self.norm = norm(dims, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C_out, ...)."""
        merged = merges(x, self.fuse, self.branches[0])
        normed: Tensor = self.norm(self._merged(x) if merged else self._mixed(x))
        return normed

    def _mixed(self, x: Tensor) -> Tensor:
        y = torch.cat([branch(x) for branch in self.branches], 1)
        y = y.reshape(y.shape[0], SHUFFLE_GROUPS, -1, *y.shape[2:]).transpose(1, 2).flatten(1, 2)
        mixed: Tensor = self.fuse(y)
        return mixed

    def _merged(self, x: Tensor) -> Tensor:
        first, *rest = self.branches
        if isinstance(first, nn.Conv2d) and max(first.kernel_size) == 1:
            return msgdc(x, first, rest, self.fuse, SHUFFLE_GROUPS)
        return fuse_branches([branch(x) for branch in self.branches], self.fuse, SHUFFLE_GROUPS)


class Unit(nn.Module):
    """A multi-scale convolution gated by channel attention; the published unit (EMILA) adds a projection of its input.

    Args:
        dims: Spatial axes.
        channels: C of the input.
        out_channels: C of the output.
        plan: Its stride, and the size of its output.
        options: How it is built.
        rpan: What is random in it.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        out_channels: int,
        plan: StagePlan,
        options: ERLAOptions,
        rpan: RPAN | None,
    ) -> None:
        super().__init__()
        published = options.unit == "emila"
        self.branches = (MSGDC if published else DenseConv)(dims, channels, out_channels, plan, options, rpan)
        self.attention = (
            ChannelAttention(out_channels, options.attention, options.gamma, rpan)
            if options.attention != "none"
            else None
        )
        self.shortcut = Projection(dims, channels, out_channels, plan.stride) if published else None
        self.activation = ACTIVATIONS[options.activation]()
        self.man = rpan.attention_noise("spatial_noise") if rpan else None
        self.published_noise = rpan is not None and rpan.man == "published"

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C_out, ...)."""
        o: Tensor = self.branches(x)
        gate = None if self.attention is None else self.attention(o)
        y = o if gate is None else o * gate
        if self.published_noise and self.man is not None:
            r = self.activation(y if self.shortcut is None else y + self.shortcut(x))
            focus = self.man(r).clamp(0, 1)
            attenuated: Tensor = o * (focus if gate is None else focus * gate) ** 3
            return attenuated
        if self.man is not None:
            y = y * self.man(torch.ones_like(y))
        if self.shortcut is None:
            return y
        activated: Tensor = self.activation(y + self.shortcut(x))
        return activated


class ERLA(nn.Module):
    """Units, a fusing convolution and a residual.

    Args:
        dims: Spatial axes.
        channels: C of the input.
        out_channels: C of the output.
        plan: Its stride, and the size of its output.
        options: How it is built.
        rpan: What is random in it.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        out_channels: int,
        plan: StagePlan,
        options: ERLAOptions,
        rpan: RPAN | None = None,
    ) -> None:
        super().__init__()
        then = replace(plan, stride=(1,) * dims)
        self.units = nn.Sequential(
            Unit(dims, channels, out_channels, plan, options, rpan),
            *(Unit(dims, out_channels, out_channels, then, options, rpan) for _ in range(options.units - 1)),
        )
        self.fuse = conv(dims, out_channels, out_channels, options.fuse_kernel)
        self.norm = norm(dims, out_channels)
        same = channels == out_channels and plan == then
        average = options.shortcut == "mean"
        self.shortcut = nn.Identity() if same else Projection(dims, channels, out_channels, plan.stride, average)
        self.activation = ACTIVATIONS[options.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C_out, ...), each axis divided by its stride."""
        y: Tensor = self.activation(self.norm(self.fuse(self.units(x))) + self.shortcut(x))
        return y
