"""Small networks of two images whose gradients are honest, or masked in a known way, and studies of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mailnet.attacks.objective import answers
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource
from mailnet.specs import ModalitySpec, TaskSpec

SIDE = 4
PIXELS = 2 * SIDE * SIDE
FINDING = TaskSpec("finding", ("a", "b", "c"))
Layer = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """Logits of all pixels together, by a layer of tanh or none, behind a layer that may mask gradients.

    Args:
        front: What is done to the pixels (B, 32) first.
        scale: Of the logits.
        hidden: Width of the layer of tanh; 0 for none.
        noise: Standard deviation of noise on the pixels' weights; 0 for none.
        tasks: The tasks.
        seed: Of the weights.
    """

    def __init__(
        self,
        front: Layer | None = None,
        *,
        scale: float = 1.0,
        hidden: int = 0,
        noise: float = 0.0,
        tasks: Sequence[TaskSpec] = (FINDING,),
        seed: int = 100,
    ) -> None:
        super().__init__()
        self.modalities = {name: ModalitySpec(name, size=(SIDE, SIDE)) for name in ("ct", "pet")}
        self.tasks = {task.name: task for task in tasks}
        self.front, self.scale, self.std = front, scale, noise
        if noise:
            self.noise = NoiseSource()
        generator = torch.Generator().manual_seed(seed)
        self.first = torch.randn(PIXELS, hidden, generator=generator) / 3 if hidden else None
        width = hidden or PIXELS
        self.weights = {task.name: torch.randn(width, task.outputs, generator=generator) for task in tasks}
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        x = torch.cat([inputs[name].flatten(1) for name in self.modalities], 1)
        x = (x if self.front is None else self.front(x)) - 0.5
        if self.first is not None:
            x = (x @ self.first).tanh()
        noise = self.noise.draw("attention_noise", x.shape, self.std, x) if self.std else 0.0
        return {name: self.scale * (x * (1 + noise)) @ weight for name, weight in self.weights.items()}


class Rippled(Net):
    """Two classes whose margin rises over all but in waves, so that small steps get stuck and large ones leap."""

    def __init__(self) -> None:
        super().__init__(tasks=[TaskSpec("finding", ("no", "yes"), "binary")])

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        logits = super().forward(inputs, present)["finding"]
        margin = logits[:, 1] - logits[:, 0]
        wave = margin + 0.4 * (6 * margin).sin()
        return {"finding": torch.stack([torch.zeros_like(wave), wave], 1)}


class _Lies(torch.autograd.Function):
    """The same forwards; backwards a gradient that has nothing to do with it."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(int(gradients[0].abs().sum() * 1e6) % 2**31)
        return torch.randn(gradients[0].shape, generator=generator)


def lying(x: Tensor) -> Tensor:
    """The same, with random gradients."""
    found = _Lies.apply(x)
    assert isinstance(found, Tensor)
    return found


def quantised(x: Tensor) -> Tensor:
    """Steps, without a gradient."""
    return (8 * x).floor() / 8


def half_quantised(x: Tensor) -> Tensor:
    """The second image in steps, the first as it is."""
    ct, pet = x.chunk(2, 1)
    return torch.cat([ct, quantised(pet)], 1)


def clipped(x: Tensor) -> Tensor:
    """A narrow window, flat outside."""
    return 0.5 + 4 * (x - 0.5).clamp(-0.02, 0.02)


def studies(model: Net, count: int = 60, absent: Mapping[str, Tensor] | None = None, seed: int = 1) -> Batch:
    """Random images whose labels are what the network answers, without noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs, present = {}, {}
    for name in model.modalities:
        lacks = (absent or {}).get(name, torch.zeros(count, dtype=torch.bool))
        x = 0.3 + 0.4 * torch.rand(count, 1, SIDE, SIDE, generator=generator)
        inputs[name], present[name] = x * ~lacks[:, None, None, None], ~lacks
    std, model.std = model.std, 0.0
    logits = model(inputs)
    model.std = std
    labels = {name: answers(task, logits[name]) for name, task in model.tasks.items()}
    return Batch(inputs, present, {name: x.float() if x.dtype == torch.bool else x for name, x in labels.items()})
