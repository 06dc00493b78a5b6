"""Parameters, multiply-adds and latency of all networks of a study, measured side by side in one process.

One forward pass of each network after the other, round after round, so that whatever else the machine does meets all
of them alike; the median over rounds counts.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mailnet
from mailnet.benchmark.cells import FORMAT, cell_status, list_cells, network_fingerprint, read_cell
from mailnet.benchmark.suite import Suite, cell_config
from mailnet.bundle.predictor import DRAWS
from mailnet.data.study import load_study
from mailnet.files import read_json, write_json
from mailnet.nn.counts import count_operations, count_parameters
from mailnet.nn.layers import channels_last
from mailnet.nn.noise import get_noise, set_noise
from mailnet.nn.registry import create_model, default_options
from mailnet.specs import ModalitySpec, TaskSpec

ROUNDS = {1: 31, 32: 7}  # batch -> rounds that count
WARMING = 2

Models = Mapping[str, tuple[str, Mapping[str, Any]]]


def cost_file(out: Path, study: str) -> Path:
    """Return where the costs of a study lie."""
    return out / "cells" / study / "cost.json"


def update_costs(
    suite: Suite,
    out: Path,
    *,
    studies: Sequence[str] | None = None,
    data_root: Path | None = None,
    cache: Path | None = None,
    again: bool = False,
) -> list[str]:
    """Measure each study's networks together, once all its cells have been run.

    Args:
        suite: The suite; ``threads`` and ``baseline`` are used.
        out: The benchmark's folder.
        studies: Names of the only studies; default all.
        data_root: Where the studies' paths start.
        cache: Folder of decoded images.
        again: Measure also what has been measured, and the networks that there are where cells are missing.

    Returns:
        The studies that were measured.

    Raises:
        MailnetError: A study cannot be loaded, or a file cannot be read or written.
    """
    measured = []
    for study in studies or suite.studies:
        models = _models(suite, study, out)
        file, digest = cost_file(out, study), _digest(suite, models)
        known = file.is_file() and read_json(file)["fingerprint"] == digest
        unfinished = any(not cell.file(out).is_file() for cell in list_cells(suite, [study]))
        if not models or (not again and (known or unfinished)):
            continue
        config = cell_config(suite, study, next(iter(models)), data_root=data_root)
        data = load_study(config, cache=cache)
        found = measure_costs(models, data.modalities, data.tasks, suite.threads, suite.baseline)
        write_json(file, {"format": FORMAT, "fingerprint": digest, "study": study, **found})
        measured.append(study)
    return measured


def measure_costs(
    models: Models,
    modalities: Mapping[str, ModalitySpec],
    tasks: Mapping[str, TaskSpec],
    threads: int,
    baseline: str | None = None,
) -> dict[str, Any]:
    """Return the costs of networks with random weights, on the CPU.

    Args:
        models: Label -> name in the registry and options.
        modalities: Of the study.
        tasks: Of the study.
        threads: CPU threads.
        baseline: Label of the network that the others are compared with.

    Returns:
        ``machine``, and ``networks``: label -> ``parameters``, ``macs``, ``latency_ms`` (batch -> median of a forward
        pass) and, with a baseline, ``ratio`` (batch -> median over rounds of its time over the baseline's).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        networks = {label: _prepared(*model, modalities, tasks) for label, model in models.items()}
        times = {batch: _times(networks, modalities, batch, rounds) for batch, rounds in ROUNDS.items()}
    finally:
        torch.set_num_threads(before)
    found = {}
    for label, network in networks.items():
        found[label] = {
            "parameters": count_parameters(network).trainable,
            "macs": count_operations(network).macs,
            "latency_ms": {str(batch): round(1000 * statistics.median(of[label]), 3) for batch, of in times.items()},
        }
        if baseline in networks:
            found[label]["ratio"] = {
                str(batch): round(statistics.median(a / b for a, b in zip(of[label], of[baseline], strict=True)), 4)
                for batch, of in times.items()
            }
    return {
        "mailnet": mailnet.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"device": "cpu", "threads": threads, "torch": str(torch.__version__)},
        "baseline": baseline if baseline in networks else None,
        "rounds": {str(batch): rounds for batch, rounds in ROUNDS.items()},
        "networks": found,
    }


def _models(suite: Suite, study: str, out: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Network -> name and options as its cells say, which may have been tuned, with the defaults of the others."""
    models: dict[str, tuple[str, dict[str, Any]]] = {}
    for cell in list_cells(suite, [study]):
        if suite.networks[cell.network].columns is not None or cell.network in models:
            continue
        values = read_cell(cell, out)
        if values is not None and cell_status(values, network_fingerprint(suite, study, cell.network)) == "done":
            name, options = values["model"]["name"], values["model"]["options"]
            models[cell.network] = name, default_options(name) | options
    return models


def _digest(suite: Suite, models: Models) -> str:
    settings = [suite.threads, suite.baseline, sorted(models.items())]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _prepared(
    name: str, options: Mapping[str, Any], modalities: Mapping[str, ModalitySpec], tasks: Mapping[str, TaskSpec]
) -> nn.Module:
    """A network as ``Predictor`` runs it."""
    network = channels_last(create_model(name, modalities, tasks, **options).eval())
    if get_noise(network) is not None:
        set_noise(network, "mean", DRAWS, torch.Generator().manual_seed(0), shared=True)
    return network


@torch.inference_mode()
def _times(
    networks: Mapping[str, nn.Module], modalities: Mapping[str, ModalitySpec], batch: int, rounds: int
) -> dict[str, list[float]]:
    """Label -> seconds of each round."""
    inputs = {name: _example(spec, batch) for name, spec in modalities.items()}
    present = {name: torch.ones(batch, dtype=torch.bool) for name in modalities}
    times: dict[str, list[float]] = {label: [] for label in networks}
    for number in range(-WARMING, rounds):
        for label, network in networks.items():
            begun = time.perf_counter()
            network(inputs, present)
            if number >= 0:
                times[label].append(time.perf_counter() - begun)
    return times


def _example(spec: ModalitySpec, batch: int) -> Tensor:
    return torch.rand(batch, spec.channels, *(spec.size or ()))
