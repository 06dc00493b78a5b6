"""Clips that let gradients through: a surrogate for the backward pass of operations that are flat.

Source: Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _StraightThrough(TorchFunctionMode):
    """Replaces clips at two ends, which are flat beyond them, and leaves all else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func in (torch.clamp, torch.clip, Tensor.clamp, Tensor.clip):
            low, high = ([*args[1:], None, None])[:2]
            low, high = named.get("min", low), named.get("max", high)
            if low is not None and high is not None:
                x = args[0] if args else named["input"]
                return func(*args, **named).detach() + (x - x.detach())  # the last is 0, with a gradient of 1
        return func(*args, **named)


@contextmanager
def straight_through(on: bool = True) -> Iterator[None]:
    """Let gradients pass through clips at two ends (of the published attention noise), whose own are zero outside.

    Args:
        on: Whether anything happens.

    >>> x = torch.tensor([2.0], requires_grad=True)
    >>> with straight_through():
    ...     x.clamp(0, 1).sum().backward()
    >>> x.grad
    tensor([1.])
    """
    if not on:
        yield
        return
    with _StraightThrough():
        yield
