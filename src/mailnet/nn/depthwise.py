"""Depthwise convolutions whose gradients a CPU computes faster than by oneDNN's own choice of a kernel.

For the gradient of the weights oneDNN has a quick kernel of 3x3 alone, and in bf16 none where the convolution is
strided. So the gradient of 5x5 weights is put together of those of four overlapping 3x3 corners, and that of a strided
convolution is computed in float32. What is gained: ``benchmarks/speed/forms.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn.forms import rewritten


def depthwise_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """Return ``functional.conv2d`` of (B, C, H, W) with a filter (C, 1, k, k) for each channel."""
    if not rewritten(x):
        return functional.conv2d(x, weight, bias, stride, padding, groups=len(weight))
    if torch.is_autocast_enabled("cpu"):
        low = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(low), weight.to(low), None if bias is None else bias.to(low)
        with torch.autocast("cpu", enabled=False):
            return depthwise_conv2d(x, weight, bias, stride, padding)
    if x.shape[2:] == (1, 1) and weight.shape[2:] == (2 * padding[0] + 1, 2 * padding[1] + 1):
        taps = weight[:, 0, padding[0], padding[1]][:, None, None]  # those beside the centre see padding alone
        return x * taps if bias is None else torch.addcmul(bias[:, None, None], x, taps)
    strided = max(stride) > 1
    if not (x.dtype == torch.bfloat16 if strided else weight.shape[2:] == (5, 5)):
        return functional.conv2d(x, weight, bias, stride, padding, groups=len(weight))
    apply: Callable[..., Tensor] = _Depthwise.apply
    return apply(x, weight, bias, stride, padding)


class Depthwise(nn.Conv2d):
    """A depthwise convolution for images, of the same parameters as ``nn.Conv2d``."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert not isinstance(self.padding, str)
        return depthwise_conv2d(input, weight, bias, self.stride, self.padding)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        kind, strided = x.dtype, max(ctx.stride) > 1
        if strided:
            gradient, x, weight = gradient.float(), x.float(), weight.float()
        by_corners = of_weight and not strided
        asked = (of_x, of_weight and not by_corners, of_bias)
        grad_x, grad_weight, grad_bias = _gradients(gradient, x, weight, ctx.stride, ctx.padding, asked)
        if by_corners:
            grad_weight = _of_corners(gradient, x, weight, ctx.padding)
        return *(None if grad is None else grad.to(kind) for grad in (grad_x, grad_weight, grad_bias)), None, None


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Any, padding: Any, asked: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weights and bias that are ``asked`` for; the others are None."""
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, (len(weight),), stride, padding, (1, 1), False, (0, 0), len(weight), asked
    )
    return found


def _of_corners(gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """The gradient of 5x5 weights without stride: of rows and columns 0 to 2 and 2 to 4."""
    high, wide = padding

    def corner(top: int, left: int) -> Tensor:
        seen = functional.pad(x, (wide - left, wide + left - 2, high - top, high + top - 2))
        asked = (False, True, False)
        return _gradients(gradient, seen, weight[:, :, :3, :3], (1, 1), (0, 0), asked)[1]

    above, below = (torch.cat([corner(top, 0), corner(top, 2)[..., 1:]], 3) for top in (0, 2))
    return torch.cat([above, below[:, :, 1:]], 2)
