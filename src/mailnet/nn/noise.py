"""Where the random numbers of a network come from: one source, three modes, an optional generator.

A layer that draws keeps a source as its attribute ``noise`` and asks ``noise.draw``; a network shares one source among
all its layers through ``set_noise``, and its forward pass averages over draws through ``NoiseSource.average``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mailnet.specs import TaskSpec

NoiseMode: TypeAlias = Literal["off", "mean", "sample"]
NoiseKind: TypeAlias = Literal["rpf_kernel", "weight_noise", "channel_noise", "spatial_noise", "attention_noise"]

NOISE_MODES: tuple[str, ...] = get_args(NoiseMode)
OF_WEIGHTS = ("rpf_kernel", "weight_noise")  # what all studies of a batch share


class NoiseSource:
    """Gives every random layer of a network its numbers.

    Args:
        mode: ``sample`` (fresh numbers at every forward pass), ``mean`` (``draws`` forward passes with fresh numbers,
            their probabilities averaged) or ``off`` (additive noise is zero; random filters keep one fixed draw).
        draws: Forward passes that ``mean`` averages.
        generator: Where the numbers come from. They are drawn on its device and moved, so a CPU generator gives the
            same numbers on every device and a CUDA generator saves the transfer. None means torch's global generator
            of the layer's device, which training seeds for each batch.
        shared: Every study of a batch gets the same numbers, so that its prediction does not depend on its place. It
            still depends on which modalities are in the batch at all, since only layers that run draw: studies that
            have different modalities belong in different batches, each with the generator seeded anew.

    Raises:
        ValueError: An unknown mode, or fewer than one draw.
    """

    def __init__(
        self,
        mode: NoiseMode = "sample",
        draws: int = 10,
        generator: torch.Generator | None = None,
        shared: bool = False,
    ) -> None:
        if mode not in NOISE_MODES:
            raise ValueError(f"mode '{mode}' is not one of {', '.join(NOISE_MODES)}")
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        self.mode = mode
        self.draws = draws
        self.generator = generator
        self.shared = shared

    def draw(self, kind: NoiseKind, shape: Sequence[int], std: float, like: Tensor) -> Tensor:
        """Return numbers from N(0, std^2), or zeros in mode ``off``.

        Args:
            kind: What the numbers are for; it changes nothing here, but lets recorded draws be checked on replay.
            shape: Shape of the result, the studies first unless these are filters.
            std: Standard deviation.
            like: A tensor whose device and type the result takes.
        """
        if self.mode == "off":
            return like.new_zeros(shape)
        drawn = (1, *shape[1:]) if self.shared and kind not in OF_WEIGHTS else tuple(shape)
        if self.generator is None:  # apart, since torch.export follows randn only without a generator
            numbers = torch.randn(drawn, device=like.device)
        else:
            numbers = torch.randn(drawn, generator=self.generator, device=self.generator.device)
        numbers = (numbers * std).to(like.device, like.dtype)
        return numbers.expand(tuple(shape)) if self.shared else numbers

    def average(self, forward: Callable[[], dict[str, Tensor]], tasks: Mapping[str, TaskSpec]) -> dict[str, Tensor]:
        """Return the logits of one forward pass, or in mode ``mean`` those of ``draws`` passes averaged.

        Args:
            forward: One forward pass with fresh draws, giving task -> logits (B, outputs).
            tasks: The network's tasks; they say how logits become probabilities.
        """
        if self.mode != "mean" or self.draws == 1:
            return forward()
        return mean_logits([forward() for _ in range(self.draws)], tasks)


def mean_logits(draws: Sequence[Mapping[str, Tensor]], tasks: Mapping[str, TaskSpec]) -> dict[str, Tensor]:
    """Average the probabilities of several draws and return them as logits.

    Probabilities are averaged, not logits, since a random classifier's prediction is its expected probability. Softmax
    tasks return the logarithm of the mean, sigmoid tasks its log-odds, so that softmax or sigmoid give it back.

    Args:
        draws: Task -> logits (B, outputs), one dict a draw.
        tasks: The tasks by name.

    >>> tasks = {"t": TaskSpec("t", ("no", "yes"))}
    >>> draws = [{"t": torch.tensor([[0.5, 0.5]]).log()}, {"t": torch.tensor([[0.1, 0.9]]).log()}]
    >>> [round(p, 4) for p in mean_logits(draws, tasks)["t"].softmax(1)[0].tolist()]
    [0.3, 0.7]
    """
    means: dict[str, Tensor] = {}
    for name in draws[0]:
        logits = torch.stack([draw[name] for draw in draws])  # (n, B, outputs)
        if tasks[name].kind in ("binary", "multiclass"):
            means[name] = logits.log_softmax(-1).logsumexp(0) - math.log(len(draws))
        else:
            means[name] = F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)
    return means


def set_noise(
    model: nn.Module,
    mode: NoiseMode = "sample",
    draws: int = 10,
    generator: torch.Generator | None = None,
    shared: bool = False,
) -> NoiseSource:
    """Give a network and all its layers one new source of random numbers.

    Args:
        model: A network or layer that draws random numbers.
        mode: See ``NoiseSource``.
        draws: See ``NoiseSource``.
        generator: See ``NoiseSource``.
        shared: See ``NoiseSource``.

    Returns:
        The source.

    Raises:
        ValueError: Nothing in the network is random.
    """
    source = NoiseSource(mode, draws, generator, shared)
    holders = list(_holders(model))
    if not holders:
        raise ValueError(f"{type(model).__name__} draws no random numbers, so its noise cannot be set")
    for module in holders:
        module.noise = source  # type: ignore[assignment]
    return source


def get_noise(model: nn.Module) -> NoiseSource | None:
    """Return a network's source of random numbers, or None where nothing in it is random."""
    first = next(_holders(model), None)
    return None if first is None else first.noise  # type: ignore[return-value]


def _holders(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if isinstance(getattr(module, "noise", None), NoiseSource))
