"""Networks under attack: linear ones of any inputs and tasks, and the one of which official results are recorded."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem, Threat
from mailnet.attacks.objective import answers
from mailnet.attacks.threat import Norm
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec

DUAL = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}
BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "oracle.py"


class Weighted(nn.Module):
    """Logits of every task are linear in all modalities together.

    Args:
        modalities: With their sizes.
        tasks: The tasks.
        seed: Of the weights; another than attacks draw their starts with, lest these point along the weights.
    """

    def __init__(self, modalities: tuple[ModalitySpec, ...], tasks: tuple[TaskSpec, ...], seed: int = 100) -> None:
        super().__init__()
        self.modalities = {spec.name: spec for spec in modalities}
        self.tasks = {task.name: task for task in tasks}
        generator = torch.Generator().manual_seed(seed)
        columns = sum(shape(spec).numel() for spec in modalities)
        self.weights = {task.name: torch.randn(task.outputs, columns, generator=generator) for task in tasks}
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        flat = torch.cat([inputs[name].flatten(1) for name in self.modalities], 1) - 0.5
        return {name: flat @ self.weights[name].T for name in self.tasks}


def shape(spec: ModalitySpec) -> torch.Size:
    """Of one study's input."""
    return torch.Size((spec.channels, *(spec.size or ())))


def weighted_problem(
    model: Weighted,
    norm: Norm,
    eps: Mapping[str, float],
    *,
    studies: int = 6,
    absent: Mapping[str, Tensor] | None = None,
    targets: Mapping[str, Tensor] | None = None,
    objective: Objective | None = None,
    boxes: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> Problem:
    """Random studies in the middle of their range; labels are what the network answers unless given."""
    generator = torch.Generator().manual_seed(1)
    inputs, present = {}, {}
    for name, spec in model.modalities.items():
        x = 0.3 + 0.4 * torch.rand(studies, *shape(spec), generator=generator)
        lacks = (absent or {}).get(name, torch.zeros(studies, dtype=torch.bool))
        inputs[name] = torch.where(lacks.view(-1, *[1] * (x.dim() - 1)), torch.zeros_like(x), x)
        present[name] = ~lacks
    labels = {name: answers(model.tasks[name], logits) for name, logits in model(inputs).items()}
    labels = {name: given.float() if given.dtype == torch.bool else given for name, given in labels.items()}
    batch = Batch(inputs, present, {**labels, **(targets or {})})
    return Problem(model, batch, Threat(norm, eps, boxes or {}), objective)


def apart(
    model: Weighted,
    task: str,
    norm: Norm,
    eps: Mapping[str, float],
    distances: tuple[float, ...],
    boxes: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> Problem:
    """Studies of a linear network of two classes, at so many times the distance that its attacker can go.

    A study at distance d is misclassified by the best change if d < 1. Where it is not, the margin stays (1 - d) times
    ``reach``.
    """
    weight = model.weights[task][1] - model.weights[task][0]
    x = 0.5 - torch.tensor(distances)[:, None] * reach(model, task, norm, eps) * weight / weight.square().sum()
    inputs, at = {}, 0
    for name, spec in model.modalities.items():
        size = shape(spec)
        inputs[name] = x[:, at : at + size.numel()].reshape(-1, *size)
        at += size.numel()
    present = {name: torch.ones(len(x), dtype=torch.bool) for name in inputs}
    batch = Batch(inputs, present, {task: torch.zeros(len(x), dtype=torch.long)})
    return Problem(model, batch, Threat(norm, eps, boxes or {}), Objective("margin"))


def reach(model: Weighted, task: str, norm: Norm, eps: Mapping[str, float]) -> float:
    """How much the attacker can raise the margin of the second class over the first, boxes aside."""
    weight = model.weights[task][1] - model.weights[task][0]
    sizes = [shape(spec).numel() for spec in model.modalities.values()]
    parts = zip(model.modalities, torch.split(weight, sizes), strict=True)
    return sum(eps.get(name, 0.0) * float(torch.linalg.vector_norm(part, DUAL[norm])) for name, part in parts)


def inside(problem: Problem, x: Tensor) -> bool:
    """Whether rows (B, D) are in all balls and boxes, up to rounding."""
    space = problem.space
    balls = space.norms(x - space.clean) <= space.radius * (1 + 1e-4) + 1e-6
    return bool(balls.all() & (x >= space.low).all() & (x <= space.high).all())


def oracle() -> ModuleType:
    """The benchmark that compares with the recorded official attacks."""
    if "benchmarks_oracle" not in sys.modules:
        spec = importlib.util.spec_from_file_location("benchmarks_oracle", BENCHMARK)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["benchmarks_oracle"] = module
        spec.loader.exec_module(module)
    return sys.modules["benchmarks_oracle"]


def left_of_broken(golden: Path, attack: str, norm: Norm) -> tuple[int, int]:
    """Attack the images that the official attack broke; return how many there are, and how many of them are left."""
    module = oracle()
    arrays = module.read(golden / "attack_oracle.npz")
    rows = (arrays["clean.correct"] & ~module.official(arrays, attack, norm)).nonzero()[0]
    problem = module.problem(arrays, norm, rows)
    x = module.attacked(problem, attack, 0)
    assert inside(problem, x)
    return len(rows), int((~problem.ask(x, gradient=False).broken).sum())
