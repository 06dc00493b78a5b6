"""The inner attack: what it may change, what it finds, and what it leaves as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from taught import (
    CLINIC,
    CT,
    MR,
    SIGNS,
    STAGE,
    THREE,
    TWO,
    Taught,
    defense_of,
    gradients,
    lesson_of,
    studies,
)
from torch import nn
from torch.nn import functional

from mailnet.attacks import Threat
from mailnet.training.defense.ascent import ascend, attacked_space, slope
from mailnet.training.defense.modes import evaluated, unchanged_buffers

ORDERS = {"linf": math.inf, "l2": 2.0, "l1": 1.0}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart", "fast", "free"])
def test_what_is_learnt_from_lies_in_ball_and_box(name: str, norm: str) -> None:
    network = Taught([CT, MR, CLINIC], [TWO, THREE, STAGE, SIGNS], hidden=6).train()
    batch = studies(network, absent={"ct": [1], "mr": [0, 3]})
    eps = {"ct": 0.3, "mr": 0.05} if norm == "linf" else {"ct": 0.6, "mr": 0.2}
    defense_of(name, eps, norm=norm).backward(lesson_of(network, batch))
    (given,) = [seen for seen in network.learnt_from() if not torch.equal(seen["ct"], batch.inputs["ct"])]
    for modality, radius in eps.items():
        change = (given[modality] - batch.inputs[modality]).flatten(1)
        lengths = torch.linalg.vector_norm(change, ORDERS[norm], 1)
        assert float(lengths.max()) <= radius * (1 + 1e-5) + 1e-6
        assert bool((lengths[batch.present[modality]] > 0).all())
        assert bool((change[~batch.present[modality]] == 0).all())
        assert float(given[modality].min()) >= 0
        assert float(given[modality].max()) <= 1
    assert torch.equal(given["clinic"], batch.inputs["clinic"])


def test_a_modality_without_a_radius_is_left_alone() -> None:
    network = Taught([CT, MR], [TWO]).train()
    batch = studies(network)
    defense_of("pgd_at", {"mr": 0.1}).backward(lesson_of(network, batch))
    (given,) = network.learnt_from()
    assert torch.equal(given["ct"], batch.inputs["ct"])
    assert not torch.equal(given["mr"], batch.inputs["mr"])


@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart", "fast", "free"])
def test_studies_that_lack_all_that_is_attacked_are_learnt_as_they_are(name: str) -> None:
    network = Taught([CT, CLINIC], [TWO]).train()
    batch = studies(network, absent={"ct": range(6)})
    losses = defense_of(name, {"ct": 0.1}).backward(lesson_of(network, batch))
    assert losses["grade"].item() > 0
    assert gradients(network)
    for seen in network.learnt_from():
        assert all(torch.equal(seen[key], batch.inputs[key]) for key in batch.inputs)


def test_the_worst_case_of_a_linear_network_is_found_exactly() -> None:
    """The margin falls by eps |w|_1 a modality, and the loss is that of the fallen margin."""
    network = Taught([CT, MR], [TWO]).train()
    batch = studies(network, count=8)
    batch.targets["grade"] = torch.tensor([0, 1] * 4)
    batch.inputs = {name: 0.3 + 0.4 * x for name, x in batch.inputs.items()}  # no box is in the way
    eps = {"ct": 0.2, "mr": 0.05}
    head = network.heads["grade"]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        weight = head.weight[1] - head.weight[0]
        flat = torch.cat([batch.inputs[name].flatten(1) for name in ("ct", "mr")], 1)
        margin = (flat @ weight + head.bias[1] - head.bias[0]) * (2 * batch.targets["grade"] - 1)
        fallen = margin - eps["ct"] * weight[:9].abs().sum() - eps["mr"] * weight[9:].abs().sum()
    losses = defense_of("pgd_at", eps).backward(lesson_of(network, batch))
    assert losses["grade"].item() == pytest.approx(functional.softplus(-fallen).mean().item(), rel=1e-5)
    defense = defense_of("fast", eps, step=2.0)  # from anywhere in the ball one such step leads to its corner
    assert defense.backward(lesson_of(network, batch))["grade"].item() == pytest.approx(losses["grade"].item())


def test_the_radius_grows_over_the_warm_up() -> None:
    network = Taught([CT], [TWO]).train()
    batch = studies(network)
    batch.inputs["ct"] = 0.4 + 0.2 * batch.inputs["ct"]
    largest = []
    for reached in (0.125, 0.25, 0.5, 1.0):
        network.seen.clear()
        defense_of("pgd_at", {"ct": 0.2}, warmup=0.5).backward(lesson_of(network, batch, reached=reached))
        largest.append(float((network.learnt_from()[0]["ct"] - batch.inputs["ct"]).abs().max()))
    assert largest == pytest.approx([0.05, 0.1, 0.2, 0.2])


def test_the_attack_leaves_the_network_as_it_was() -> None:
    network = Taught([CT, MR], [TWO], hidden=5).train()
    network.heads.eval()  # a part that was in evaluation mode stays in it
    network.heads["grade"].bias.requires_grad_(False)
    batch = studies(network)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    modes = [module.training for module in network.modules()]
    space = attacked_space(batch, Threat("linf", {"ct": 0.1}))
    assert space is not None
    x = ascend(network, space, batch, space.clean, lambda out: out["grade"].square().sum(), steps=3, step=0.5)
    assert not torch.equal(x, space.clean)
    assert [training for training, _ in network.seen] == [False] * 3
    assert [module.training for module in network.modules()] == modes
    assert all(p.grad is not None and bool((p.grad == 7).all()) for p in network.parameters())
    assert {n for n, p in network.named_parameters() if not p.requires_grad} == {"heads.grade.bias"}
    assert all(torch.equal(buffers[name], buffer) for name, buffer in network.named_buffers())
    assert all(torch.equal(weights[name], p) for name, p in network.named_parameters())


def test_modes_are_put_back_after_an_error() -> None:
    network = Taught([CT], [TWO], hidden=4).train()
    running = network.first[1].running_mean.clone()  # type: ignore[index,union-attr]

    def fail() -> None:
        with evaluated(network, frozen=True), unchanged_buffers(network):
            network.first[1].running_mean += 1  # type: ignore[index,union-attr]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert network.training
    assert network.heads.training
    assert all(p.requires_grad for p in network.parameters())
    assert torch.equal(network.first[1].running_mean, running)  # type: ignore[index,union-attr]


@pytest.mark.parametrize(("name", "extra"), [("pgd_at", 0), ("mart", 0), ("trades", 3)])
def test_draws_are_passes_whose_gradients_are_averaged(name: str, extra: int) -> None:
    network = Taught([CT], [TWO], hidden=4, noise=0.3).train()
    defense_of(name, {"ct": 0.1}, steps=2, draws=3).backward(lesson_of(network, studies(network)))
    assert [training for training, _ in network.seen].count(False) == 2 * 3 + extra


def test_the_mean_of_draws_is_what_is_followed() -> None:
    network = Taught([CT], [TWO], hidden=4, noise=0.5).train()
    batch = studies(network)
    space = attacked_space(batch, Threat("l2", {"ct": 0.5}))
    assert space is not None

    def loss(logits: Any) -> torch.Tensor:
        found: torch.Tensor = functional.cross_entropy(logits["grade"], batch.targets["grade"], ignore_index=-1)
        return found

    torch.manual_seed(1)
    x = ascend(network, space, batch, space.clean, loss, steps=1, step=0.5, draws=4)
    torch.manual_seed(1)
    with evaluated(network, frozen=False):
        mean = torch.stack([slope(network, space, batch, space.clean, loss) for _ in range(4)]).mean(0)
    expected = space.clean + 0.25 * functional.normalize(mean, dim=1)
    known = batch.targets["grade"] >= 0
    torch.testing.assert_close(x[known], expected[known].clamp(0, 1))


@pytest.mark.parametrize("name", ["pgd_at", "trades", "free"])
def test_validation_studies_are_attacked_in_the_whole_radius_within_ball_and_box(name: str) -> None:
    network = Taught([CT, MR, CLINIC], [TWO, THREE, STAGE, SIGNS], hidden=6).eval()
    batch = studies(network, absent={"ct": [1], "mr": [0, 3]})
    defense = defense_of(name, {"ct": 0.3}, warmup=0.9, validation_steps=7)
    found = defense.disturb(network, batch, torch.Generator().manual_seed(0))
    change = found.inputs["ct"] - batch.inputs["ct"]
    assert float(change.abs().max()) == pytest.approx(0.3)
    assert bool((change[1] == 0).all())
    assert float(found.inputs["ct"].min()) >= 0
    assert float(found.inputs["ct"].max()) <= 1
    assert torch.equal(found.inputs["mr"], batch.inputs["mr"])
    assert torch.equal(found.inputs["clinic"], batch.inputs["clinic"])
    alone = studies(Taught([CLINIC], [TWO]))
    assert defense.disturb(network, alone, torch.Generator()) is alone
