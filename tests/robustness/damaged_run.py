"""A run of an untrained network on the made-up study, as training would leave it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from factory import write_study
from mailnet.bundle import save_bundle
from mailnet.data.config import dump_config, load_config
from mailnet.data.study import load_study
from mailnet.nn.registry import create_model


def write_run(folder: Path, name: str = "run", *, model: str = "mail", seed: int = 0, **changes: Any) -> Path:
    """Write a study (once a folder) and a run of a network with random weights on it; images decode into ``cache``."""
    study = folder / "study"
    path = study / "study.yaml" if study.exists() else write_study(study, **changes)
    config = load_config(path, [f"train.seed={seed}", f"model.name={model}", "evaluation.bootstrap=20"])
    data = load_study(config, cache=folder / "cache")
    torch.manual_seed(seed)
    network = create_model(model, data.modalities, data.tasks, **config.model.options)
    run = folder / name
    save_bundle(run / "bundle", network, model, config.model.options, config, data.tables)
    (run / "study.yaml").write_text(dump_config(config), encoding="utf-8")
    return run
