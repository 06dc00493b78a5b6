"""States that a network in training is in for a while, and what it is afterwards as if it had not been."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluated(network: nn.Module, *, frozen: bool) -> Iterator[None]:
    """Put a network into evaluation mode: batch norm uses its running statistics and leaves them, nothing is dropped.

    Args:
        network: The network; random ones go on drawing.
        frozen: Its parameters need no gradient, so that backward keeps and computes less.
    """
    modules = [module for module in network.modules() if module.training]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad] if frozen else []
    network.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.training = True
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def unchanged_buffers(network: nn.Module) -> Iterator[None]:
    """Give a network's buffers (batch-norm statistics) the values back that they had before the block."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in kept:
                buffer.copy_(values)
