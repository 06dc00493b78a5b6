"""The blocks of the published MAIL: EMILA, ERLA and EMCAM.

Notation as in the paper: B batch, C channels, H, W space, M modalities.
Source: Dhar, Haghighat, Zaidi, "Effective and Robust Multimodal Medical Image Analysis", KDD 2026, arXiv 2602.15346,
and the authors' public code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mailnet.nn.merged import merges, msgdc
from mailnet.nn.reference.layers import SameConv2d, batch_norm, channel_shuffle, dct_matrix

GROUPS = 16
SPACE = (2, 3)


class EMILA(nn.Module):
    """Multi-scale grouped and depthwise convolution (MSGDC), channel attention (CA) and a projected residual.

    Args:
        in_channels: Input channels, a multiple of 16.
        channels: Output channels C, a multiple of 16.
        stride: Step of the three branches and of the projection.

    Raises:
        ValueError: A number of channels that 16 does not divide.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        if in_channels % GROUPS or channels % GROUPS:
            raise ValueError(f"channels must be multiples of {GROUPS}, got {in_channels} -> {channels}")
        self.gpc = SameConv2d(in_channels, channels, 1, stride, groups=GROUPS)
        self.dwc3 = SameConv2d(in_channels, in_channels, 3, stride, groups=in_channels)
        self.dwc5 = SameConv2d(in_channels, in_channels, 5, stride, groups=in_channels)
        self.fuse = SameConv2d(channels + 2 * in_channels, channels, groups=2)
        self.fuse_bn = batch_norm(channels)
        self.ca_fc1 = nn.Linear(channels, channels // 4)
        self.ca_fc2 = nn.Linear(channels // 4, channels)
        self.ca_scale = nn.Parameter(2**0.5 * torch.randn(()))  # He-normal for a scalar, so its sign is random
        self.proj = SameConv2d(in_channels, channels, 1, stride)
        self.proj_bn = batch_norm(channels)

    def branches(self, x: Tensor) -> list[Tensor]:
        """Return GPC (B, C, H/s, W/s), DWC 3x3 and DWC 5x5 (B, C_in, H/s, W/s)."""
        return [self.gpc(x), self.dwc3(x), self.dwc5(x)]

    def msgdc(self, x: Tensor) -> Tensor:
        """Return the fused branches (B, C, H/s, W/s)."""
        merged = merges(x, self.fuse, self.gpc)
        fused: Tensor = self.fuse_bn(self.merged(x) if merged else self.mix(self.branches(x)))
        return fused

    def mix(self, branches: list[Tensor]) -> Tensor:
        """Return branches concatenated, shuffled and fused."""
        mixed: Tensor = self.fuse(channel_shuffle(torch.cat(branches, dim=1), GROUPS))
        return mixed

    def merged(self, x: Tensor) -> Tensor:
        """Return the branches of ``x``, mixed, in the form that is faster on a CPU."""
        return msgdc(x, self.gpc, [self.dwc3, self.dwc5], self.fuse, GROUPS)

    def excite(self, o: Tensor) -> Tensor:
        """Return CA's (B, C, 1, 1) before its scale and sigmoid."""
        # Published as (min + avg + max + sum) + (max - avg - min), where min and avg cancel.
        v = 2 * o.amax(SPACE) + o.sum(SPACE)
        z: Tensor = self.ca_fc2(F.relu(self.ca_fc1(v)))
        return z[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        o = self.msgdc(x)
        a = torch.sigmoid(self.ca_scale * self.excite(o))
        return F.relu(o * a + self.proj_bn(self.proj(x)))


class ERLA(nn.Module):
    """Two EMILAs, a 1x1 convolution and a residual.

    Args:
        in_channels: Input channels.
        channels: Output channels C.
        stride: Step of the first EMILA and of the shortcut.
        emila: Makes an EMILA from (in_channels, channels, stride).
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, emila: Callable[[int, int, int], nn.Module] = EMILA
    ) -> None:
        super().__init__()
        self.emila0 = emila(in_channels, channels, stride)
        self.bn_mid = batch_norm(channels)
        self.emila1 = emila(channels, channels, 1)
        self.pw = SameConv2d(channels, channels)
        self.bn_out = batch_norm(channels)
        self.short: nn.Module = nn.Identity()
        self.bn_short: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            self.short = SameConv2d(in_channels, channels, 1, stride)
            self.bn_short = batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C, ceil(H / stride), ceil(W / stride))."""
        y = F.relu(self.bn_mid(self.emila0(x)))
        y = self.bn_out(self.pw(self.emila1(y)))
        return F.relu(y + self.bn_short(self.short(x)))


class SharedMSGDC(nn.Module):
    """The q of EMSCA: an MSGDC with neither bias, norm, activation nor shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gpc = SameConv2d(channels, channels, groups=GROUPS, bias=False)
        self.dwc3 = SameConv2d(channels, channels, 3, groups=channels, bias=False)
        self.dwc5 = SameConv2d(channels, channels, 5, groups=channels, bias=False)
        self.fuse = SameConv2d(3 * channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keep (B, C, H, W)."""
        if merges(x, self.fuse, self.gpc):
            return msgdc(x, self.gpc, [self.dwc3, self.dwc5], self.fuse, shuffle=1)
        fused: Tensor = self.fuse(torch.cat([self.gpc(x), self.dwc3(x), self.dwc5(x)], dim=1))
        return fused


class EMCAM(nn.Module):
    """Cross-attention: MFIFA and EMSCA give one map A that scales every modality.

    The published module has two modalities; for M of them the chain of EMSCA becomes a ring. Its parameters that
    reach no output are left out, and initial values that the publication leaves open are ones.

    Args:
        channels: C, a multiple of 16.
        modalities: M.
    """

    dct: Tensor

    def __init__(self, channels: int, modalities: int = 2) -> None:
        super().__init__()
        self.register_buffer("dct", dct_matrix(channels)[:, :, None, None], persistent=False)
        self.freq_fc = nn.Linear(channels, channels)
        self.scale_high = nn.Parameter(torch.ones(()))
        self.scale_low = nn.Parameter(torch.ones(()))
        self.scale_mean = nn.Parameter(torch.ones(()))
        self.msgdc = SharedMSGDC(channels)
        self.global_scale = nn.Parameter(torch.ones(()))
        self.local_scales = nn.ParameterList([torch.ones(channels) for _ in range(modalities)])
        self.alphas = nn.ParameterList([torch.ones(channels) for _ in range(modalities)])

    def mfifa(self, x: Tensor) -> Tensor:
        """Return one modality's weighted High + Low + Mean (B, C, H, W)."""
        d = F.conv2d(x, self.dct.to(x.dtype))  # along the channels, at each pixel
        h1, l1, l2 = (
            torch.sigmoid(self.freq_fc(pooled))[:, :, None, None]
            for pooled in (d.amax(SPACE), d.mean(SPACE), d.amin(SPACE))
        )
        high = h1 + (h1 - l1) + (d - l2)
        low = l1 + l2
        return self.scale_high * high + self.scale_low * low + self.scale_mean * (high - low)

    def emsca(self, xs: Sequence[Tensor]) -> Tensor:
        """Return the pooled attention S (B, C, 1, 1) of all modalities."""
        pooled = [self._pool(x) for x in xs]
        for m, l_m in enumerate(pooled):
            pooled[m] = l_m + self._pool(l_m) + pooled[m - 1]  # m = 0 takes the last one's value, not updated yet
        terms = [_per_channel(scale) * l_m for scale, l_m in zip(self.local_scales, pooled, strict=True)]
        return torch.sigmoid(torch.stack(terms).sum(0))

    def attention(self, xs: Sequence[Tensor]) -> Tensor:
        """Return the map A (B, C, H, W) that all modalities share."""
        f = torch.sigmoid(torch.stack([self.mfifa(x) for x in xs]).sum(0))
        # The first modality's local scale is used a second time here, as published.
        return torch.sigmoid(self.global_scale * f + _per_channel(self.local_scales[0]) * self.emsca(xs))

    def gate(self, xs: Sequence[Tensor]) -> Tensor:
        """Return what every modality is multiplied by (B, C, H, W)."""
        return self.attention(xs)

    def forward(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """Map M tensors (B, C, H, W) to M tensors of the same shape."""
        gate = self.gate(xs)
        return [x * gate * _per_channel(alpha) for x, alpha in zip(xs, self.alphas, strict=True)]

    def _pool(self, x: Tensor) -> Tensor:
        q: Tensor = self.msgdc(x)
        return q.mean(SPACE, keepdim=True) + q.amax(SPACE, keepdim=True)


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
