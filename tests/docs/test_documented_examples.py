"""What the pages show is done as it stands: every piece of Python, and the commands of the pages on using mailnet.

Trainings are cut to an epoch of a tiny network, the data are made up, and ``FEWER`` says what else is cut. Only tried
against the program (``test_documented_commands``) are measurements on data that are not part of the project, and what
runs until it is stopped or takes minutes, which has tests of its own.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from documented import PAGES, ROOT, Piece, commands, dedented, fenced
from PIL import Image
from starlette.testclient import TestClient

import mailnet.data.phantom
import mailnet.estimator.classifier
import mailnet.training
from factory import Command
from mailnet.attacks import Objective, Problem, Threat
from mailnet.data.config import StudyConfig, load_config
from mailnet.deploy.service.app import create_app
from mailnet.deploy.service.loading import load_models
from mailnet.deploy.service.settings import Settings
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec

USAGE = ("README.md", *(f"docs/{name}.md" for name in ("index", "own", "trust", "robustness", "damage", "deploy")))
BEGINNINGS = USAGE[:3]  # pages that train the run themselves
ENDLESS = ("serve", "watch")
SLOW = ("int8", "torch", "--noise")  # exports, of which the first of the page is made
ELSEWHERE = ("DATA", "PREPARED", "examples/", "benchmarks/")  # words that begin so are of data of others
FEWER = {  # what would else take minutes
    "attack": ("--suite", "quick", "--studies", "4"),
    "certify": ("--draws", "100"),
    "corrupt": ("--severity", "3", "--kind", "gaussian_noise"),
    "explain": ("--number", "1"),
}
STUDY = """
name: mine
manifest: studies.csv
id: id
group: patient
subgroups: [site]
modalities:
  left: {size: 16}
  right: {size: 16}
tasks:
  pathology: {kind: binary, column: diagnosis, classes: [benign, malignant]}
