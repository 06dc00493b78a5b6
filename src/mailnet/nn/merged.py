"""MSGDC's grouped convolutions as products of dense matrices, which a CPU computes faster than the groups.

Between MSGDC's input and its batch norm everything is linear. As defined, it is a convolution in 16 narrow groups, a
concatenation, a shuffle of the channels and a convolution in two groups: few multiply-adds, between which the features
are copied again and again. Merged, the grouped 1x1, the shuffle and the fusing convolution are one matrix for each
branch, composed of the same parameters at every call, whose gradients therefore are the same too. A network computes so
where that is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn.forms import rewritten

Convolution: TypeAlias = nn.Conv2d | nn.Conv3d

# Places of a batch for each channel from which on dense matrices cost less than they save (benchmarks/speed/forms.py).
PLACES_A_CHANNEL = 32


def merges(x: Tensor, fuse: Convolution, grouped: nn.Module) -> bool:
    """Return whether an MSGDC of features is computed merged.

    It is where they are of images and lie channels last, there are enough places for its outputs, and no hook waits for
    a call of the two convolutions, which merged are not called.

    Args:
        x: Features (B, C, ...).
        fuse: The convolution that fuses the branches.
        grouped: The branch that may be composed with it.
    """
    if not rewritten(x) or any(_has_hooks(module) for module in (fuse, grouped)):
        return False
    if x.ndim != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    return x.numel() >= PLACES_A_CHANNEL * fuse.out_channels * x.shape[1]


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks
    )


def fuse_branches(parts: Sequence[Tensor], fuse: Convolution, shuffle: int) -> Tensor:
    """Return what ``fuse`` makes of branches (B, C_i, ...) that are concatenated and shuffled in ``shuffle`` groups."""
    matrices = fusing_matrices(fuse, shuffle, [part.shape[1] for part in parts])
    return _sum(parts, matrices, fuse.bias)


def msgdc(x: Tensor, grouped: Convolution, depthwise: Sequence[nn.Module], fuse: Convolution, shuffle: int) -> Tensor:
    """Return MSGDC of (B, C, ...) before its batch norm.

    Args:
        x: Features.
        grouped: The 1x1 convolution in groups, with bias or without.
        depthwise: The other branches.
        fuse: The 1x1 convolution that fuses them, in groups or not.
        shuffle: Groups of the shuffle before it; 1 for none.
    """
    groups = grouped.groups
    narrow = grouped.weight.reshape(groups, -1, grouped.in_channels // groups)  # (groups, C_out and C of each)
    others = [branch(x) for branch in depthwise]
    first, *rest = fusing_matrices(fuse, shuffle, [grouped.out_channels, *(other.shape[1] for other in others)])
    with torch.autocast(x.device.type, enabled=False):  # parameters are composed in full precision
        composed = torch.einsum("ogk,gkc->ogc", first.reshape(len(first), groups, -1), narrow).flatten(1)
        bias = fuse.bias
        if grouped.bias is not None:
            bias = first @ grouped.bias if bias is None else torch.addmv(bias, first, grouped.bias)
    seen: tuple[slice, ...] = (slice(None), slice(None), *(slice(None, None, step) for step in grouped.stride))
    return _sum([x[seen], *others], [composed, *rest], bias)


def fusing_matrices(fuse: Convolution, shuffle: int, sizes: Sequence[int]) -> list[Tensor]:
    """Return a matrix (C_out, C_i) for each of the branches that a shuffle and a 1x1 convolution fuse.

    Args:
        fuse: The convolution, in groups or not.
        shuffle: Groups of the shuffle; 1 for none.
        sizes: C_i of the branches in the order in which they are concatenated.
    """
    channels, groups = sum(sizes), fuse.groups
    weight = fuse.weight.reshape(groups, -1, channels // groups)
    # which channel, of the concatenated ones, comes to each place by the shuffle
    order = torch.arange(channels, device=weight.device).reshape(shuffle, -1).t().reshape(groups, 1, -1)
    matrix = weight.new_zeros(*weight.shape[:2], channels).scatter(2, order.expand_as(weight), weight)
    return list(torch.split(matrix.flatten(0, 1), list(sizes), 1))


def _sum(parts: Sequence[Tensor], matrices: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    rows = [part.movedim(1, -1).flatten(0, -2) for part in parts]
    total = functional.linear(rows[0], matrices[0], bias)
    for row, matrix in zip(rows[1:], matrices[1:], strict=True):
        total = torch.addmm(total, row, matrix.t())
    shape = parts[0].shape
    return total.reshape(shape[0], *shape[2:], -1).movedim(-1, 1)
