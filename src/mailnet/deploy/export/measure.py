"""Size, speed and accuracy of exported models beside the original, measured in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from mailnet.bundle import Bundle
from mailnet.bundle.passes import Passes
from mailnet.deploy.export.studies import Answer, Studies, arrays_of
from mailnet.metrics import measure

METRICS = ("balanced_accuracy", "macro_auroc", "ece")
ROUNDS = {1: 15, 8: 9}  # studies at a time -> times that it is measured, after two that are not
WARMING = 2
THREADS = {"1": 1, "all": 0}


def accuracy(studies: Studies, answers: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | None]]:
    """Return task -> metric -> value, None where one is not defined.

    Args:
        studies: Labelled studies.
        answers: Task -> (N, K) calibrated probabilities of all of them.
    """
    found = {}
    for task, spec in studies.bundle.tasks.items():
        if task in studies.data.labels:
            metrics = measure(answers[task], studies.data.labels[task], spec, bootstrap=0)["metrics"]
            found[task] = {name: None if metrics.get(name) is None else metrics[name]["value"] for name in METRICS}
    return found


def original_accuracy(studies: Studies, passes: Passes, bundle: Bundle) -> dict[str, dict[str, float | None]]:
    """Return the same of the original."""
    raw = studies.ask_original(passes, np.arange(len(studies)))
    return accuracy(studies, raw if bundle.reliability is None else bundle.reliability.calibrate(raw))


def loss(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    """Return the most balanced accuracy that any task loses, negative where all gain, None where none has any."""
    pairs = [(before[task]["balanced_accuracy"], after[task]["balanced_accuracy"]) for task in before]
    return max((b - a for b, a in pairs if a is not None and b is not None), default=None)


def latencies(
    answers: Mapping[str, Callable[[int], Answer]], passes: Passes, studies: Studies, rounds: Mapping[int, int] = ROUNDS
) -> dict[str, dict[str, Any]]:
    """Measure the time of one call, all models by turns, so that what else the machine does meets all alike.

    Args:
        answers: Exported model -> from a number of threads (0 for all) to the model.
        passes: The original, eager.
        studies: Real studies, those with all modalities where there are any.
        rounds: Studies at a time -> rounds.

    Returns:
        Model, ``original`` among them -> ``latency_ms`` and ``ratio`` to the original, each threads (``1``, ``all``) ->
        studies at a time -> median.
    """
    found: dict[str, dict[str, Any]] = {name: {"latency_ms": {}, "ratio": {}} for name in ("original", *answers)}
    whole = np.flatnonzero(np.all([studies.data.present[name] for name in studies.bundle.modalities], axis=0))
    rows = whole if len(whole) else np.arange(len(studies))
    for label, threads in THREADS.items():
        with _torch_threads(threads):
            models = {name: make(threads) for name, make in answers.items()}
            for size, count in rounds.items():
                batch = studies.batch(np.resize(rows, size))
                arrays = arrays_of(batch, studies.bundle, studies.masks)
                calls: dict[str, Callable[[], object]] = {"original": partial(passes.answers, batch)}
                calls |= {name: partial(one, arrays) for name, one in models.items()}
                times = _times(calls, count)
                for name, seconds in times.items():
                    ratios = [a / b for a, b in zip(seconds, times["original"], strict=True)]
                    own = found[name]
                    own["latency_ms"].setdefault(label, {})[str(size)] = round(1000 * statistics.median(seconds), 3)
                    own["ratio"].setdefault(label, {})[str(size)] = round(statistics.median(ratios), 4)
    return found


def _times(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-WARMING, rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if number >= 0:
                times[name].append(time.perf_counter() - begun)
    return times


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
