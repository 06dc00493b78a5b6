"""How the processes of a training hold a network: each all of it, with gradients averaged as they come."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mailnet.training.checkpoint import load_optimizer, load_weights, optimizer_tensors
from mailnet.training.ema import EMA


class Replicated:
    """A network that every process holds whole, or that the only process holds.

    Args:
        network: The network, on the accelerator's device.
        accelerator: Of this process.
        decay: Of the average of its weights; None for none.
    """

    def __init__(self, network: nn.Module, accelerator: Accelerator, decay: float | None) -> None:
        self.network, self.accelerator = network, accelerator
        self.ema = EMA(network, decay) if decay else None
        with warnings.catch_warnings():
            # Of the name of an option that accelerate gives to DDP.
            warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
            self.model: nn.Module = accelerator.prepare_model(network)  # last: it changes the network's forward

    def adding_up(self, last: bool) -> AbstractContextManager[None]:
        """Return the context of a part's forward and backward: only the last of a step averages over processes."""
        ready: AbstractContextManager[None] = nullcontext() if last else self.accelerator.no_sync(self.model)
        return ready

    def gradients_ready(self) -> None:
        """Called once the gradients of a step are there, before they move anything."""

    def moved(self) -> None:
        """Called once a step has moved the weights."""
        if self.ema is not None:
            self.ema.update(self.network)

    @contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        """Yield the network with the weights that count: their average where there is one; all processes enter it."""
        yield self.whole()

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights that count on the CPU, on the first process; all ask."""
        if not self.accelerator.is_main_process:
            return {}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.whole().state_dict().items()}

    def whole(self) -> nn.Module:
        """Return a network that weights can be put in and that can be saved, once nothing is trained any more."""
        return self.network if self.ema is None else self.ema.model

    def tensors(self, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
        """Return all that a checkpoint needs, whole; all processes ask, and the first alone may be answered."""
        found = {"network": self.network.state_dict(), "optimizer": optimizer_tensors(optimizer, self.network)}
        return found if self.ema is None else {**found, "average": self.ema.model.state_dict()}

    def restore(self, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Put back what ``tensors`` returned.

        Raises:
            RunError: It is of another network.
        """
        load_weights(self.network, tensors["network"])
        load_optimizer(optimizer, self.network, tensors["optimizer"])
        if self.ema is not None:
            load_weights(self.ema.model, tensors["average"])

    @property
    def updates(self) -> int:
        """Updates of the weights' average."""
        return 0 if self.ema is None else self.ema.updates

    @updates.setter
    def updates(self, value: int) -> None:
        if self.ema is not None:
            self.ema.updates = value
