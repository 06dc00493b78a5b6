"""Counts of parameters and operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mailnet.nn import create_model, list_models
from mailnet.nn.counts import count_operations, count_parameters
from mailnet.nn.noise import set_noise
from mailnet.specs import ModalitySpec

SMALL = {"ct": ModalitySpec("ct", channels=1, size=(32, 32)), "mri": ModalitySpec("mri", channels=3, size=(32, 32))}


class Tiny(nn.Module):
    """A network whose operations are counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.modalities = {"ct": ModalitySpec("ct", size=(8, 8)), "age": ModalitySpec("age", "tabular", 5)}
        self.trunks = nn.ModuleDict({"ct": nn.Conv2d(1, 4, 3, padding=1)})
        self.table = nn.Linear(5, 4)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: dict[str, torch.Tensor], present: None = None) -> dict[str, torch.Tensor]:
        image = self.trunks["ct"](inputs["ct"]).mean((2, 3))
        return {"t": self.head(torch.cat([image, self.table(inputs["age"])], 1)) @ torch.eye(2)}


@pytest.mark.parametrize("batch", [1, 3])
def test_operations_by_hand(batch: int) -> None:
    count = count_operations(Tiny(), batch)
    assert count.modules == {"trunks": 8 * 8 * 9 * 4, "table": 20, "head": 16, "forward": 4}
    assert count.macs == sum(count.modules.values())
    assert count.flops == 2 * count.macs


def test_sizes_replace_those_of_the_specs() -> None:
    assert count_operations(Tiny(), sizes={"ct": (16, 8)}).modules["trunks"] == 16 * 8 * 9 * 4


def test_parameters_by_hand() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm2d(4))
    model[0].weight.requires_grad_(False)
    count = count_parameters(model)
    assert (count.trainable, count.total) == (4 + 8, 12 + 4 + 8 + 8)


def test_tied_parameters_count_once() -> None:
    layer = nn.Linear(3, 4)
    assert count_parameters(nn.Sequential(layer, layer)).total == 16


@pytest.mark.parametrize("name", list_models())
def test_every_registered_network(name: str) -> None:
    # The reference networks are given widths, no preset; one network has to be told its modality.
    options: dict[str, Any] = {"widths": (16, 32)} if "reference" in name else {"width": "nano"}
    model = create_model(name, SMALL, {"tumour": 2}, **options, **({"modality": "ct"} if "single" in name else {}))
    count = count_operations(model)
    assert count.macs > 0
    assert sum(count.modules.values()) == pytest.approx(count.macs, abs=len(count.modules))
    parameters = count_parameters(model)
    assert 0 < parameters.trainable <= parameters.total


def test_published_parameter_counts() -> None:
    """The authors' notebook prints 11,374,464 trainable and 11,424,384 total parameters.

    In each EMCAM of C channels, alpha1, alpha2 (C each) and global_scale2 (1) reach no output; we leave them out.
    """
    count = count_parameters(create_model("mail_reference", {"mri": 3, "xray": 3}, {"tumour": 5, "finding": 7}))
    dead = sum(2 * width + 1 for width in (64, 128, 256, 512))
    assert count.trainable == 11_374_464 - dead
    assert count.total == 11_424_384 - dead


def test_the_model_is_left_as_it_was() -> None:
    model = create_model("robust_mail_reference", SMALL, {"tumour": 2}, widths=(16, 32)).train()
    model.trunks[0].stem_bn.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    count_operations(model)
    assert model.training
    assert not model.trunks[0].stem_bn.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_averaged_draws_cost_as_many_passes() -> None:
    model = create_model("robust_mail_reference", SMALL, {"tumour": 2}, widths=(16, 32))
    once = count_operations(model)
    set_noise(model, "mean", draws=3)
    assert count_operations(model).macs == 3 * once.macs


class Attention(nn.Module):
    """The cells of a table as four tokens of eight numbers, which attend to each other in one fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.modalities = {"cells": ModalitySpec("cells", "tabular", 32)}
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: dict[str, torch.Tensor], present: None = None) -> dict[str, torch.Tensor]:
        tokens = (inputs["cells"] * self.scale).reshape(-1, 1, 4, 8)  # (B, heads, tokens, D)
        return {"t": nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)}


def test_attention_is_counted() -> None:
    assert count_operations(Attention()).macs == 2 * 4 * 4 * 8  # of the weights, and of their products with the values


def test_bad_arguments() -> None:
    model = create_model("mail_reference", {"ct": 1}, {"tumour": 2}, widths=(16,))
    with pytest.raises(ValueError, match=r"modality 'ct' has no size; give one, as in sizes=\{'ct'"):
        count_operations(model)
    with pytest.raises(ValueError, match="sizes names pet; the network has ct"):
        count_operations(model, sizes={"pet": (8, 8)})
    with pytest.raises(ValueError, match="a size of 2 numbers is needed"):
        count_operations(model, sizes={"ct": (8, 8, 8)})
