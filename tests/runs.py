"""Runs with random weights, as training would leave them: fixtures for the rooms that read runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from factory import write_study
from mailnet.bundle import save_bundle
from mailnet.data.config import dump_config, load_config
from mailnet.data.study import load_study
from mailnet.nn.registry import create_model

MakeRun = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A folder of decoded images of the test's own."""
    return tmp_path / "cache"


@pytest.fixture
def make_run(tmp_path: Path, cache: Path) -> MakeRun:
    """Write a study and a run of an untrained network on it."""

    def make(
        name: str = "run", *, model: str = "mail", seed: int = 0, options: dict[str, Any] | None = None, **changes: Any
    ) -> Path:
        study = tmp_path / f"study of {name}"
        path = write_study(study, **changes) if not study.exists() else study / "study.yaml"
        chosen = [f"model.options.{key}={value}" for key, value in (options or {}).items()]
        config = load_config(path, [f"train.seed={seed}", f"model.name={model}", *chosen])
        data = load_study(config, cache=cache)
        torch.manual_seed(seed)
        network = create_model(model, data.modalities, data.tasks, **config.model.options)
        run = tmp_path / name
        save_bundle(run / "bundle", network, model, config.model.options, config, data.tables)
        (run / "study.yaml").write_text(dump_config(config), encoding="utf-8")
        return run

    return make
