"""Small networks of several modalities and tasks with studies that they answer rightly, and the oracle's network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from attacked import oracle
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem, Threat
from mailnet.attacks.threat import Norm
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource
from mailnet.specs import ModalitySpec, TaskSpec

CT = ModalitySpec("ct", size=(3, 3))
PHOTO = ModalitySpec("photo", channels=2, size=(2, 2))
PET = ModalitySpec("pet", "volume", size=(2, 2, 2))
CLINIC = ModalitySpec("clinic", "tabular", channels=4)
BOX = (torch.tensor([-2.0, 0.0, -1.0, 5.0]), torch.tensor([2.0, 1.0, 1.0, 5.0]))  # of the clinic; its last column stays

THREE = TaskSpec("finding", ("a", "b", "c"))
TWO = TaskSpec("grade", ("low", "high"), "binary")
STAGE = TaskSpec("stage", ("one", "two", "three"), "ordinal")
SIGNS = TaskSpec("signs", ("x", "y"), "multilabel")


class Small(nn.Module):
    """A linear network, or one with a layer of tanh, on all modalities together.

    Args:
        modalities: The modalities, with sizes.
        tasks: The tasks.
        hidden: Width of the layer; 0 for none.
        noise: Standard deviation of noise on each task's logits; 0 for a network that draws nothing.
        seed: Of the weights.
    """

    def __init__(
        self,
        modalities: Sequence[ModalitySpec],
        tasks: Sequence[TaskSpec],
        hidden: int = 0,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.modalities = {spec.name: spec for spec in modalities}
        self.tasks = {task.name: task for task in tasks}
        self.std = noise
        if noise:
            self.noise = NoiseSource()
        generator = torch.Generator().manual_seed(seed)
        self.columns = {spec.name: spec.channels * math.prod(spec.size or ()) for spec in modalities}
        width = sum(self.columns.values())
        self.first = torch.randn(hidden, width, generator=generator) if hidden else None
        self.weights = {task.name: torch.randn(task.outputs, hidden or width, generator=generator) for task in tasks}
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        flat = torch.cat([inputs[name].flatten(1) for name in self.modalities], 1)
        if self.first is not None:
            flat = (flat @ self.first.T).tanh()
        logits = {name: flat @ self.weights[name].T for name in self.tasks}
        if self.std:
            logits = {
                name: value + self.noise.draw("spatial_noise", value.shape, self.std, value)
                for name, value in logits.items()
            }
        return logits


class Rounded(Small):
    """Answers otherwise, or with NaN, wherever it computes in low precision.

    Args:
        value: What logits are multiplied by there.
        noise: See ``Small``.
        tasks: The tasks.
        of: Those that it answers otherwise; None for all.
    """

    def __init__(
        self, value: float, noise: float = 0.0, tasks: Sequence[TaskSpec] = (THREE,), of: Sequence[str] | None = None
    ) -> None:
        super().__init__((CT, PHOTO), tasks, noise=noise)
        self.value, self.of = value, of

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        logits = super().forward(inputs, present)
        low = torch.is_autocast_enabled("cpu")
        changed = (self.tasks if self.of is None else self.of) if low else ()
        return {name: value * self.value if name in changed else value for name, value in logits.items()}


def studies(model: Small, count: int = 6, absent: Mapping[str, Tensor] | None = None, seed: int = 1) -> Batch:
    """Studies in the middle of their range, whose labels are what the network answers (of noise, without it).

    Args:
        model: The network.
        count: Number of studies.
        absent: Modality -> (B,) bool, studies that lack it.
        seed: Of the inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs, present = {}, {}
    for name, spec in model.modalities.items():
        x = 0.4 + 0.2 * torch.rand(count, spec.channels, *(spec.size or ()), generator=generator)
        lacks = (absent or {}).get(name, torch.zeros(count, dtype=torch.bool))
        present[name] = ~lacks
        inputs[name] = x * present[name].view(-1, *[1] * (x.ndim - 1))
    std, model.std = model.std, 0.0
    logits = model(inputs, present)
    model.std = std
    targets = {}
    for name, task in model.tasks.items():
        kinds = {"multilabel": (logits[name] > 0).float(), "ordinal": (logits[name].cummin(1).values > 0).sum(1)}
        targets[name] = kinds.get(task.kind, logits[name].argmax(1))
    return Batch(inputs, present, targets)


def small_problem(
    model: Small,
    norm: Norm,
    eps: Mapping[str, float],
    objective: Objective | None = None,
    batch: Batch | None = None,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> Problem:
    """The studies as a problem; a table has the box of the clinic."""
    boxes = {name: BOX for name in eps if model.modalities[name].kind == "tabular"}
    batch = studies(model) if batch is None else batch
    return Problem(model, batch, Threat(norm, eps, boxes), objective, draws=draws, generator=generator)


def oracle_problem(folder: Path, norm: Norm, count: int) -> tuple[Problem, dict[str, int]]:
    """Return the first studies of the oracle, and how many of them its attacks leave correct."""
    arrays = oracle().read(folder / "attack_oracle.npz")
    left = {key: int(arrays[key][:count].sum()) for key in arrays if key.endswith(".correct")}
    return oracle().problem(arrays, norm, slice(count)), left


def standing(problem: Problem, x: Tensor) -> int:
    """How many studies rows (B, D) leave correct."""
    return int((~problem.ask(x, gradient=False).broken).sum())


def assert_allowed(problem: Problem, x: Tensor) -> None:
    """Rows lie in every ball, but for rounding, and exactly in the box; what is not held is as it was."""
    space = problem.space
    assert bool((space.norms(x - space.clean) <= space.radius * (1 + 1e-5) + 1e-6).all())
    assert bool((x >= space.low).all())
    assert bool((x <= space.high).all())
    assert torch.equal(x[~space.free], space.clean[~space.free])
