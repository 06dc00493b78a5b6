"""What several processes of one training do besides learning: wait for each other, agree, and notice a lost one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import Accelerator

# Decoding millions of images takes hours, in which those that wait hear nothing. A process that ends is noticed at
# once whatever this is, since its connections close.
PATIENCE = timedelta(days=7)
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Timed out")


class Together:
    """The processes of one training; with one process nothing of it does anything.

    Args:
        accelerator: Of this process.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.several = accelerator.num_processes > 1
        # Of processors, whatever the network is on, so that no answer waits for what a GPU has yet to compute.
        self._group = dist.new_group(backend="gloo") if self.several else None

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let one process through the block, then one of every other machine, then all others.

        What the first leaves on a shared disk all others find there. Where machines share none, one of each does the
        work for its own.
        """
        if not self.several:
            yield
            return
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        turn = 0 if self.accelerator.is_main_process else 1 if self.accelerator.is_local_main_process else 2
        for _ in range(turn):
            dist.barrier(patient)
        yield
        for _ in range(turn, 2):
            dist.barrier(patient)
        # Nobody leaves the group before all have passed it.
        self.accelerator.wait_for_everyone()
        dist.destroy_process_group(patient)

    def first_says(self, answer: bool) -> bool:
        """Return the answer of the first process on all of them."""
        if not self.several:
            return answer
        said = torch.tensor([answer], dtype=torch.uint8)
        dist.broadcast(said, 0, group=self._group)
        return bool(said)

    def any_of(self, flags: torch.Tensor) -> torch.Tensor:
        """Return for each flag (n,) uint8, on the CPU, whether it is 1 on any process."""
        if self.several:
            dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._group)
        return flags

    def has_lost_one(self, error: RuntimeError) -> bool:
        """Return whether an error says that another process has gone, and nothing of this one."""
        return self.several and (isinstance(error, dist.DistError) or any(word in str(error) for word in LOST))
