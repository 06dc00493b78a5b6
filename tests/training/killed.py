"""Training in a process that is killed at a chosen moment."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailnet.data.config import StudyConfig

# Forked from a process that has imported everything, a training starts at once; dynamo is what an optimizer imports.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mailnet.training", "mailnet.nn.mail", "torch._dynamo", "pyarrow.pandas_compat"])


def train_until(config: StudyConfig, run: Path, cache: Path, moment: str | None = None, count: int = 1) -> int:
    """Train in a process of its own and return its exit status.

    Args:
        config: The study.
        run: Run folder.
        cache: Folder of decoded images.
        moment: ``module:function`` below ``mailnet.training``; at its ``count``-th call the process gets SIGKILL.
        count: See ``moment``.
    """
    process = CONTEXT.Process(target=_train, args=(config, run, cache, moment, count))
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def _train(config: StudyConfig, run: Path, cache: Path, moment: str | None, count: int) -> None:
    import torch

    from mailnet.training import train

    torch.set_num_threads(1)
    if moment is not None:
        deadly(moment, count)
    train(config, run, cache=cache, progress=False)


def deadly(moment: str, count: int) -> None:
    """Make this process kill itself at the ``count``-th call of ``moment``, see ``train_until``."""
    module_name, _, name = moment.partition(":")
    module = importlib.import_module(f"mailnet.training.{module_name}")
    setattr(module, name, _deadly(getattr(module, name), count))


def _deadly(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    calls = 0

    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)

    return call
