"""Networks of other authors."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mailnet.nn import create_model
from mailnet.specs import ModalitySpec

SPECS = {
    "ct": ModalitySpec("ct", size=(28, 28)),
    "pet": ModalitySpec("pet", "volume", size=(6, 16, 16)),
    "clinic": ModalitySpec("clinic", "tabular", channels=5),
}
SHAPES = {"ct": (1, 28, 28), "pet": (1, 6, 16, 16), "clinic": (5,)}


def make(names: tuple[str, ...] = tuple(SPECS), **options: Any) -> nn.Module:
    torch.manual_seed(0)
    options = options or {"width": "nano"}
    return create_model("two_branch_resnet18", {name: SPECS[name] for name in names}, {"t": 3, "u": 2}, **options)


def batch(names: tuple[str, ...] = tuple(SPECS), rows: int = 4) -> dict[str, Tensor]:
    return {name: torch.rand(rows, *SHAPES[name]) for name in names}


@pytest.mark.parametrize("names", [("ct",), ("pet",), ("clinic",), ("ct", "clinic"), tuple(SPECS)], ids="+".join)
def test_shapes_and_gradients(names: tuple[str, ...]) -> None:
    model = make(names)
    logits = model(batch(names))
    assert {task: tuple(value.shape) for task, value in logits.items()} == {"t": (4, 3), "u": (4, 2)}
    if len(names) > 1:
        logits["t"] = logits["t"] + model({names[0]: batch()[names[0]]})["t"]
        logits["u"] = logits["u"] + model({names[1]: batch()[names[1]]})["u"]
    (logits["t"].square().sum() + logits["u"].square().sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_an_absent_modality_is_a_learned_token() -> None:
    model = make().eval()
    inputs = batch()
    present = {"ct": torch.tensor([True, False, True, True]), "pet": torch.tensor([True, True, False, False])}
    logits = model(inputs, present)["t"]
    for row in range(4):
        alone = {name: inputs[name][row : row + 1] for name in inputs if name not in present or present[name][row]}
        torch.testing.assert_close(model(alone)["t"][0], logits[row], rtol=1e-4, atol=1e-5)


def test_small_is_a_resnet18() -> None:
    model = create_model("two_branch_resnet18", {"x": ModalitySpec("x", channels=3, size=(224, 224))}, {"t": 1000})
    full = create_model("two_branch_resnet18", dict(model.modalities), dict(model.tasks), width="small")  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in full.parameters()) == 11_689_512  # as published for ImageNet


def test_exported_network_gives_the_same() -> None:
    model = make(("ct", "clinic"), widths=(8, 16)).eval()
    inputs = batch(("ct", "clinic"))
    present = {"ct": torch.tensor([True, False, True, True])}
    program = torch.export.export(model, (inputs, present))
    torch.testing.assert_close(program.module()(inputs, present)["t"], model(inputs, present)["t"])
