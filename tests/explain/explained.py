"""Small networks of several modalities and tasks whose explanations are known, and studies for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource
from mailnet.specs import ModalitySpec, TaskSpec

CT = ModalitySpec("ct", size=(16, 16))
PHOTO = ModalitySpec("photo", channels=3, size=(12, 20))
PET = ModalitySpec("pet", "volume", size=(6, 8, 8))
CLINIC = ModalitySpec("clinic", "tabular", channels=4)
FINDING = TaskSpec("finding", ("a", "b", "c"))
GRADE = TaskSpec("grade", ("low", "high"), "binary")
STAGE = TaskSpec("stage", ("one", "two", "three"), "ordinal")
SIGNS = TaskSpec("signs", ("x", "y"), "multilabel")


class Linear(nn.Module):
    """Logits are linear in all modalities that a study has.

    Args:
        modalities: Modalities with sizes.
        tasks: The tasks.
        noise: Standard deviation of noise on each task's weights, drawn at every pass; 0 for none.
    """

    def __init__(
        self, modalities: tuple[ModalitySpec, ...], tasks: tuple[TaskSpec, ...] = (GRADE,), noise: float = 0.0
    ) -> None:
        super().__init__()
        self.modalities = {spec.name: spec for spec in modalities}
        self.tasks = {task.name: task for task in tasks}
        self.std = noise
        if noise:
            self.noise = NoiseSource()
        generator = torch.Generator().manual_seed(7)
        self.weights = {
            (task.name, spec.name): torch.randn(task.outputs, spec.channels, *(spec.size or ()), generator=generator)
            / 10
            for task in tasks
            for spec in modalities
        }
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        logits = {}
        for task in self.tasks.values():
            total = next(iter(inputs.values())).new_zeros(len(next(iter(inputs.values()))), task.outputs)
            for name, x in inputs.items():
                weight = self.weights[task.name, name]
                if self.std:
                    weight = weight + self.noise.draw("weight_noise", weight.shape, self.std, x)
                part = x.flatten(1) @ weight.flatten(1).T
                total = total + (part if present is None else part * present[name][:, None])
            logits[task.name] = total
        return logits


class Convolutional(nn.Module):
    """Two convolutions a modality, the mean over space, one linear head on all: Grad-CAM's own case."""

    def __init__(self, modalities: tuple[ModalitySpec, ...] = (CT, PHOTO), task: TaskSpec = GRADE) -> None:
        super().__init__()
        self.modalities = {spec.name: spec for spec in modalities}
        self.tasks = {task.name: task}
        torch.manual_seed(0)
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}
        self.first = nn.ModuleDict(
            {s.name: convolution[s.spatial_dims](s.channels, 4, 3, padding=1) for s in modalities}
        )
        self.last = nn.ModuleDict(
            {s.name: nn.Sequential(convolution[s.spatial_dims](4, 5, 3, 2, 1), nn.ReLU()) for s in modalities}
        )
        self.heads = nn.ModuleDict({s.name: nn.Linear(5, task.outputs, bias=False) for s in modalities})
        self.eval()

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        return {name: [self.first[name], self.last[name]] for name in self.modalities}

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        total: Any = 0
        for name in self.modalities:
            here = torch.ones(len(inputs[name]), dtype=torch.bool) if present is None else present[name]
            pooled = self.last[name](self.first[name](inputs[name][here])).flatten(2).mean(2)
            part = self.heads[name](pooled)
            total = total + part.new_zeros(len(here), part.shape[1]).index_copy(0, here.nonzero()[:, 0], part)
        return {next(iter(self.tasks)): total}


def studies(model: nn.Module, count: int = 3, absent: Mapping[str, list[int]] | None = None, seed: int = 1) -> Batch:
    """Random studies of a network's modalities.

    Args:
        model: The network.
        count: How many.
        absent: Modality -> rows that lack it.
        seed: Of the inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs, present = {}, {}
    for name, spec in model.modalities.items():  # type: ignore[union-attr, operator]
        x = torch.rand(count, spec.channels, *(spec.size or ()), generator=generator)
        here = torch.ones(count, dtype=torch.bool)
        here[(absent or {}).get(name, [])] = False
        inputs[name], present[name] = x * here.view(-1, *[1] * (x.ndim - 1)), here
    return Batch(inputs, present)


def network(name: str, modalities: tuple[ModalitySpec, ...], **options: Any) -> nn.Module:
    """Return a small registered network in evaluation mode, of two tasks."""
    torch.manual_seed(0)
    if name == "single_modality":
        options.setdefault("modality", modalities[0].name)
    options |= {"widths": (16, 32)} if name.endswith("reference") else {"width": "nano"}
    specs = {spec.name: spec for spec in modalities}
    return create_model(name, specs, {"grade": GRADE, "stage": STAGE}, **options).eval()
