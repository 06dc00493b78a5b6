"""How a random network meets an attack: which numbers it draws, and whether it draws any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from mailnet.nn.noise import get_noise, set_noise

# Fresh numbers at every pass, the same numbers at every pass, or none.
NoiseUse: TypeAlias = Literal["sample", "frozen", "off"]


@torch.no_grad()
def is_random(model: nn.Module, inputs: dict[str, Tensor], present: dict[str, Tensor]) -> bool:
    """Return whether a network answers two passes over the same studies differently.

    Args:
        model: The network, in evaluation mode; a source of random numbers that it has is put into the mode ``sample``.
        inputs: Modality -> (B, ...).
        present: Modality -> (B,) bool.
    """
    source = get_noise(model)
    if source is not None:
        set_noise(model, "sample")
    try:
        # Dropout that was left on draws from torch's own numbers, which a question must not move on.
        with torch.random.fork_rng():
            first, second = model(inputs, present), model(inputs, present)
    finally:
        if source is not None:
            set_noise(model, source.mode, source.draws, source.generator, source.shared)
    return any(not torch.equal(first[name], second[name]) for name in first)


@contextmanager
def drawing(model: nn.Module, noise: NoiseUse, generator: torch.Generator | None) -> Iterator[None]:
    """Let a network draw so; afterwards its source of random numbers is what it was.

    Args:
        model: The network. One without a source of ours, as with dropout that stays on, draws from torch's global
            generators, which are then led by ``generator``.
        noise: See ``Problem``.
        generator: Of the numbers; None means torch's global one.
    """
    if noise == "frozen":
        generator = torch.Generator().manual_seed(0)
    before = get_noise(model)
    if before is None:
        with _global_numbers(generator):
            yield
        return
    set_noise(model, "off" if noise == "off" else "sample", generator=generator, shared=noise == "frozen")
    try:
        yield
    finally:
        set_noise(model, before.mode, before.draws, before.generator, before.shared)


@contextmanager
def _global_numbers(generator: torch.Generator | None) -> Iterator[None]:
    """Let torch's global generators go on from a number of a generator, and put them back afterwards."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        yield
