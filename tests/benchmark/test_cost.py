"""Costs measured side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_suite import write_suite

from mailnet.benchmark import cost, load_suite, run_suite, update_costs
from mailnet.benchmark.cost import measure_costs
from mailnet.nn.counts import count_operations, count_parameters
from mailnet.nn.registry import create_model, default_options
from mailnet.specs import ModalitySpec, modality_specs, task_specs

MODALITIES = modality_specs({"ct": ModalitySpec("ct", "image", 1, (32, 32)), "lab": ModalitySpec("lab", "tabular", 4)})
TASKS = task_specs({"t": 3})


def test_a_larger_network_costs_more() -> None:
    models = {
        "small": ("mail", {"widths": [8, 8], "width": None}),
        "random": ("robust_mail", {"widths": [8, 8], "width": None}),
        "large": ("two_branch_resnet18", {}),
    }
    threads = torch.get_num_threads()
    found = measure_costs(models, MODALITIES, TASKS, 1, "small")
    assert torch.get_num_threads() == threads
    assert (found["machine"]["threads"], found["baseline"]) == (1, "small")
    for label in ("small", "large"):
        network = create_model(models[label][0], MODALITIES, TASKS, **models[label][1])
        assert found["networks"][label]["macs"] == count_operations(network).macs
        assert found["networks"][label]["parameters"] == count_parameters(network).trainable
    assert found["networks"]["small"]["ratio"] == {"1": 1.0, "32": 1.0}
    assert found["networks"]["large"]["ratio"]["32"] > 1.5
    assert found["networks"]["random"]["ratio"]["1"] > 3  # ten draws a prediction
    latency = found["networks"]["large"]["latency_ms"]
    assert latency["1"] < latency["32"] < 64 * latency["1"]


def test_costs_wait_for_all_cells_and_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_suite(tmp_path, seeds=[0], baseline="wide", studies={"apart": None})
    suite, out, cache = load_suite(path), tmp_path / "out", tmp_path / "cache"
    run_suite(suite, out, networks=["mail"], cache=cache)
    assert update_costs(suite, out, cache=cache) == []
    assert update_costs(suite, out, cache=cache, again=True) == ["two"]
    run_suite(suite, out, cache=cache)
    assert update_costs(suite, out, cache=cache) == ["two"]
    assert update_costs(suite, out, cache=cache) == []
    found = json.loads((out / "cells" / "two" / "cost.json").read_text(encoding="utf-8"))
    assert set(found["networks"]) == {"mail", "wide"}
    cell = json.loads((out / "cells" / "two" / "mail" / "seed-0.json").read_text(encoding="utf-8"))
    assert found["networks"]["mail"]["macs"] == cell["macs"]
    assert found["networks"]["mail"]["parameters"] == cell["parameters"]
    assert found["networks"]["wide"]["ratio"]["1"] == pytest.approx(1.0)
    # A network whose default has changed is measured again, though its cells say the same of it.
    monkeypatch.setattr(cost, "default_options", lambda name: default_options(name) | {"blocks": 2})
    assert update_costs(suite, out, cache=cache) == ["two"]
