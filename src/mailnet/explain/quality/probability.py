"""The probability of one class a study, from a network or from any function that gives probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mailnet.nn.batch import Batch
from mailnet.nn.heads import probabilities
from mailnet.nn.noise import get_noise, set_noise
from mailnet.specs import TaskSpec

# A network, or a function from studies to the (B, K) probabilities of the task.
Model: TypeAlias = nn.Module | Callable[[Batch], Tensor]
SEED = 0


@torch.no_grad()
def target_probability(model: Model, batch: Batch, task: str, target: Tensor, draws: int = 10) -> Tensor:
    """Return the probability of one class of each study.

    A random network is asked with the same random numbers for every study and at every call, averaged over draws, so
    that two answers differ by what was changed in the images and not by luck.

    Args:
        model: The network, in evaluation mode, or a function of the batch that gives (B, K) probabilities.
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
        found = torch.as_tensor(model(batch))
    else:
        if model.training:
            raise ValueError("the network is in training; call model.eval() first")
        found = _network(model, batch, task, draws)
    return found.cpu().float().gather(1, target.cpu()[:, None])[:, 0]


def _network(model: nn.Module, batch: Batch, task: str, draws: int) -> Tensor:
    first = next(model.parameters(), None)
    moved = batch if first is None else batch.to(first.device)
    spec: TaskSpec = model.tasks[task]  # type: ignore[index, assignment]
    source = get_noise(model)
    if source is None:
        return probabilities(spec, model(moved.inputs, moved.present)[task].float())
    set_noise(model, "mean", draws, torch.Generator().manual_seed(SEED), shared=True)
    try:
        return probabilities(spec, model(moved.inputs, moved.present)[task].float())
    finally:
        set_noise(model, source.mode, source.draws, source.generator, source.shared)
