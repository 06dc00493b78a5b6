"""Which studies each optimizer step takes, on each process: a function of configuration and epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mailnet.data.config import TrainConfig
from mailnet.data.dataset import epoch_rows
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.training.device import seed_of
from mailnet.training.hiding import separate_companions

Rows = NDArray[np.int64]
UNPAIRED_APART = 0.5
PAIRED_HIDDEN = 0.1


@dataclass(frozen=True)
class Part:
    """Studies that go through the network together.

    Args:
        rows: (B,) row numbers or (B, M) companions.
        shares: Task -> how much the part's mean loss counts in the step's, which is the mean over processes of the sum
            over parts: its share of the step's labels, times the number of processes.
        last: Whether the optimizer moves after this part.
        seed: Of everything random that happens to the part.
        number: Its place among the parts that a process takes in a step.
        replay: How often the step has been made already.
    """

    rows: Rows
    shares: dict[str, float]
    last: bool
    seed: int
    number: int = 0
    replay: int = 0


def hidden_share(config: TrainConfig, regime: str) -> float:
    """Return the chance that modality dropout strikes: as configured, else the regime's default."""
    if config.modality_dropout is not None:
        return config.modality_dropout
    return PAIRED_HIDDEN if regime == "paired" else UNPAIRED_APART


def epoch_steps(data: StudyData, config: TrainConfig, epoch: int) -> list[Rows]:
    """Return the rows of each optimizer step of an epoch.

    Steps are of equal size within one study, so there is no small last batch whose statistics would mislead.

    Args:
        data: The studies.
        config: ``batch_size``, ``seed`` and ``balance`` are used.
        epoch: Number of the epoch, from 0.
    """
    rows = epoch_rows(data, "train", seed=config.seed, epoch=epoch, balance=config.balance)
    return np.array_split(rows, max(-(-len(rows) // config.batch_size), 1))


def check_division(steps: list[Rows], config: TrainConfig, processes: int) -> None:
    """Check that every process gets a study in every part of every step.

    Raises:
        ConfigError: There are too few studies in a batch.
    """
    smallest = min(len(rows) for rows in steps)
    if smallest < processes * config.accumulate:
        raise ConfigError(
            f"batches of {smallest} studies cannot be divided over {processes} process(es) and {config.accumulate} "
            "part(s) each",
            remedy="Raise train.batch_size, lower train.accumulate, or start fewer processes",
        )


def plan_epoch(
    steps: list[Rows],
    config: TrainConfig,
    epoch: int,
    *,
    labels: Callable[[Rows], dict[str, float]],
    start: int,
    rank: int,
    processes: int,
    apart: float,
    replays: int = 1,
) -> Iterator[Part]:
    """Yield the parts that one process takes, in order.

    Args:
        steps: Of ``epoch_steps``.
        config: ``accumulate`` and ``seed`` are used.
        epoch: Number of the epoch, from 0.
        labels: Gives task -> weight of the labels that rows have.
        start: First optimizer step to take.
        rank: Number of the process.
        processes: Number of processes.
        apart: Chance that companions of the unpaired regime are trained alone.
        replays: Optimizer steps that are made of each step's rows; all get the same parts.
    """
    for made in range(start, len(steps) * replays):
        step, replay = divmod(made, replays)
        totals = labels(steps[step])
        own = np.array_split(steps[step], processes)[rank]
        for number, rows in enumerate(np.array_split(own, config.accumulate)):
            seed = seed_of(config.seed, epoch, step, rank, number)
            shares = {task: weight / (totals[task] or 1.0) * processes for task, weight in labels(rows).items()}
            if rows.ndim == 2:
                rows = separate_companions(rows, apart, np.random.default_rng(seed))
            yield Part(rows, shares, number == config.accumulate - 1, seed, number, replay)
