"""A small network that reads handwritten digits, trained in a second or two: something real to attack quickly."""

from __future__ import annotations

from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from mailnet.attacks import Problem, Threat
from mailnet.attacks.threat import Norm
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec

TRAINED, EPOCHS, SIZE = 1400, 6, 50
SMOOTH = 0.1  # a step of signed gradients in training, so that not all is broken by the least change
EPS: dict[Norm, float] = {"linf": 0.12, "l2": 0.6}


class Digits(nn.Module):
    """Logits (B, 10) of images (B, 1, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.modalities = {"digit": ModalitySpec("digit", size=(8, 8))}
        self.tasks = {"value": TaskSpec("value", tuple("0123456789"))}
        first, second = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.net = nn.Sequential(
            first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(384, 48), nn.ReLU(), nn.Linear(48, 10)
        )

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        return {"value": self.net(inputs["digit"])}


@lru_cache(maxsize=1)
def digits_network() -> tuple[Digits, Tensor, Tensor]:
    """Return the trained network, and the images and labels it was not trained on and answers rightly."""
    pixels, values = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(values).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Digits()
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(EPOCHS):
            for rows in torch.randperm(TRAINED).split(SIZE):
                x, y = images[rows], labels[rows]
                point = x.clone().requires_grad_()
                (slope,) = torch.autograd.grad(functional.cross_entropy(model.net(point), y), point)
                optimizer.zero_grad()
                functional.cross_entropy(model.net((x + SMOOTH * slope.sign()).clamp(0, 1)), y).backward()
                optimizer.step()
    model.eval().requires_grad_(False)
    with torch.no_grad():
        right = model.net(images[TRAINED:]).argmax(1) == labels[TRAINED:]
    return model, images[TRAINED:][right], labels[TRAINED:][right]


def digits_problem(norm: Norm, first: int = 200, eps: float | None = None) -> Problem:
    """Return the first of those digits under attack."""
    model, images, labels = digits_network()
    here = torch.ones(first, dtype=torch.bool)
    batch = Batch({"digit": images[:first]}, {"digit": here}, {"value": labels[:first]})
    return Problem(model, batch, Threat(norm, {"digit": eps or EPS[norm]}))