evaluation: {bootstrap: 20}
"""


def write_data(folder: Path) -> None:
    """Write tables of 60 patients with the columns that pages name, and their pictures, redder where malignant."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(60):
        picture = random.integers(0, 120, (16, 16), dtype=np.uint8) + np.uint8(100 * (i % 2))
        Image.fromarray(picture).save(folder / f"{i}.png")
        rows.append({
            "patient_id": f"p{i}", "image": f"{i}.png", "age": 40 + i % 30, "sex": "FM"[i // 2 % 2],
            "diagnosis": ("benign", "malignant")[i % 2],
        })  # fmt: skip
    more = [
        row | {"id": row["patient_id"], "patient": row["patient_id"], "left": row["image"], "right": row["image"],
               "site": "ab"[i // 3 % 2], "device": "cd"[i // 2 % 2], "birads": 2 + i % 4}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    for name, table in (("patients", rows), ("new", more), ("studies", more), ("train", more)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    for name in ("a", "left", "right"):
        shutil.copy(folder / "1.png", folder / f"{name}.png")


def brief(train: Callable[..., Any], config: StudyConfig, *given: Any, **options: Any) -> Any:
    """Train one epoch of a small network."""
    sizes = config.model.model_copy(update={"options": {"widths": [4, 4]}})
    changes = {
        "train": config.train.model_copy(update={"epochs": 1}),
        "model": sizes if config.model.name in ("mail", "robust_mail") else config.model,
        "evaluation": config.evaluation.model_copy(update={"bootstrap": 20}),
    }
    return train(config.model_copy(update=changes), *given, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables, pictures and trained runs, as users have it who go on reading."""
    folder = tmp_path_factory.mktemp("documented")
    write_data(folder)
    (folder / "own").mkdir()
    (folder / "own/study.yaml").write_text(STUDY, encoding="utf-8")
    # The study of the front page, on its own table.
    shown = yaml.safe_load(fenced("README.md", "yaml")[0].text) | {"manifest": "studies.csv"}
    (folder / "own/shown.yaml").write_text(yaml.safe_dump(shown), encoding="utf-8")
    own = load_config(folder / "own/study.yaml", data_root=folder)
    random = own.model_copy(update={"model": own.model.model_copy(update={"name": "robust_mail"})})
    learn = partial(brief, mailnet.training.train, cache=folder / "cache", progress=False)
    for name, config in (
        ("mine", own),
        ("robust", random),
        ("mystudy", load_config(folder / "own/shown.yaml", data_root=folder)),
    ):
        learn(config, folder / "runs" / name)
    for name in ("0", "1", "2"):
        shutil.copytree(folder / "runs/mine", folder / "runs" / name)
    shutil.copytree(folder / "runs/mystudy", folder / "runs/resnet")
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a copy of that one; trainings are brief."""
    folder = tmp_path / "place"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MAILNET_CACHE", str(folder / "cache"))
    monkeypatch.setattr(mailnet.estimator.classifier, "train", partial(brief, mailnet.training.train))
    monkeypatch.setattr(mailnet.training, "train", partial(brief, mailnet.training.train))
    for name in ("generate", "write_phantom"):
        monkeypatch.setattr(mailnet.data.phantom, name, few(getattr(mailnet.data.phantom, name)))
    return folder


def few(make: Callable[..., Any]) -> Callable[..., Any]:
    """Make sixty phantoms in place of thousands."""

    def call(*given: Any, **options: Any) -> Any:
        options |= {"n": min(options["n"], 60)} if "n" in options else {}
        return make(*(min(one, 60) if isinstance(one, int) else one for one in given), **options)

    return call


def usable(page: str) -> list[Piece]:
    """The commands to be given, without those that stand with one on data of others."""
    found: list[Piece] = []
    block: list[Piece] = []
    for piece in commands(page):
        if block and piece.line != block[-1].line + 1:
            found, block = found + _own(block), []
        block.append(piece)
    return found + _own(block)


def _own(block: list[Piece]) -> list[Piece]:
    if any(word.startswith(ELSEWHERE) or word == "RUN" for piece in block for word in piece.words):
        return []
    known = [piece for piece in block if piece.words[0] == "mailnet" and piece.words[1] not in ENDLESS]
    return [piece for piece in known if not set(SLOW) & set(piece.words)]


@pytest.mark.parametrize("page", USAGE)
def test_commands_do_what_the_page_says(page: str, place: Path, mailnet: Command) -> None:
    if page in BEGINNINGS:
        shutil.rmtree(place / "runs/mystudy")
    done = 0
    for piece in usable(page):
        words = ["p1" if word == "ID" else word for word in piece.words[1:]]
        status, _, said = mailnet(*words, *FEWER.get(words[0], ()))
        assert status == 0, f"{piece}: {piece.text}\n{said}"
        for file in re.findall(r"[\w/]+\.(?:html|json|onnx|yaml)\b", piece.text.partition("#")[2]):
            folders = [place, *(place / word for word in words)]
            assert any((folder / file).is_file() for folder in folders), f"{piece}: wrote no {file}"
        done += 1
    assert done


def images(*names: str, channels: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(16, channels, 8, 8, generator=generator) for name in names}


class Linear(torch.nn.Module):
    """A network that attacks pass through thousands of times."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.modalities = {name: ModalitySpec(name, size=(8, 8)) for name in names}
        self.tasks = {"tumour": TaskSpec("tumour", ("none", "benign", "malignant"))}
        self.weights = torch.randn(64 * len(names), 3, generator=torch.Generator().manual_seed(0))

    def forward(
        self, inputs: Mapping[str, torch.Tensor], present: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        seen = [inputs[name].flatten(1) * present[name][:, None] for name in self.modalities]
        return {"tumour": torch.cat(seen, 1) @ self.weights}


def attacked(*names: str) -> tuple[torch.nn.Module, Batch]:
    """A network and studies that it answers rightly."""
    model = Linear(names)
    inputs, present = images(*names), {name: torch.ones(16, dtype=torch.bool) for name in names}
    labels = model(inputs, present)["tumour"].argmax(1)
    return model, Batch(inputs=inputs, present=present, targets={"tumour": labels})


def before_readme(place: Path) -> dict[str, Any]:
    random = np.random.default_rng(0)
    studies = pd.read_csv(place / "studies.csv")
    laboratory = {"laboratory": random.random((40, 3)), "diagnosis": np.arange(40) % 2, "others": random.random((3, 3))}
    return {**images("ct"), **images("mri", channels=3), "studies": studies, **laboratory}


def before_data(place: Path) -> dict[str, Any]:
    table = pd.read_csv(place / "studies.csv")
    labels = table["diagnosis"] == "malignant"
    rows = [{"ct": r.image, "label": int(m), "patient": r.id} for r, m in zip(table.itertuples(), labels, strict=True)]
    study = {"name": "memory", "manifest": [], "group": "patient", "modalities": {"ct": {"size": 32}},
             "tasks": {"label": {"kind": "binary", "classes": [0, 1]}}}  # fmt: skip
    (place / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    shutil.rmtree(place / "runs/mine")
    return {"studies": rows, "others": [{"ct": row["ct"]} for row in rows[:3]]}


def before_attacks(_: Path) -> dict[str, Any]:
    model, batch = attacked("ct", "mri")
    known = {"has_ct": batch.present["ct"], "has_mri": batch.present["mri"], "labels": batch.targets["tumour"]}
    return {"model": model, **batch.inputs, **known}


def before_audit(_: Path) -> dict[str, Any]:
    model, batch = attacked("left", "right")
    return {"model": model, "batch": batch}


def before_robustness(_: Path) -> dict[str, Any]:
    model, batch = attacked("ct", "mri")
    return {"problem": Problem(model.eval(), batch, Threat("linf", {"ct": 4 / 255}), Objective()).take(torch.arange(4))}


GIVEN = {
    "README.md": before_readme,
    "docs/attacks.md": before_attacks,
    "docs/audit.md": before_audit,
    "docs/data.md": before_data,
    "docs/robustness.md": before_robustness,
}


@pytest.fixture
def service(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the address of the service in Python asks one of the run ``mine``."""
    app = create_app(load_models([str(place / "runs/mine")], Settings()), Settings())

    def client(base_url: str, timeout: float) -> TestClient:
        return TestClient(app, base_url=base_url)

    monkeypatch.setattr(httpx, "Client", client)


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("page", [page for page in PAGES if fenced(page, "python")])
def test_python_runs(page: str, place: Path) -> None:
    """All pieces of a page one after the other, since a later one uses the names of an earlier."""
    names: dict[str, Any] = GIVEN[page](place) if page in GIVEN else {}
    for piece in fenced(page, "python"):
        exec(compile(dedented(piece), str(ROOT / page), "exec"), names)
