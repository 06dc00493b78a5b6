"""How large a network is, and how much it computes for one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mailnet.nn.forms import as_defined
from mailnet.nn.noise import NoiseSource, get_noise
from mailnet.nn.registry import Network
from mailnet.specs import ModalitySpec


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters.

    Args:
        trainable: Parameters that training changes.
        total: These, the frozen ones, and stored numbers such as batch norm's running mean and variance (Keras counts
            them too) and fixed random filters.
    """

    trainable: int
    total: int


@dataclass(frozen=True)
class OperationCount:
    """What one forward pass computes for one study: convolutions, matrix products and attention.

    Args:
        macs: Multiply-adds, which papers often print as "FLOPs".
        flops: Floating-point operations, two a multiply-add.
        modules: Top-level module -> its multiply-adds; ``forward`` holds what belongs to none of them.
    """

    macs: int
    flops: int
    modules: dict[str, int]


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count a network's parameters.

    >>> count_parameters(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    ParameterCount(trainable=24, total=32)
    """
    trainable = {id(p): p.numel() for p in model.parameters() if p.requires_grad}
    stored = {id(t): t.numel() for t in model.state_dict(keep_vars=True).values() if t.is_floating_point()}
    return ParameterCount(sum(trainable.values()), sum(stored.values()))


def count_operations(
    model: nn.Module, batch: int = 1, sizes: Mapping[str, tuple[int, ...]] | None = None
) -> OperationCount:
    """Count what a network computes for one study that has every modality, in evaluation mode.

    A random network whose noise is in mode ``mean`` is counted with all its draws.

    Args:
        model: A network from ``create_model``.
        batch: Studies in the counted pass; the result is per study.
        sizes: Modality -> (H, W) or (D, H, W) in pixels, in place of the size in its spec.

    Raises:
        ValueError: A modality has no size, or ``sizes`` names one that the network does not have.
    """
    modalities = cast(Network, model).modalities
    if unknown := set(sizes or {}) - set(modalities):
        raise ValueError(f"sizes names {', '.join(sorted(unknown))}; the network has {', '.join(modalities)}")
    parameter = next(model.parameters())
    inputs = {
        name: _example(spec, batch, (sizes or {}).get(name, spec.size)).to(parameter)
        for name, spec in modalities.items()
    }
    training = [module for module in model.modules() if module.training]
    noise = get_noise(model) or NoiseSource()
    # A throw-away generator, so that counting does not change what the network draws next.
    generator, noise.generator = noise.generator, torch.Generator()
    counter = FlopCounterMode(display=False)
    try:
        model.eval()
        # Of attention in one fused kernel the counter sees nothing on a CPU.
        with torch.no_grad(), as_defined(), sdpa_kernel(SDPBackend.MATH), counter:
            model(inputs)
    finally:
        noise.generator = generator
        for module in training:
            module.training = True
    modules = {name: count // (2 * batch) for name, count in _by_module(model, counter).items()}
    flops = counter.get_total_flops() // batch
    return OperationCount(flops // 2, flops, modules)


def _example(spec: ModalitySpec, batch: int, size: tuple[int, ...] | None) -> Tensor:
    if spec.kind == "tabular":
        return torch.zeros(batch, spec.channels)
    if size is None:
        raise ValueError(f"modality '{spec.name}' has no size; give one, as in sizes={{'{spec.name}': (224, 224)}}")
    if len(size) != spec.spatial_dims:
        raise ValueError(f"modality '{spec.name}': a size of {spec.spatial_dims} numbers is needed, got {size}")
    return torch.full((batch, spec.channels, *size), 0.5)


def _by_module(model: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    # The counter names a module by its path, and counts in each also what the modules within it do. Containers and
    # modules whose methods are called one by one have no entry of their own: add up the outermost entries there are.
    root = f"{type(model).__name__}."
    counts = {
        path.removeprefix(root): sum(by_operation.values())
        for path, by_operation in counter.get_flop_counts().items()
        if path.startswith(root)
    }
    modules = dict.fromkeys((name for name, _ in model.named_children()), 0)
    for path, count in counts.items():
        parts = path.split(".")
        if not any(".".join(parts[:length]) in counts for length in range(1, len(parts))):
            modules[parts[0]] += count
    modules["forward"] = counter.get_total_flops() - sum(modules.values())
    return {name: count for name, count in modules.items() if count}
