"""A service on an untrained model of a made-up study, asked in this process; fixtures of a run for it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from factory import write_study
from mailnet.bundle import Reliability, save_bundle, write_reliability
from mailnet.data.config import load_config
from mailnet.data.study import StudyData, load_study
from mailnet.deploy.service.app import create_app
from mailnet.deploy.service.loading import load_models
from mailnet.deploy.service.settings import Settings
from mailnet.nn.registry import create_model
from mailnet.trust.calibration import Calibrator
from mailnet.trust.conformal import fit_sets
from mailnet.trust.fitting import fit_calibrator
from mailnet.trust.sets import ConformalSets


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run named ``made-up``: images ``ct`` and ``photo``, the table ``clinical``, calibration and prediction sets."""
    folder, data = write_run(tmp_path_factory.mktemp("served"), {"width": "nano"})
    random = np.random.default_rng(0)
    calibrators: dict[str, Calibrator] = {}
    sets: dict[str, tuple[ConformalSets, ...]] = {}
    for name, spec in data.tasks.items():
        values = random.dirichlet(np.ones(len(spec.classes)), 60)
        labels = random.integers(0, len(spec.classes), 60)
        calibrators[name] = fit_calibrator(values, labels, spec)
        sets[name] = (fit_sets(values, labels, spec, 0.2),)
    write_reliability(folder / "bundle", Reliability(calibrators, sets))
    return folder


def write_run(folder: Path, options: dict[str, Any], **changes: Any) -> tuple[Path, StudyData]:
    """Write a made-up study and a run ``made-up`` of an untrained network on it."""
    config = load_config(write_study(folder / "study", n=30, **changes))
    data = load_study(config, cache=folder / "cache")
    torch.manual_seed(0)
    network = create_model(config.model.name, data.modalities, data.tasks, **options)
    save_bundle(folder / "made-up/bundle", network, config.model.name, options, config, data.tables)
    return folder / "made-up", data


@pytest.fixture(scope="session")
def client(run: Path) -> Iterator[TestClient]:
    """A client of a service of that run."""
    with client_of(run) as found:
        yield found


@contextmanager
def client_of(*paths: str | Path, **settings: Any) -> Iterator[TestClient]:
    """A client of a service of these models, called as on the machine itself."""
    chosen = Settings(**{"timeout": 20.0, **settings})
    app = create_app(load_models(paths, chosen, "cpu"), chosen)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def png(array: np.ndarray) -> bytes:
    """An image as the content of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


def grey(seed: int = 0, size: int = 32) -> bytes:
    """A grey image of noise."""
    return png(np.random.default_rng(seed).integers(0, 255, (size, size), np.uint8))


def colour(seed: int = 0, size: int = 32) -> bytes:
    """A colour image of noise."""
    return png(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8))


def table(**cells: Any) -> dict[str, str]:
    """The form field of a table."""
    return {"table": json.dumps(cells)}


def refusal(answer: Any, status: int) -> dict[str, Any]:
    """The error of an answer, which has this status, one line and no path."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "remedy"}
    assert error["message"]
    for text in error.values():
        assert text is None or ("\n" not in text and "/tmp" not in text)
    return dict(error)
