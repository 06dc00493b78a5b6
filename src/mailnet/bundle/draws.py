"""Several answers to the same study, by whose spread uncertainty is measured.

They come from the network as it is: the members of an ensemble, else draws of a random network's numbers, else dropout
(Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016). A draw is one network, the same for every study:
its numbers do not depend on which studies are asked together, or in which order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from mailnet.bundle.reliability import Reliability
from mailnet.errors import ConfigError
from mailnet.nn.batch import Batch
from mailnet.nn.ensemble import Ensemble
from mailnet.nn.heads import probabilities
from mailnet.nn.noise import get_noise, set_noise
from mailnet.nn.registry import Network, default_options
from mailnet.specs import TaskSpec

DrawSource: TypeAlias = Literal["members", "noise", "dropout"]
AVERAGED = 10  # draws of a random network that make a prediction
# What each drops for all studies alike: single features, or whole channels.
_OF_FEATURES = (nn.Dropout,)
_OF_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def draw_source(model: nn.Module, name: str) -> DrawSource:
    """Return where a network's draws come from.

    Args:
        model: The network.
        name: Its name in the registry.

    Raises:
        ConfigError: Nothing in it is random, and it is no ensemble: all draws would be alike.
    """
    if isinstance(model, Ensemble):
        return "members"
    if get_noise(model) is not None:
        return "noise"
    if _dropouts(model):
        return "dropout"
    able = "dropout" in default_options(name)
    train = "train it with --set model.options.dropout=0.2, or " if able else ""
    raise ConfigError(
        f"the network '{name}' has nothing to draw from: no random layers, no dropout, and it is no ensemble",
        remedy=f"For its uncertainty {train}make an ensemble of runs that differ in train.seed: "
        "mailnet ensemble RUN RUN ... --out FOLDER",
    )


@torch.inference_mode()
def draw_batch(
    model: nn.Module, tasks: Mapping[str, TaskSpec], batch: Batch, draws: int, seed: int, device: torch.device
) -> dict[str, np.ndarray]:
    """Return task -> (S, B, K) probabilities, the network's own.

    Args:
        model: A network that ``draw_source`` accepts, in evaluation mode.
        tasks: Its tasks.
        batch: The studies, ``present`` on the CPU.
        draws: See ``draw_logits``.
        seed: Of the numbers.
        device: Where the network is.
    """
    count = len(model.members) if isinstance(model, Ensemble) else draws
    found = {name: np.zeros((count, len(batch), len(spec.classes)), np.float32) for name, spec in tasks.items()}
    for rows, alike in kinds(batch):
        for s, logits in enumerate(draw_logits(model, alike.to(device), draws, seed)):
            for name, spec in tasks.items():
                found[name][s, rows.numpy()] = probabilities(spec, logits[name].float()).cpu().numpy()
    return found


def draw_logits(model: nn.Module, batch: Batch, draws: int, seed: int) -> list[dict[str, Tensor]]:
    """Return S times task -> logits (B, outputs).

    Args:
        model: A network that ``draw_source`` accepts, in evaluation mode.
        batch: Studies that all have the same modalities, on the network's device.
        draws: S; of an ensemble the number of its members whatever is asked for.
        seed: Of the numbers. The first of many draws are those that few would be.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model, Ensemble):
        average_draws(model)
        return model.each(batch.inputs, batch.present)
    if (before := get_noise(model)) is None:
        with _dropping(model, generator):
            return [cast(Network, model)(batch.inputs, batch.present) for _ in range(draws)]
    set_noise(model, "sample", 1, generator, shared=True)
    try:
        return [cast(Network, model)(batch.inputs, batch.present) for _ in range(draws)]
    finally:
        set_noise(model, before.mode, before.draws, before.generator, before.shared)


def average_draws(model: nn.Module) -> None:
    """Let a random network answer with the mean of some draws, always the same; others stay as they are."""
    if get_noise(model) is not None:
        set_noise(model, "mean", AVERAGED, torch.Generator().manual_seed(0), shared=True)


def calibrate_draws(reliability: Reliability, drawn: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return task -> (S, N, K), each draw calibrated as a prediction is."""
    return {task: np.stack([reliability.calibrate({task: one})[task] for one in of]) for task, of in drawn.items()}


def kinds(batch: Batch) -> Iterator[tuple[Tensor, Batch]]:
    """Yield the studies of a batch by which modalities they have: their rows (n,), and the batch of them.

    What is encoded decides which numbers a random network draws next, so only such studies may share a pass.
    """
    pattern = torch.stack(list(batch.present.values()), 1)
    for kind in torch.unique(pattern, dim=0):
        rows = (pattern == kind).all(1).nonzero()[:, 0]
        present = {name: here[rows] for name, here in batch.present.items()}
        yield rows, Batch({name: x[rows] for name, x in batch.inputs.items() if present[name].any()}, present)


@contextmanager
def _dropping(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Let every dropout layer drop, the rest of the network staying in evaluation mode."""
    hooks = [layer.register_forward_hook(partial(_drop, generator)) for layer in _dropouts(model)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _drop(generator: torch.Generator, layer: Any, inputs: Any, output: Tensor) -> Tensor:
    # Drawn on the CPU, so that every device drops the same.
    axes = 2 if isinstance(layer, _OF_CHANNELS) else output.ndim
    shape = (1, *output.shape[1:axes], *(1,) * (output.ndim - axes))
    kept = torch.rand(shape, generator=generator) >= layer.p
    dropped: Tensor = output * kept.to(output.device, output.dtype) / (1 - layer.p)
    return dropped


def _dropouts(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, _OF_FEATURES + _OF_CHANNELS) and 0 < m.p < 1]
