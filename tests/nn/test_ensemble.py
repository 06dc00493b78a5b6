"""Several networks as one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mailnet.nn import create_model, list_models
from mailnet.nn.counts import count_operations
from mailnet.nn.heads import probabilities
from mailnet.nn.noise import get_noise, set_noise
from mailnet.specs import ModalitySpec, TaskSpec

MODALITIES = {"ct": ModalitySpec("ct", size=(16, 16)), "labs": ModalitySpec("labs", "tabular", 3)}
TASKS = {
    "site": TaskSpec("site", ("a", "b", "c")),
    "signs": TaskSpec("signs", ("x", "y"), "multilabel"),
    "stage": TaskSpec("stage", ("1", "2", "3", "4"), "ordinal"),
}
MEMBERS: list[dict[str, Any]] = [
    {"name": "mail", "options": {"width": "nano"}},
    {"name": "late_fusion", "options": {"width": "nano"}},
    {"name": "robust_mail", "options": {"width": "nano", "emcam": 1}},
]


def ensemble(members: list[dict[str, Any]] = MEMBERS) -> Any:
    """An ensemble with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return create_model("ensemble", MODALITIES, TASKS, members=members).eval()


def studies(count: int = 4) -> dict[str, Tensor]:
    """Inputs of both modalities."""
    random = torch.Generator().manual_seed(1)
    return {"ct": torch.rand(count, 1, 16, 16, generator=random), "labs": torch.randn(count, 3, generator=random)}


@pytest.mark.parametrize("task", TASKS)
def test_it_says_the_mean_of_what_its_members_say(task: str) -> None:
    model = ensemble()
    set_noise(model, "off")
    present = {"ct": torch.tensor([True, True, False, True]), "labs": torch.tensor([True, False, True, True])}
    with torch.no_grad():
        # wide apart, so that thresholds come out of order
        for member in model.members:
            for parameter in member.heads.parameters():
                parameter.mul_(20)
        found = probabilities(TASKS[task], model(studies(), present)[task])
        each = [probabilities(TASKS[task], member(studies(), present)[task]) for member in model.members]
    torch.testing.assert_close(found, torch.stack(each).mean(0))
    assert not torch.allclose(each[0], each[1], atol=1e-3)


def test_gradients_go_through_every_member() -> None:
    model = ensemble()
    inputs = studies()
    inputs["ct"].requires_grad_()
    model(inputs)["site"][:, 0].sum().backward()
    assert inputs["ct"].grad is not None
    assert bool(inputs["ct"].grad.flatten(1).any(1).all())
    assert all(any(bool(p.grad.any()) for p in m.parameters() if p.grad is not None) for m in model.members)


def test_one_source_leads_all_members_that_draw() -> None:
    model = ensemble([MEMBERS[2], MEMBERS[0], MEMBERS[2]])
    source = set_noise(model, "sample", generator=torch.Generator().manual_seed(3))
    assert get_noise(model) is source
    assert [get_noise(member) is source for member in model.members] == [True, False, True]
    with torch.no_grad():
        first = model(studies())["site"]
        second = model(studies())["site"]
        source.generator = torch.Generator().manual_seed(3)
        assert torch.equal(model(studies())["site"], first)
    assert not torch.equal(first, second)


def test_it_is_known_but_not_one_to_train() -> None:
    model = ensemble()
    assert "ensemble" not in list_models()
    parts = [count_operations(member).macs for member in model.members]
    assert count_operations(model).macs == sum(parts)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "needs members"),
        ([{"options": {}}], "name and options, got options"),
        ([{"name": "mail", "weights": 1}], "got name, weights"),
        ([{"name": "male"}], "no model is named 'male'"),
    ],
)
def test_what_is_no_ensemble_is_refused(members: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ensemble(members)
