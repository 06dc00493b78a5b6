"""A network whose layers lose what they have learnt, from the output down."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a network, whose generator of random numbers goes on from where the network's stands."""
    sources = [source for m in model.modules() if isinstance(source := getattr(m, "noise", None), NoiseSource)]
    memo: dict[int, Any] = {}
    for generator in (source.generator for source in sources if source.generator is not None):
        if id(generator) not in memo:  # deepcopy cannot
            memo[id(generator)] = torch.Generator(generator.device).set_state(generator.get_state())
    return copy.deepcopy(model, memo)


@torch.no_grad()
def layers_from_output(model: nn.Module, batch: Batch) -> list[list[str]]:
    """Return the names of the modules that hold parameters of their own, from the output to the inputs.

    The order is that in which they finish in a forward pass. What is never called itself, as a dict of parameters,
    finishes with the module around it.

    Args:
        model: The network.
        batch: Studies for the pass.

    Returns:
        Two lists: the part of the network that gives the logits (the heads), and all below it.
    """
    finished: dict[nn.Module, int] = {}

    clock = itertools.count()

    def note(module: nn.Module, *_: Any) -> None:
        finished[module] = next(clock)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        model(batch.inputs, batch.present)
    finally:
        for hook in hooks:
            hook.remove()
    modules = dict(model.named_modules())

    def time(name: str) -> int:
        while modules[name] not in finished:
            name = name.rpartition(".")[0]
        return finished[modules[name]]

    holders = [name for name, module in modules.items() if any(True for _ in module.parameters(recurse=False))]
    order = sorted(holders, key=time, reverse=True)
    last = max((name for name, _ in model.named_children() if modules[name] in finished), key=time, default="")
    # What finishes only with the network itself cannot be told from the heads.
    heads = [name for name in order if name.partition(".")[0] == last or time(name) == finished[model]]
    below = [name for name in order if name not in heads]
    return [heads, below] if below else [order[:1], order[1:]]


@torch.no_grad()
def randomise(model: nn.Module, names: Sequence[str], batch: Batch, generator: torch.Generator) -> None:
    """Let modules lose what they have learnt, in place.

    The numbers of each parameter are shuffled: nothing that was learnt is left in their places, and their distribution,
    on which the size of activations hangs, stays. The running statistics of batch normalisation, which are those of
    the network that was, are measured anew on the batch. A parameter of one number stays.

    Args:
        model: The network, in evaluation mode.
        names: Of the modules; of their own parameters, not those of modules within.
        batch: Studies on which statistics are measured.
        generator: Of the shuffling, on the CPU.
    """
    norms: list[_BatchNorm] = []
    for name in names:
        module = model.get_submodule(name)
        for parameter in module.parameters(recurse=False):
            mixed = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.detach().flatten()[mixed].reshape(parameter.shape))
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            norms.append(module)
    with _measuring(norms):
        model(batch.inputs, batch.present)


@contextmanager
def _measuring(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    # One layer after the other sees what the measured ones before it give, as they all will afterwards.
    def measure(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        axes = (0, *range(2, given[0].ndim))
        if given[0].numel() // given[0].shape[1] > 1:
            var, mean = torch.var_mean(given[0], axes)
            norm = cast(_BatchNorm, module)
            cast(Tensor, norm.running_mean).copy_(mean)
            cast(Tensor, norm.running_var).copy_(var)

    hooks = [module.register_forward_pre_hook(measure) for module in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
