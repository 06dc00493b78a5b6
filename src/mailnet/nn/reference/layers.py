"""Pieces that behave as their TensorFlow counterparts: "same" padding, batch norm, initial values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mailnet.nn.depthwise import depthwise_conv2d


def same_pads(x: Tensor, kernel: int, stride: int) -> list[int]:
    """Return the pixels to add to (B, C, H, W) left, right, above and below, so that ceil(size / stride) come out.

    An odd pixel goes to the right and bottom.
    """
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return pads


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad (B, C, H, W) so that a convolution gives ceil(size / stride); see ``same_pads``."""
    pads = same_pads(x, kernel, stride)
    return F.pad(x, pads, value=value) if any(pads) else x


class SameConv2d(nn.Conv2d):
    """A convolution with "same" padding for any input size.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        kernel: Side of the kernel in pixels.
        stride: Step in pixels.
        groups: Groups of channels.
        bias: Whether there is a bias.
    """

    def __init__(
        self, in_channels: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, channels, kernel, stride=stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        pads = same_pads(x, self.kernel_size[0], self.stride[0])
        padding = (pads[2], pads[0])
        if pads[0] != pads[1] or pads[2] != pads[3]:
            x, padding = F.pad(x, pads), (0, 0)
        if self.groups == self.in_channels == self.out_channels:
            return depthwise_conv2d(x, self.weight, self.bias, self.stride, padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


def max_pool_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Max-pool with "same" padding by -inf."""
    return F.max_pool2d(pad_same(x, kernel, stride, value=-math.inf), kernel, stride)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with Keras' constants."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave ``groups`` groups of the channels of (B, C, H, W)."""
    b, c, h, w = x.shape
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II as a (size, size) matrix that acts on columns."""
    k = torch.arange(size, dtype=torch.float64)[:, None]
    n = torch.arange(size, dtype=torch.float64)[None, :]
    matrix = math.sqrt(2 / size) * torch.cos(math.pi * (2 * n + 1) * k / (2 * size))
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def initialise(model: nn.Module) -> None:
    """Give convolutions and linear layers Keras' default initial values: Glorot-uniform kernels and zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
