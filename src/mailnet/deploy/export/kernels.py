"""Convolutions and linear layers whose kernels are drawn: all draws and combinations at once, as groups of one.

A convolution has one kernel for its whole batch. Studies that need different ones travel as channels: those of every
draw, and for each draw one copy for each kernel that some combination of modalities has. Then one convolution with as
many groups computes all, and each study keeps its own. The graph is as long as that of one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mailnet.deploy.export.combinations import Pass
from mailnet.deploy.export.recording import Table

Function: TypeAlias = Callable[..., Tensor]
CONVOLUTIONS: tuple[Function, ...] = (functional.conv1d, functional.conv2d, functional.conv3d)
FUNCTIONS: tuple[Function, ...] = (*CONVOLUTIONS, functional.linear)
_ORDER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True)
class Use:
    """A use of a kernel.

    Args:
        function: ``conv2d``, ``linear`` or another of ``FUNCTIONS``.
        x: (D N, C, ...).
        weight: The kernel.
        bias: (C_out,), or None.
        options: Stride, padding and dilation of a convolution.
        groups: Of a convolution.
    """

    function: Function
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]
    groups: int

    def plain(self) -> Tensor:
        """Return what the function gives."""
        if self.function is functional.linear:
            return functional.linear(self.x, self.weight, self.bias)
        return self.function(self.x, self.weight, self.bias, **self.options, groups=self.groups)


class Uses(TorchFunctionMode):
    """While it is entered, convolutions and linear functions are answered by another function.

    Args:
        answer: From a use to its result.
    """

    def __init__(self, answer: Callable[[Use], Tensor]) -> None:
        super().__init__()
        self._answer = answer

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func not in FUNCTIONS:
            return func(*args, **given)
        given |= dict(zip(_ORDER, args, strict=False))
        x, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
        return self._answer(Use(func, x, weight, bias, given, given.pop("groups", 1)))


def answer_each(use: Use, table: Table, state: Pass) -> Tensor:
    """Return what a function gives (D N, ...) where every study of every draw has a kernel of its own.

    Args:
        use: The function and the studies; its kernel is not read.
        table: The kernels, (D, K, ...).
        state: The pass at hand.
    """
    found = _linear(use, table, state) if use.function is functional.linear else _convolution(use, table, state)
    count = table.numbers.shape[1]  # found is (D, N, K, ...)
    rows = found.flatten(0, 2)
    if count == 1:
        return rows
    own = state.own(table.which).flatten()
    return rows.index_select(0, torch.arange(own.shape[0]) * count + own)


def _convolution(use: Use, table: Table, state: Pass) -> Tensor:
    draws, count = table.numbers.shape[:2]
    x = state.apart(use.x).movedim(0, 1)[:, :, None]  # (N, D, 1, C, ...)
    copies = x.expand(-1, -1, count, *(-1,) * (x.ndim - 3)).flatten(1, 3)
    bias = None if use.bias is None else use.bias.repeat(draws * count)
    y = use.function(copies, table.numbers.flatten(0, 2), bias, **use.options, groups=draws * count * use.groups)
    return y.reshape(-1, draws, count, y.shape[1] // (draws * count), *y.shape[2:]).movedim(1, 0)


def _linear(use: Use, table: Table, state: Pass) -> Tensor:
    x = state.apart(use.x)  # (D, N, ..., C)
    y = x.flatten(1, -2)[:, None] @ table.numbers.transpose(2, 3)  # (D, K, N ..., C_out)
    y = y if use.bias is None else y + use.bias
    return y.reshape(*y.shape[:2], *x.shape[1:-1], y.shape[-1]).movedim(1, 2)
