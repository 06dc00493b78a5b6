"""What makes the published MAIL into Robust-MAIL: random projection filters (RPF) and modulated attention noise (MAN).

Source: Dhar, Haghighat, Zaidi, arXiv 2602.15346, and the authors' public code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mailnet.nn.merged import fuse_branches
from mailnet.nn.noise import NoiseKind, NoiseSource
from mailnet.nn.reference.blocks import EMCAM, EMILA, GROUPS
from mailnet.nn.reference.layers import SameConv2d, batch_norm, pad_same


class RPFConv(SameConv2d):
    """A convolution whose last filters are Gaussian with std 1 / kernel, never trained and redrawn at every forward.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        kernel: Side of the kernel in pixels.
        stride: Step in pixels.
        groups: Groups of channels; ``in_channels`` with ``depthwise``.
        ratio: Share of random filters: ``round(ratio * channels)``, in [0, 1).
        depthwise: Each input channel has its own filter, so the random filters see the last channels only; otherwise
            the trained and the random filters are two grouped convolutions of the whole input.

    Raises:
        ValueError: A ratio outside [0, 1), or filters that the groups do not divide.
    """

    fixed_kernel: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        ratio: float = 0.0,
        depthwise: bool = False,
    ) -> None:
        random = round(ratio * channels)
        if not 0 <= ratio < 1 or random == channels:
            raise ValueError(f"the ratio of random filters must leave one to train (0 <= ratio < 1), got {ratio}")
        if not depthwise and random % groups:
            raise ValueError(
                f"ratio {ratio} makes {random} of {channels} filters random, which {groups} groups do not divide; "
                f"choose a ratio that gives a multiple of {groups}"
            )
        trained = channels - random
        if depthwise:
            super().__init__(trained, trained, kernel, stride, groups=trained)
        else:
            super().__init__(in_channels, trained, kernel, stride, groups=groups)
        self.noise = NoiseSource()
        self.depthwise = depthwise
        self.random = random
        if random:
            shape = (random, self.weight.shape[1], kernel, kernel)
            # Mode off: these filters serve every forward, since the layers behind have learned to see some.
            self.register_buffer("fixed_kernel", torch.randn(shape) / kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, H / stride, W / stride), the random part last."""
        if not self.random:
            return super().forward(x)
        kernel = self.fixed_kernel.to(x.dtype)
        if self.noise.mode != "off":
            kernel = self.noise.draw("rpf_kernel", kernel.shape, 1 / self.kernel_size[0], x)
        known, projected = x, x
        if self.depthwise:
            known, projected = x[:, : -self.random], x[:, -self.random :]
        groups = self.random if self.depthwise else self.groups
        padded = pad_same(projected, self.kernel_size[0], self.stride[0])
        return torch.cat([super().forward(known), F.conv2d(padded, kernel, stride=self.stride, groups=groups)], dim=1)


def modulated_noise(source: NoiseSource, kind: NoiseKind, like: Tensor, std: float, weight: Tensor | float) -> Tensor:
    """Return MAN n (w + n w) of the shape of ``like``, n drawn from N(0, std^2)."""
    shape = like.flatten(1).shape if kind == "channel_noise" else like.shape
    n = source.draw(kind, shape, std, like).reshape(like.shape)
    return n * (weight + n * weight)


class RobustEMILA(EMILA):
    """EMILA with RPF and a batch norm in its branches, and MAN on its channel attention and on its output.

    Args:
        in_channels: Input channels, a multiple of 16.
        channels: Output channels C, a multiple of 16.
        stride: Step of the three branches and of the projection.
        gpc_ratio: Share of random filters of the grouped convolution.
        dwc_ratio: Share of random filters of the two depthwise convolutions.
        noise_std: Standard deviation of the noise n.

    Raises:
        ValueError: Channels or ratios that do not fit 16 groups.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        gpc_ratio: float = 0.0,
        dwc_ratio: float = 0.0,
        noise_std: float = 0.6,
    ) -> None:
        super().__init__(in_channels, channels, stride)
        self.gpc = RPFConv(in_channels, channels, 1, stride, GROUPS, gpc_ratio)
        self.gpc_bn = batch_norm(channels)
        self.dwc3 = RPFConv(in_channels, in_channels, 3, stride, in_channels, dwc_ratio, depthwise=True)
        self.dwc3_bn = batch_norm(in_channels)
        self.dwc5 = RPFConv(in_channels, in_channels, 5, stride, in_channels, dwc_ratio, depthwise=True)
        self.dwc5_bn = batch_norm(in_channels)
        self.noise = NoiseSource()
        self.noise_std = noise_std

    def branches(self, x: Tensor) -> list[Tensor]:
        """Return the normalised GPC, DWC 3x3 and DWC 5x5."""
        return [self.gpc_bn(self.gpc(x)), self.dwc3_bn(self.dwc3(x)), self.dwc5_bn(self.dwc5(x))]

    def merged(self, x: Tensor) -> Tensor:
        """Return the branches, shuffled and fused; between the convolutions are batch norms, so they are not merged."""
        return fuse_branches(self.branches(x), self.fuse, GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        o = self.msgdc(x)
        z = self.excite(o)
        z = (z + modulated_noise(self.noise, "channel_noise", z, self.noise_std, 1.0)).clamp(0, 1)
        a = torch.sigmoid(self.ca_scale * z)
        r = F.relu(o * a + self.proj_bn(self.proj(x)))
        p = (r + modulated_noise(self.noise, "spatial_noise", r, self.noise_std, 1.0)).clamp(0, 1)
        return o * (p * a) ** 3


class RobustEMCAM(EMCAM):
    """EMCAM with MAN on its map.

    Args:
        channels: C, a multiple of 16.
        modalities: M.
        noise_std: Standard deviation of the noise n.
    """

    def __init__(self, channels: int, modalities: int = 2, *, noise_std: float = 0.6) -> None:
        super().__init__(channels, modalities)
        self.noise = NoiseSource()
        self.noise_std = noise_std
        self.noise_weight = nn.Parameter(torch.ones(()))

    def gate(self, xs: Sequence[Tensor]) -> Tensor:
        """Return A A'^5 with A' = clip(A + noise, 0, 1) (B, C, H, W)."""
        a = self.attention(xs)
        n = modulated_noise(self.noise, "attention_noise", a, self.noise_std, self.noise_weight)
        return a * (a + n).clamp(0, 1) ** 5
