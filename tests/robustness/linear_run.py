"""A run whose network is linear, so that what the strongest attack leaves is known exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from factory import save, write_table
from mailnet.bundle import save_bundle
from mailnet.data.config import dump_config, load_config
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData, load_study
from mailnet.nn.noise import NoiseSource
from mailnet.specs import ModalitySpec, TaskSpec

SIDE = 8
IMAGES = ("ct", "mri")
FIRST = 9  # studies that are not tests
STAGES, GRADES = ("one", "two", "three"), ("low", "high")
SECRET = "PATIENT-4711"
GAP = 2e-3  # least distance of a margin from a boundary: no verdict hangs on rounding


class LinearOfTests(nn.Module):
    """Logits of every task are linear in all modalities together; what is absent counts as zeros.

    Args:
        modalities: The modalities.
        tasks: The tasks.
        noise: Standard deviation of noise on the logits; 0 for a network that draws nothing.
        softmax: Whether it returns probabilities, as none should.
    """

    def __init__(
        self,
        modalities: dict[str, ModalitySpec],
        tasks: dict[str, TaskSpec],
        *,
        noise: float = 0.0,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        self.modalities, self.tasks, self.std, self.softmax = modalities, tasks, noise, softmax
        if noise:
            self.noise = NoiseSource()
        generator = torch.Generator().manual_seed(5)
        self.weights = nn.ParameterDict()
        for name, spec in modalities.items():
            size = spec.channels * (SIDE * SIDE if spec.kind == "image" else 1)
            scale = 1.0 if spec.kind == "image" else 0.3
            for task, of in tasks.items():
                self.weights[f"{task}-{name}"] = scale * torch.randn(of.outputs, size, generator=generator)

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        if self.std:
            return self.noise.average(lambda: self._once(inputs, present), self.tasks)
        return self._once(inputs, present)

    def _once(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None) -> dict[str, Tensor]:
        logits = {}
        for task in self.tasks:
            parts = [
                (x.flatten(1) - (0.5 if name in IMAGES else 0.0)) @ self.weights[f"{task}-{name}"].T
                * (1.0 if present is None else present[name][:, None].to(x))
                for name, x in inputs.items()
            ]  # fmt: skip
            logits[task] = torch.stack(parts).sum(0)
            if self.std:
                logits[task] = logits[task] + self.noise.draw("spatial_noise", logits[task].shape, self.std, parts[0])
            if self.softmax:
                logits[task] = logits[task].softmax(1)
        return logits


def write_linear_run(
    folder: Path, *, studies: int = 24, unpaired: bool = False, lacking: int = 0, **options: Any
) -> Path:
    """Write studies, most of them tests, and a run of a linear network; most labels are its answers.

    Args:
        folder: Where to write.
        studies: Number of tests.
        unpaired: Whether a study has one image, ``ct`` with a stage or ``mri`` with a grade.
        lacking: How many of the tests lack the ``mri``.
        options: Of the network.
    """
    data = folder / "data"
    (data / "images").mkdir(parents=True)
    random = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for i in range(studies + FIRST):
        row: dict[str, Any] = {"study": f"{SECRET}-{i}", "split": "test" if i >= FIRST else "train" if i < 6 else "val"}
        for name in IMAGES:
            if not (unpaired and name != IMAGES[i % 2]) and not (name == "mri" and studies + FIRST - i <= lacking):
                pixels = random.integers(60, 196, (SIDE, SIDE)).astype(np.uint8)
                row[name] = save(data, f"images/{name}{i}.png", pixels)
        row["age"] = round(float(random.normal(60, 10)), 1)
        rows.append(row | {"stage": STAGES[i % 3], "grade": GRADES[i // 2 % 2]})
    values: dict[str, Any] = {
        "name": "linear", "manifest": "studies.csv", "id": "study", "split": "split",
        "regime": "unpaired" if unpaired else "paired",
        "modalities": {name: {"size": SIDE} for name in IMAGES},
        "tasks": {"stage": {"classes": list(STAGES)}, "grade": {"kind": "binary", "classes": list(GRADES)}},
        "model": {"name": "linear_of_tests", "options": options}, "evaluation": {"bootstrap": 20},
    }  # fmt: skip
    if unpaired:
        rows = [{key: value for key, value in row.items() if key not in ("age", ("grade", "stage")[i % 2])}
                for i, row in enumerate(rows)]  # fmt: skip
    else:
        values["modalities"]["clinic"] = {"kind": "tabular", "numeric": ["age"]}
    path = data / "study.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    write_table(data / "studies.csv", rows)
    _relabel(data, path, rows)
    config = load_config(path)
    study = load_study(config, cache=folder / "cache")
    run = folder / "run"
    run.mkdir()
    (run / "study.yaml").write_text(dump_config(config), encoding="utf-8")
    model = LinearOfTests(study.modalities, study.tasks, **options)
    save_bundle(run / "bundle", model, "linear_of_tests", options, config, study.tables)
    return run


def _relabel(data: Path, path: Path, rows: list[dict[str, Any]]) -> None:
    """Give most studies the label that the network answers."""
    study = load_study(load_config(path), cache=data.parent / "cache")
    batch = StudyDataset(study).batch(np.arange(len(study)))
    logits = LinearOfTests(study.modalities, study.tasks)(batch.inputs, batch.present)
    for task, found in logits.items():
        for i, answer in enumerate(found.argmax(1).tolist()):
            if task in rows[i] and i >= FIRST and i % 7 != 6:
                rows[i][task] = study.tasks[task].classes[answer]
    write_table(data / "studies.csv", rows)


def attacked_studies(run: Path) -> StudyData:
    """The studies that are attacked."""
    return load_study(load_config(run / "study.yaml"), cache=run.parent / "cache", splits=["test"])


def best_attack(run: Path, task: str, eps: dict[str, float]) -> np.ndarray:
    """(N,) bool, whether a study is right whatever the attacker does in ``linf``; checks that no verdict is close."""
    data = attacked_studies(run)
    batch = StudyDataset(data).batch(np.arange(len(data)))
    model = LinearOfTests(data.modalities, data.tasks)
    clean = model(batch.inputs, batch.present)[task].detach().numpy()
    label = data.labels[task]
    stands = label >= 0
    for other in range(len(data.tasks[task].classes)):
        margin = clean[:, other] - clean[np.arange(len(label)), label]
        for name, radius in eps.items():
            weight = model.weights[f"{task}-{name}"].detach().numpy()
            slope = weight[other] - weight[label]  # (N, D)
            x = batch.inputs[name].flatten(1).numpy()
            low, high = (x[data.present[name]].min(0), x[data.present[name]].max(0)) if name == "clinic" else (0.0, 1.0)
            moved = np.clip(x + radius * np.sign(slope), low, high) - x
            margin = margin + (slope * moved).sum(1) * data.present[name]
        rivals = other != label
        assert (np.abs(margin[rivals & (label >= 0)]) > GAP).all()
        stands = stands & ((margin < 0) | ~rivals)
    return stands
