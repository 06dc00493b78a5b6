"""When a network computes as it is written, and when in another form that a CPU computes faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_as_defined: ContextVar[bool] = ContextVar("as_defined", default=False)


def exporting() -> bool:
    """Return whether the network is being compiled, exported or traced, so that no value may steer the program."""
    return torch.compiler.is_compiling() or bool(torch._C._get_tracing_state())


@contextmanager
def as_defined() -> Iterator[None]:
    """Compute as the networks are written, for what counts operations, records layers or compares with it."""
    token = _as_defined.set(True)
    try:
        yield
    finally:
        _as_defined.reset(token)


def rewritten(x: Tensor) -> bool:
    """Return whether what becomes of ``x`` is computed in the forms of ``merged`` and ``depthwise``.

    It is on a CPU, unless the network is exported or transformed by ``torch.func``, which these forms do not know.
    """
    if exporting() or torch._C._are_functorch_transforms_active():
        return False
    return x.device.type == "cpu" and not _as_defined.get()
