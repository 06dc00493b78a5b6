"""From a budget in seconds to epochs: a short timed training, whose result is kept for every seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mailnet.benchmark.network import discard_run, training_seconds
from mailnet.benchmark.outcome import take
from mailnet.benchmark.suite import Budget
from mailnet.data.config import StudyConfig
from mailnet.data.study import StudyData
from mailnet.files import read_json
from mailnet.training import train
from mailnet.training.plan import epoch_steps

STEPS = 8  # of a timed epoch
EPOCHS = 4  # timed; the first, in which memory is allocated, does not count, of the others the fastest


def planned_epochs(budget: Budget, own: int, seconds_per_epoch: float | None) -> int:
    """Return the epochs that a budget gives.

    Args:
        budget: The suite's.
        own: Epochs of the study's file.
        seconds_per_epoch: As measured; None where the budget has no seconds.

    >>> planned_epochs(Budget(epochs=20, at_most_seconds=60), 30, 5.0)
    12
    """
    limit = budget.seconds if budget.seconds is not None else budget.at_most_seconds
    wanted = budget.epochs or own
    if limit is None or seconds_per_epoch is None:
        return wanted
    affordable = max(1, round(limit / seconds_per_epoch))
    return affordable if budget.seconds is not None else min(wanted, affordable)


def time_epoch(config: StudyConfig, run: Path, data: StudyData) -> float:
    """Return the training seconds of an epoch, from a few steps on random studies.

    Args:
        config: The study with its network and settings.
        run: Run folder of the timed training, deleted afterwards.
        data: The study, loaded.

    Raises:
        MailnetError: The network cannot be trained on this study.
    """
    some = _few(data, config.train.batch_size)
    settings = {"epochs": EPOCHS, "patience": None, "pretrain": None, "checkpoint_minutes": 60.0}
    short = config.model_copy(update={"train": config.train.model_copy(update=settings)})
    discard_run(run)  # what an interrupted timing left would not be timed as a whole
    history = train(short, run, data=some, progress=False).history
    device = read_json(run / "run.json")["device"]
    discard_run(run)
    steps = [len(epoch_steps(several, config.train, 0)) for several in (some, data)]
    return min(training_seconds(line, device) for line in history[1:]) * steps[1] / steps[0]


def _few(data: StudyData, batch_size: int) -> StudyData:
    """Random training studies for a few steps, of each modality in the unpaired regime, and a batch to validate on."""
    random = np.random.default_rng(0)
    train, val = (random.permutation(data.rows(split)) for split in ("train", "val"))
    labelled = np.any([labels.reshape(len(data), -1).max(1) >= 0 for labels in _known(data)], axis=0)
    unpaired = data.config.regime == "unpaired"
    sets = [train[here[train]] for here in data.present.values()] if unpaired else [train]
    rows = np.concatenate([rows[: STEPS * batch_size] for rows in sets] + [val[labelled[val]][:batch_size]])
    # A training that learns from nothing is refused: some study of few labels must be among them.
    return take(data, np.unique(np.concatenate([rows, train[labelled[train]][:1]])))


def _known(data: StudyData) -> list[np.ndarray]:
    return [np.nan_to_num(labels, nan=-1) for labels in data.labels.values()]
