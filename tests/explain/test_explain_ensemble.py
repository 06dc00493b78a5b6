"""Class activation maps of an ensemble: its members' features, the score of all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from explained import CLINIC, CT, FINDING, studies

from mailnet.explain import explain
from mailnet.nn import create_model

MODALITIES, TASKS = {"ct": CT, "clinic": CLINIC}, {"finding": FINDING}


def ensemble(*names: str) -> Any:
    """An ensemble with random weights."""
    torch.manual_seed(0)
    members = [{"name": name, "options": {"width": "nano"}} for name in names]
    return create_model("ensemble", MODALITIES, TASKS, members=members).eval()


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam", "contrast_cam"])
def test_of_twins_it_is_the_map_of_one(method: str) -> None:
    model = ensemble("mail", "mail")
    model.members[1].load_state_dict(model.members[0].state_dict())
    batch = studies(model, 3)
    alone = explain(model.members[0], batch, "finding", 1, method).maps["ct"]
    torch.testing.assert_close(explain(model, batch, "finding", 1, method).maps["ct"], alone, rtol=1e-4, atol=1e-5)
    assert bool(alone.any())


def test_every_member_counts() -> None:
    model = ensemble("mail", "late_fusion", "mail")
    batch = studies(model, 3)
    found = explain(model, batch, "finding", 1, rectify=False, method="grad_cam").maps["ct"]
    parts = []
    for chosen in range(3):
        layers = model.members[chosen].feature_layers()
        parts.append(explain(model, batch, "finding", 1, "grad_cam", rectify=False, layers=layers).maps["ct"])
    torch.testing.assert_close(found, sum(parts), rtol=1e-4, atol=1e-5)
    assert all(bool(part.any()) for part in parts)
    together = model.feature_layers()["ct"]
    assert len(together) == sum(len(member.feature_layers()["ct"]) for member in model.members)


def test_a_member_without_layers_is_refused() -> None:
    model = ensemble("mail", "mbt")
    with pytest.raises(ValueError, match=r"MBT.* keeps no image of its features"):
        explain(model, studies(model, 2), "finding", method="grad_cam")
    assert bool(explain(model, studies(model, 2), "finding", method="gradient").maps["ct"].any())


@pytest.mark.parametrize(("method", "passes"), [("layer_cam", 1), ("contrast_cam", 2)])
def test_one_pass_serves_all_members(method: str, passes: int) -> None:
    model = ensemble("mail", "late_fusion", "mail")
    made = []
    for member in model.members:
        member.register_forward_hook(lambda *_: made.append(1))
    explain(model, studies(model, 2), "finding", 1, method)
    assert len(made) == passes * len(model.members)
