"""The machine: which device and precision, how many processes, and how much memory a training needs."""

from __future__ import annotations

import atexit
import copy
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from mailnet.data.config import TrainConfig
from mailnet.errors import ConfigError
from mailnet.nn.batch import Batch

IN_FLIGHT = 1.5  # results and gradients on their way, measured against what backward keeps (MAIL, 96 pixels, CPU)


def create_accelerator(config: TrainConfig) -> Accelerator:
    """Return the accelerator of this process, one of several where a launcher started them.

    Args:
        config: ``device`` and ``precision`` are used. ``auto`` takes a GPU where there is one, and bf16 on a GPU that
            computes in it; a CPU stays with fp32, which trains the same and can be repeated bit for bit.

    Raises:
        ConfigError: The device is not there.
    """
    device = torch.device("cpu") if config.device == "auto" else _device(config.device)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    # One process may train several times with other settings, which accelerate's global state forbids.
    AcceleratorState._reset_state()
    options = DistributedDataParallelKwargs(
        find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
    )
    # Told of no processor, accelerate takes each of several processes without a GPU for the only one, and all would
    # train the whole of the same run.
    wants_cpu = device.type == "cpu" and (config.device != "auto" or not torch.accelerator.is_available())
    bf16 = config.precision == "bf16" or (config.precision == "auto" and not wants_cpu and _has_bf16())
    accelerator = Accelerator(cpu=wants_cpu, mixed_precision="bf16" if bf16 else "no", kwargs_handlers=[options])
    if accelerator.num_processes > 1:
        atexit.register(_leave_group)
    return accelerator


def is_first_process() -> bool:
    """Return whether this process speaks for all that train together: it is the first, or the only one."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _leave_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        # Threads of the group outlive it and take Python's lock to free the tensors of the last exchange; one that
        # finds the interpreter ending aborts the process, so they get their turn first.
        time.sleep(0.5)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"train.device '{name}' is no device", remedy="Use auto, cpu, cuda, cuda:1 or mps") from None
    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= found.get(device.type, 0):
        raise ConfigError(f"train.device '{name}' is not on this machine", remedy="Use auto or cpu")
    return device


def _has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0) and torch.cuda.is_bf16_supported()


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Leave torch's global random numbers after the block as they were before it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield


def seed_of(*parts: int | str) -> int:
    """Return a seed that depends on all parts, for a point of the training such as (seed, epoch, step).

    >>> seed_of(0, "step", 1) == seed_of(0, "step", 1) != seed_of(0, "step", 2)
    True
    """
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


@torch.no_grad()
def average_buffers(model: nn.Module, accelerator: Accelerator) -> None:
    """Give all processes the mean of their floating buffers, since each saw batch statistics of its own studies."""
    if accelerator.num_processes == 1:
        return
    _average([buffer for buffer in model.buffers() if buffer.is_floating_point()], accelerator)


@torch.no_grad()
def average_gradients(model: nn.Module, accelerator: Accelerator) -> None:
    """Give all processes the mean of their gradients; the same parameters must have one on each."""
    if accelerator.num_processes == 1:
        return
    _average([parameter.grad for parameter in model.parameters() if parameter.grad is not None], accelerator)


def _average(tensors: list[Tensor], accelerator: Accelerator) -> None:
    if tensors:
        mean: Tensor = accelerator.reduce(torch.cat([t.flatten() for t in tensors]), reduction="mean")
        for tensor, values in zip(tensors, torch.split(mean, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))


def training_bytes(model: nn.Module, batch: Batch, size: int, ema: bool, parts: int = 1) -> int:
    """Estimate the memory that training takes: weights, gradients, moments, averages, and what backward keeps.

    Args:
        model: The network, whose state is not changed.
        batch: A few studies on its device; one forward pass is made.
        size: Studies that a process takes at a time.
        ema: Whether weights are averaged.
        parts: Processes that share weights, gradients, moments and average; weights and gradients are gathered too.
    """
    probe = copy.deepcopy(model).train()
    own = {parameter.data_ptr() for parameter in probe.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # The result is held, so that no storage is freed and counted again at its old place.
        _held = probe(batch.inputs, batch.present)
    weights = sum(parameter.nbytes for parameter in probe.parameters())
    held = weights * (4 + ema) // parts + (2 * weights if parts > 1 else 0)
    return held + int(IN_FLIGHT * sum(kept.values()) * size / max(len(batch), 1))
