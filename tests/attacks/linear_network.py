"""Networks that are linear in their inputs, whose distance to a wrong answer is known."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem, Threat
from mailnet.attacks.threat import Norm
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec

ORDERS: dict[Norm, float] = {"linf": np.inf, "l2": 2, "l1": 1}
SIDE = 2  # of an image, whose values are so few that a general solver checks ours


class Linear(nn.Module):
    """Logits of every task are linear in all modalities together; those that are absent count as zeros.

    Args:
        modalities: Names of grey images.
        tasks: The tasks.
        seed: Of the weights.
    """

    def __init__(self, modalities: tuple[str, ...], tasks: tuple[TaskSpec, ...], seed: int = 0) -> None:
        super().__init__()
        self.modalities = {name: ModalitySpec(name, size=(SIDE, SIDE)) for name in modalities}
        self.tasks = {task.name: task for task in tasks}
        generator = torch.Generator().manual_seed(seed)
        columns = SIDE * SIDE * len(modalities)
        self.weights = {task.name: torch.randn(task.outputs, columns, generator=generator) for task in tasks}
        self.biases = {task.name: torch.zeros(task.outputs) for task in tasks}
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        flat = torch.cat([inputs[name].flatten(1) for name in self.modalities], 1)
        return {name: flat @ self.weights[name].T + self.biases[name] for name in self.tasks}


def linear_problem(
    model: Linear,
    norm: Norm,
    eps: Mapping[str, float],
    *,
    studies: int = 6,
    near_edge: bool = False,
    absent: Mapping[str, Tensor] | None = None,
    targets: Mapping[str, Tensor] | None = None,
    objective: Objective | None = None,
    seed: int = 1,
) -> Problem:
    """Studies whose labels are what the network answers, unless ``targets`` says otherwise.

    Args:
        model: The network.
        norm: Norm of the threat.
        eps: Its radii.
        studies: Number of studies.
        near_edge: Whether values lie near 0 and 1, so that the box is in the way.
        absent: Modality -> (B,) bool, studies that lack it.
        targets: Task -> labels.
        objective: What is wanted.
        seed: Of the inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs, present = {}, {}
    for name in model.modalities:
        x = torch.rand(studies, 1, SIDE, SIDE, generator=generator)
        x = x.round() * 0.96 + 0.02 if near_edge else 0.4 + 0.2 * x
        lacks = (absent or {}).get(name, torch.zeros(studies, dtype=torch.bool))
        inputs[name] = torch.where(lacks[:, None, None, None], torch.zeros_like(x), x)
        present[name] = ~lacks
    labels = {name: logits.argmax(1) for name, logits in model(inputs).items()}
    return Problem(model, Batch(inputs, present, {**labels, **(targets or {})}), Threat(norm, eps), objective)


def shortest(normals: Tensor, offsets: Tensor, low: Tensor, high: Tensor, sizes: list[int], norm: Norm) -> float:
    """The least greatest norm of a change that reaches planes inside a box, by linear programs alone.

    A norm is the greatest of linear functions; each program knows some of them, and its answer tells which to add
    (Kelley's cutting planes). Its value never exceeds the true one. Infinity where the box holds no such change.

    Args:
        normals: (P, D).
        offsets: (P,); a change has to be at least as far along each normal.
        low: (D,) ends of the box.
        high: (D,).
        sizes: Columns of each modality.
        norm: Of each modality's part.
    """
    count = normals.shape[1]
    groups = np.split(np.arange(count), np.cumsum(sizes)[:-1])
    ends = [*zip(low.tolist(), high.tolist(), strict=True), (0, None)]
    goal = np.append(np.zeros(count), 1.0)  # the change, and a bound of its parts' norms
    rules = [np.append(-normal, 0.0) for normal in normals.double().numpy()]
    least = -offsets.double().numpy()
    for _ in range(300):
        found = linprog(goal, np.array(rules), np.append(least, np.zeros(len(rules) - len(least))), bounds=ends)
        if found.status == 2:  # infeasible
            return np.inf
        assert found.success, found.message
        change, bound = found.x[:-1], found.x[-1]
        if max(float(np.linalg.norm(change[g], ORDERS[norm])) for g in groups) <= 1.0001 * bound + 1e-6:
            return float(bound)
        for group in groups:
            part, rule = change[group], np.append(np.zeros(count), -1.0)
            if norm == "linf":
                most = group[np.abs(part).argmax()]
                rule[most] = np.sign(change[most])
            else:
                rule[group] = np.sign(part) if norm == "l1" else part / max(float(np.linalg.norm(part)), 1e-12)
            rules.append(rule)
    raise AssertionError("300 programs do not suffice")


def distances(problem: Problem) -> Tensor:
    """(B,) least length, in radii, of a change that makes a linear network answer every (softmax) task wrongly."""
    model, space = problem.model, problem.space
    assert isinstance(model, Linear)
    radius = space.spread(space.radius)
    logits = model(problem.batch.inputs)
    found = []
    for row in range(len(problem)):
        low = (space.low[row] - space.clean[row]) / radius[row]
        high = (space.high[row] - space.clean[row]) / radius[row]
        ways = []
        for name, values in logits.items():
            label, weight = int(problem.batch.targets[name][row]), model.weights[name]
            others = [other for other in range(len(weight)) if other != label]
            ways.append(
                [((weight[k] - weight[label]) * radius[row], values[row, label] - values[row, k]) for k in others]
            )
        lengths = []
        for planes in product(*ways):
            normals, offsets = (torch.stack(side) for side in zip(*planes, strict=True))
            lengths.append(shortest(normals, offsets, low, high, space.sizes, space.threat.norm))
        found.append(min(lengths))
    return torch.tensor(found)
