"""Several processes that train one run, as on machines that know of each other and have no launcher watching them."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from killed import CONTEXT, deadly


def train_together(
    arguments: list[str], logs: Path, *, processes: int = 2, dies: int | None = None, moment: str = "", count: int = 1
) -> list[tuple[int, str]]:
    """Run ``mailnet train`` in several processes; return the exit status and the stderr of each.

    Args:
        arguments: What follows ``mailnet train``.
        logs: Folder of their output.
        processes: How many.
        dies: The process that gets SIGKILL, if any.
        moment: ``module:function`` below ``mailnet.training``, at whose ``count``-th call it does.
        count: See ``moment``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs.mkdir(parents=True, exist_ok=True)
    started = []
    for rank in range(processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        environment = {key: str(value) for key, value in place.items()}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        log = logs / f"{rank}.txt"
        own = moment if rank == dies else ""
        process = CONTEXT.Process(target=_command, args=(environment, arguments, log, own, count))
        process.start()
        started.append(process)
    for process in started:
        process.join(60)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()  # one that hangs
    assert None not in codes
    return [(code or 0, (logs / f"{rank}.txt").read_text("utf-8")) for rank, code in enumerate(codes)]


def _command(environment: dict[str, str], arguments: list[str], log: Path, moment: str, count: int) -> None:
    os.environ.update(environment)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from mailnet.cli import main

    torch.set_num_threads(1)
    if moment:
        deadly(moment, count)
    sys.argv = ["mailnet", "train", *arguments]
    main()
