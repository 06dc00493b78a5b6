"""An exported folder predicts without torch as its run does with it, and a damaged one is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import run

import mailnet
from mailnet.cli.info import describe
from mailnet.deploy.export import export_run
from mailnet.deploy.runtime import RuntimePredictor, load
from mailnet.errors import ConfigError, DataError, RunError

__all__ = ["run"]

# Everything that the extra ``runtime`` does not install is out of reach.
ALONE = """
import json, sys
for name in ("torch", "accelerate", "captum", "jinja2", "matplotlib", "sklearn", "scipy", "threadpoolctl"):
    sys.modules[name] = None
import mailnet
print(json.dumps(mailnet.load(sys.argv[1]).predict(sys.argv[2]).as_dicts()))
"""


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    study = run.parent / "study/study.yaml"
    export_run(run, folder, study=study, cache=folder.parent / "cache", rounds={1: 1})
    return folder


def test_it_needs_no_torch_and_answers_as_the_run(run: Path, exported: Path) -> None:
    study = run.parent / "study/study.yaml"
    command = [sys.executable, "-c", ALONE, str(exported), str(study)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, wanted = json.loads(done.stdout), load(run, "cpu").predict(study).as_dicts()
    assert len(found) == len(wanted) > 10
    for one, other in zip(found, wanted, strict=True):
        for task, said in other["tasks"].items():
            probabilities = one["tasks"][task].pop("probabilities")
            assert probabilities == pytest.approx(said.pop("probabilities"), abs=1e-4)
        assert one == other


def test_info_needs_no_torch(run: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = describe(run)
    monkeypatch.setitem(sys.modules, "torch", None)
    alone, model = describe(run), describe(exported)
    assert {*whole} - {*alone} == {"parameters", "macs"}
    assert (model["exported"], model["kind"], model["runtime"]) == (str(exported), "fp32", "onnx")
    assert (model["tasks"], model["modalities"]) == (whole["tasks"], whole["modalities"])
    assert "pip install 'mailnet[train]'" in describe(None)["models"]


def test_modalities_may_be_absent_and_none_is_too_few(run: Path, exported: Path) -> None:
    runtime, full = load(exported), load(run, "cpu")
    assert isinstance(runtime, RuntimePredictor)
    assert runtime.noise is None
    studies = [{"ct": np.full((32, 32), 90, np.uint8)}, {"age": 50, "site": "north"}]
    found, wanted = (one.predict(studies).probabilities for one in (runtime, full))
    for task, values in wanted.items():
        np.testing.assert_allclose(found[task], values, atol=1e-4)
    with pytest.raises(DataError, match="no modality"):
        runtime.predict({"ct": None, "age": None})
    with pytest.raises(ConfigError, match="one answer"):
        runtime.predict(studies, draws=5)


def _edited(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / "export.json").read_text())
    kept = {key: value for key, value in (facts | changes).items() if value != "gone"}
    (folder / "export.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"no graph"), "not the file that was verified"),
        (lambda folder: (folder / "model.onnx").unlink(), "cannot be read"),
        (lambda folder: _edited(folder, sha256="gone"), "lacks 'sha256'"),
        (lambda folder: _edited(folder, format=99), "newer than"),
        (lambda folder: _edited(folder, runtime="torch"), "not for onnxruntime"),
        (lambda folder: (folder / "config.json").write_text("{}"), "cannot be understood"),
        (lambda folder: (folder / "export.json").write_text("[]"), "is no object"),
    ],
)
def test_what_is_damaged_is_refused(
    exported: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "model"))
    damage(folder)
    with pytest.raises(RunError, match=message):
        load(folder)


def test_what_cannot_be_opened_is_said(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "model"))
    (folder / "model.onnx").write_bytes(b"no graph")
    _edited(folder, sha256=hashlib.sha256(b"no graph").hexdigest())
    with pytest.raises(RunError, match="cannot be opened"):
        RuntimePredictor(folder)
    with pytest.raises(ConfigError, match="computes on the CPU"):
        load(exported, "cuda")
    with pytest.raises(RunError, match="no exported model"):
        RuntimePredictor(tmp_path)
    with pytest.raises(ValueError, match="threads"):
        RuntimePredictor(exported, threads=-1)
    assert mailnet.load(exported).facts.study
