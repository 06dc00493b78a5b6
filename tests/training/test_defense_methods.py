"""What each defence minimises: losses and gradients against formulas on the studies that it learnt from."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from taught import CT, MR, SIGNS, STAGE, THREE, TWO, Taught, defense_of, gradients, lesson_of, studies
from torch import Tensor, nn
from torch.nn import functional

from mailnet.data.config import DefenseConfig
from mailnet.nn.heads import task_loss
from mailnet.training.defense import Losses
from mailnet.training.defense.gaussian import Gaussian
from mailnet.training.defense.losses import mart_terms, trades_term

EPS = {"ct": 0.1, "mr": 0.05}
TASKS = [TWO, THREE, STAGE, SIGNS]
WEIGHTS = {"finding": torch.tensor([1.0, 2.0, 0.5]), "signs": torch.tensor([3.0, 1.0])}
SHARES = {"grade": 0.5, "finding": 1.0, "stage": 0.25, "signs": 0.75}


def expected(name: str, network: Taught, batch_inputs: dict[str, Tensor], clean_inputs: dict[str, Tensor],
             targets: dict[str, Tensor]) -> Losses:  # fmt: skip
    """The loss of each task, of attacked and of clean studies."""
    clean, attacked = network(clean_inputs), network(batch_inputs)
    found = {}
    for key, task in network.tasks.items():
        where, weight = targets[key], WEIGHTS.get(key)
        loss = task_loss(task, (clean if name == "trades" else attacked)[key], where, weight)
        if name == "trades":
            loss = loss + 2.5 * trades_term(task, clean[key], attacked[key], where, weight)
        if name == "mart":
            margin, moved = mart_terms(task, clean[key], attacked[key], where, weight)
            loss = loss + margin + 2.5 * moved
        found[key] = loss * SHARES[key]
    return found


@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart", "fast", "free"])
def test_losses_and_gradients_are_those_of_the_formula(name: str) -> None:
    network = Taught([CT, MR], TASKS, hidden=6).train()
    batch = studies(network, absent={"mr": [2]})

    def plain(logits: dict[str, Tensor]) -> Losses:
        return {
            key: SHARES[key] * task_loss(task, logits[key], batch.targets[key], WEIGHTS.get(key))
            for key, task in network.tasks.items()
        }

    settings = {"beta": 2.5} if name in ("trades", "mart") else {}
    lesson = lesson_of(network, batch, shares=SHARES, class_weights=WEIGHTS, plain=plain)
    found = defense_of(name, EPS, **settings).backward(lesson)
    ours = gradients(network)
    attacked = network.learnt_from()[-1]
    network.zero_grad()
    losses = expected(name, network, attacked, batch.inputs, batch.targets)
    torch.stack(list(losses.values())).mean().backward()
    for key, loss in losses.items():
        assert found[key].item() == pytest.approx(loss.item(), rel=1e-5), key
    for key, gradient in gradients(network).items():
        torch.testing.assert_close(ours[key], gradient)


@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart"])
def test_the_attack_raises_what_is_minimised(name: str) -> None:
    network = Taught([CT, MR], TASKS, hidden=6).train()
    batch = studies(network, count=12)
    totals = []
    for step in (1e-6, 0.25):  # of no length, and of the default
        losses = defense_of(name, {"ct": 0.3, "mr": 0.3}, step=step).backward(lesson_of(network, batch))
        totals.append(torch.stack(list(losses.values())).sum().item())
    assert totals[1] > totals[0]


@pytest.mark.parametrize("name", ["pgd_at", "trades", "mart", "fast"])
def test_weights_are_perturbed_for_the_gradient_alone(name: str) -> None:
    network = Taught([CT, MR], [TWO, THREE], hidden=6).train()
    batch = studies(network)
    before = {key: p.detach().clone() for key, p in network.named_parameters()}
    buffers = {key: b.clone() for key, b in network.named_buffers()}
    found = defense_of(name, EPS, awp=0.2).backward(lesson_of(network, batch))
    ours = gradients(network)
    assert all(torch.equal(before[key], p) for key, p in network.named_parameters())
    passes = 2 if name in ("trades", "mart") else 1
    seen = network.learnt_from()
    assert len(seen) == 2 * passes
    # The first passes give the direction; only the others count for the statistics.
    assert int(network.first[1].num_batches_tracked) == passes  # type: ignore[index,union-attr]
    network.load_state_dict(buffers, strict=False)

    lesson = lesson_of(network, batch)
    defense = defense_of(name, EPS)
    attacked = lesson.given(seen[-1])
    total = lesson.mean(defense._losses(lesson, network, None, attacked))  # type: ignore[attr-defined]
    parameters = dict(network.named_parameters())
    directions = dict(zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True))
    with torch.no_grad():
        for key, p in parameters.items():
            if p.ndim > 1:
                p.add_(0.2 * p.norm() / directions[key].norm() * directions[key])
    network.zero_grad()
    losses = defense._losses(lesson, network, None, attacked)  # type: ignore[attr-defined]
    lesson.mean(losses).backward()
    assert lesson.mean(losses).item() > total.item()
    for key, loss in losses.items():
        assert found[key].item() == pytest.approx(loss.item(), rel=1e-4)
    for key, gradient in gradients(network).items():
        torch.testing.assert_close(ours[key], gradient, rtol=1e-4, atol=1e-6)


class Curved(Taught):
    """One logit, a quadratic of the images, whose gradients are known: x * curve + straight."""

    def __init__(self) -> None:
        super().__init__([CT, MR], [TWO])
        generator = torch.Generator().manual_seed(8)
        self.curve = nn.Parameter(torch.randn(17, generator=generator))
        self.straight = nn.Parameter(torch.randn(17, generator=generator))

    def forward(self, inputs: object, present: object = None) -> dict[str, Tensor]:
        x = torch.cat([inputs[name].flatten(1) for name in ("ct", "mr")], 1)  # type: ignore[index]
        value = (x.square() / 2) @ self.curve + x @ self.straight
        return {"grade": torch.stack([torch.zeros_like(value), value], 1)}


def test_alignment_is_one_minus_the_cosine_of_two_gradients() -> None:
    network = Curved().train()
    batch = studies(network)
    batch.inputs = {name: 0.4 + 0.2 * x for name, x in batch.inputs.items()}
    lesson = lesson_of(network, batch)
    plain, aligned = (defense_of("fast", {"ct": 0.2, "mr": 0.02}, alignment=weight) for weight in (None, 3.0))
    less, more = (defense.backward(lesson)["grade"].item() for defense in (plain, aligned))
    space = aligned._space(lesson)  # type: ignore[attr-defined]
    point = space.random(torch.Generator().manual_seed(lesson.seed + 1))
    # The sign of the loss's slope by the logit is the same at both ends, so that it does not matter.
    radii = torch.tensor([0.2] * 9 + [0.02] * 8)
    first, second = (radii * (x * network.curve + network.straight) for x in (space.clean, point))
    known = batch.targets["grade"] >= 0
    term = 1 - functional.cosine_similarity(first, second)[known].mean()
    assert more - less == pytest.approx(3 * term.item(), rel=1e-3)

    network.zero_grad()
    plain.backward(lesson)
    without = gradients(network)
    network.zero_grad()
    aligned.backward(lesson)
    slopes = torch.autograd.grad(3 * term, [network.curve, network.straight])
    for key, slope in zip(("curve", "straight"), slopes, strict=True):
        torch.testing.assert_close(gradients(network)[key] - without[key], slope, rtol=1e-3, atol=1e-5)


def test_gradients_of_a_linear_network_are_aligned() -> None:
    network = Taught([CT], [TWO]).train()
    lesson = lesson_of(network, studies(network))
    one, other = (defense_of("fast", {"ct": 0.2}, alignment=weight).backward(lesson) for weight in (None, 5.0))
    assert other["grade"].item() == pytest.approx(one["grade"].item(), abs=1e-5)


def test_free_goes_on_with_its_attack_while_a_batch_is_replayed() -> None:
    network = Taught([CT, MR], [TWO], hidden=6).train()
    batch = studies(network)
    defense = defense_of("free", EPS, step=0.5, replays=3)
    assert defense.replays == 3
    slopes = []

    def backward(loss: Tensor) -> None:
        loss.backward()
        slopes.append(attacked())

    def attacked() -> dict[str, Tensor]:
        return network.learnt_from()[-1]

    for replay in range(3):
        defense.backward(lesson_of(network, batch, replay=replay, backward=backward))
    for before, after in pairwise(slopes):
        points = {key: x.clone().requires_grad_() for key, x in before.items()}
        loss = task_loss(TWO, network(points)["grade"], batch.targets["grade"])
        for (key, radius), slope in zip(EPS.items(), torch.autograd.grad(loss, list(points.values())), strict=True):
            moved = before[key] + 0.5 * radius * slope.sign()
            clean = batch.inputs[key]
            torch.testing.assert_close(after[key], moved.clamp(clean - radius, clean + radius).clamp(0, 1))


def test_free_begins_anew_with_each_batch() -> None:
    network = Taught([CT], [TWO]).train()
    batch = studies(network)
    defense = defense_of("free", {"ct": 0.1})
    for seed, part in ((5, 0), (5, 1), (6, 0), (5, 0)):
        defense.backward(lesson_of(network, batch, seed=seed, part=part))
    first, other_part, other_seed, again = (seen["ct"] for seen in network.learnt_from())
    assert torch.equal(first, other_part)
    assert torch.equal(first, again)
    assert not torch.equal(first, other_seed)


def test_noise_has_each_modalitys_deviation() -> None:
    network = Taught([CT, MR], [TWO]).train()
    batch = studies(network, count=400, absent={"ct": range(200, 400)})
    batch.inputs = {"ct": batch.inputs["ct"] * 0 + 0.5 * batch.present["ct"][:, None, None, None],
                    "mr": batch.inputs["mr"] * 0 + 0.5}  # fmt: skip
    Gaussian({"ct": 0.1}).backward(lesson_of(network, batch))
    (given,) = network.learnt_from()
    assert float((given["ct"][:200] - 0.5).std()) == pytest.approx(0.1, rel=0.1)
    assert bool((given["ct"][200:] == 0).all())
    assert torch.equal(given["mr"], batch.inputs["mr"])
    Gaussian({"mr": 3.0}).backward(lesson_of(network, batch))
    wild = network.learnt_from()[-1]["mr"]
    assert (float(wild.min()), float(wild.max())) == (0, 1)


def test_presets_are_those_published() -> None:
    found = {name: DefenseConfig(name=name) for name in ("pgd_at", "trades", "mart", "fast", "free")}
    assert all(config.eps == pytest.approx(4 / 255) for config in found.values())
    assert [found[name].steps for name in ("pgd_at", "trades", "mart")] == [10] * 3
    assert (found["trades"].beta, found["mart"].beta, found["fast"].step) == (6, 5, 1.25)
