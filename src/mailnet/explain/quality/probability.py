"""The probability of one class a study, from a network or from any function that gives probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from mailnet.explain.score import class_probability
from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.nn.noise import get_noise, set_noise
from mailnet.nn.registry import Network

# A network, or a function of studies and of the class (B,) of each that gives its probability (B,).
Model: TypeAlias = nn.Module | Callable[[Batch, Tensor], Tensor]
SEED = 0


@torch.no_grad()
def target_probability(model: Model, batch: Batch, task: str, target: Tensor, draws: int = 10) -> Tensor:
    """Return the probability of one class of each study, of an ordinal task that of at least the class.

    A random network is asked with the same random numbers for every study and at every call, averaged over draws, so
    that two answers differ by what was changed in the images and not by luck. One whose noise is off is asked as it is.

    Args:
        model: The network, in evaluation mode, or a function of batch and target that gives (B,) probabilities.
        batch: B studies, all with the same modalities where the network is random.
        task: The task.
        target: (B,) the class of each study.
        draws: Forward passes that are averaged where the network is random.

    Returns:
        (B,) float32 on the CPU.

    Raises:
        ValueError: The network is in training.
    """
    if not isinstance(model, nn.Module):
        return torch.as_tensor(model(batch, target)).cpu().float()
    if model.training:
        raise ValueError("the network is in training; call model.eval() first")
    first = next(model.parameters(), None)
    moved = batch if first is None else batch.to(first.device)
    spec = cast(Network, model).tasks[task]
    found = probabilities(spec, _logits(model, moved, draws)[task].float())
    return class_probability(spec, found, target.to(found.device)).cpu()


def _logits(model: nn.Module, batch: Batch, draws: int) -> dict[str, Tensor]:
    network, source = cast(Network, model), get_noise(model)
    if source is None or source.mode == "off":
        return network(batch.inputs, batch.present)
    set_noise(model, "mean", draws, torch.Generator().manual_seed(SEED), shared=True)
    try:
        return network(batch.inputs, batch.present)
    finally:
        set_noise(model, source.mode, source.draws, source.generator, source.shared)
