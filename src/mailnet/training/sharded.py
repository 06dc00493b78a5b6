"""How the processes of a training hold a network that is large for their memory: each a part of it.

Weights, moments and the average of the weights lie in parts (FSDP of torch, ``fully_shard``, the network being one
unit); all weights are gathered for a step, and its gradients are scattered again. One unit, since networks whose
modalities may be absent call other layers on each process, and a unit that one process calls alone would wait for the
others for ever.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mailnet.training.checkpoint import load_optimizer, load_weights, optimizer_tensors
from mailnet.training.ema import decay_at
from mailnet.training.replicated import Replicated
from mailnet.training.together import Together


class Sharded(Replicated):
    """A network of which every process holds a part.

    Args:
        network: The network, on the accelerator's device; its weights are in parts afterwards.
        accelerator: Of this process, one of several.
        decay: Of the average of its weights; None for none.
        together: This process and the others.
    """

    def __init__(self, network: nn.Module, accelerator: Accelerator, decay: float | None, together: Together) -> None:
        self.network, self.accelerator, self.decay, self.together = network, accelerator, decay, together
        self.ema, self._updates = None, 0
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        # What is saved in the end; torch cannot put a network together again.
        self._plain = copy.deepcopy(network).to("cpu") if accelerator.is_main_process else network
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.data = parameter.data.contiguous()  # no other layout is divided
        whole = _Whole(network, accelerator)
        self._divided: FSDPModule = fully_shard(whole, mesh=mesh)  # the same object, with methods of FSDP
        self.model, self._unit = whole, whole
        self._average = None if decay is None else [tensor.clone() for tensor in self._own()]

    def _own(self) -> list[Tensor]:
        """The parts of parameters that this process holds, and its buffers."""
        tensors = [*self.network.parameters(), *self.network.buffers()]
        return [t.to_local().detach() if isinstance(t, DTensor) else t.detach() for t in tensors]

    @contextmanager
    def adding_up(self, last: bool) -> Iterator[None]:
        self._divided.set_requires_gradient_sync(last)
        yield

    def gradients_ready(self) -> None:
        used = self.together.any_of(self._unit.used)
        for parameter, has in zip(self.network.parameters(), used.tolist(), strict=True):
            if not has:  # on any process: as where each holds all, the optimizer leaves it as it is
                parameter.grad = None
        self._unit.used.zero_()

    @torch.no_grad()
    def moved(self) -> None:
        if self._average is None or self.decay is None:
            return
        weight = 1 - decay_at(self.decay, self._updates)
        self._updates += 1
        for average, now in zip(self._average, self._own(), strict=True):
            if average.is_floating_point():
                average.lerp_(now, weight)
            else:
                average.copy_(now)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Exchange the weights for their average, where there is one."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for average, now in zip(self._average or (), self._own(), strict=bool(self._average)):
            kept = now.clone()
            now.copy_(average)
            average.copy_(kept)

    @contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        with self._averaged():
            self._divided.unshard()
            try:
                yield self.network
            finally:
                self._divided.reshard()

    def weights(self) -> dict[str, Tensor]:
        with self._averaged():
            return self._gathered(self.network.state_dict())

    def whole(self) -> nn.Module:
        return self._plain

    def tensors(self, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
        found = {
            "network": self._gathered(self.network.state_dict()),
            "optimizer": self._gathered(optimizer_tensors(optimizer, self.network)),
        }
        return found if self._average is None else {**found, "average": self.weights()}

    def _gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return whole tensors on the CPU, on the first process; one is gathered after the other."""
        found = {}
        for name, tensor in tensors.items():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.accelerator.is_main_process:
                found[name] = whole.detach().to("cpu", copy=True)
        return found

    def restore(self, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        parameters = dict(self.network.named_parameters())
        moments = tensors["optimizer"].items()
        laid = {key: _laid(value, parameters.get(key.partition("|")[2])) for key, value in moments}
        load_optimizer(optimizer, self.network, laid)
        self._load(tensors["network"])
        if self._average is not None:
            with self._averaged():
                self._load(tensors["average"])

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        own = self.network.state_dict()
        load_weights(self.network, {name: _laid(value, own.get(name)) for name, value in tensors.items()})

    @property
    def updates(self) -> int:
        return self._updates

    @updates.setter
    def updates(self, value: int) -> None:
        self._updates = value


def _laid(value: Tensor, like: Tensor | None) -> Tensor:
    """Return a whole tensor in parts as another lies; one of another shape as it is."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


class _Whole(nn.Module):
    """A network of which every parameter gets a gradient in every step, if of zeros, as all processes must have alike.

    Args:
        network: The network.
        accelerator: Of this process.
    """

    def __init__(self, network: nn.Module, accelerator: Accelerator) -> None:
        super().__init__()
        self.network, self.accelerator = network, accelerator
        self.used = torch.zeros(sum(1 for _ in network.parameters()), dtype=torch.uint8)  # since the last step

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        with self.accelerator.autocast():
            logits: dict[str, Tensor] = self.network(inputs, present)
        logits = {task: values.float() for task, values in logits.items()}
        if not torch.is_grad_enabled():
            return logits
        parameters = list(self.network.parameters())
        reached = _leaves(logits.values())
        used = torch.tensor([id(parameter) in reached for parameter in parameters], dtype=torch.uint8)
        self.used |= used
        idle = [p.flatten()[0] for p, has in zip(parameters, used, strict=True) if not has and p.requires_grad]
        if idle:
            task = next(iter(logits))
            logits[task] = logits[task] + 0 * torch.stack(idle).sum()
        return logits


def _leaves(results: Iterable[Tensor]) -> set[int]:
    """Return the ids of the parameters that results depend on."""
    waiting: list[Any] = [result.grad_fn for result in results]
    seen, found = set(), set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return found
