"""Searches in low precision: as strong where they compare, and never taken in by rounding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from attacked import oracle
from small_network import CT, PHOTO, THREE, TWO, Rounded, Small, oracle_problem, small_problem, studies
from torch import Tensor, nn
from torch.nn import functional

from mailnet.attacks import Objective, Problem, Threat, get_attack
from mailnet.attacks.threat import Norm


class Layers(nn.Module):
    """Notes what its layers give; linear ones are asked about tokens, about places and about studies."""

    modalities, tasks = Small((PHOTO,), (THREE,)).modalities, {THREE.name: THREE}

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 4, 1), nn.Linear(4, 3)
        self.found: list[torch.dtype] = []

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        x = self.first(inputs["photo"])
        tokens = x.flatten(2).transpose(1, 2)  # (B, 4, 4)
        of_tokens = functional.linear(tokens, self.last.weight)
        of_places = functional.linear(input=tokens.flatten(0, 1), weight=self.last.weight, bias=self.last.bias)
        logits = self.last(tokens.mean(1))  # smooth: a rounded maximum may lie at another place
        self.found += [x.dtype, of_tokens.dtype, of_places.dtype, logits.dtype]
        return {THREE.name: logits}


class Stubborn(Layers):
    """Puts what layers give into numbers of full precision, which torch refuses where it is of less."""

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        x = inputs["photo"].new_zeros(len(inputs["photo"]), 4, 2, 2)
        x[torch.arange(len(x))] = self.first(inputs["photo"])
        return {THREE.name: self.last(x.amax((2, 3)))}


def low(problem: Problem) -> Problem:
    return problem.with_precision("bf16")


def test_convolutions_compute_in_low_precision_and_last_layers_in_full() -> None:
    model = Layers().eval()
    problem = Problem(model, studies(Small((PHOTO,), (THREE,))), Threat("linf", {"photo": 0.1}), precision="bf16")
    model.found.clear()
    asked = problem.ask(problem.space.clean)
    assert model.found[:4] == [torch.bfloat16, torch.bfloat16, torch.bfloat16, torch.float32]
    assert asked.loss.dtype == asked.logits[THREE.name].dtype == torch.float32
    assert asked.gradient is not None
    assert asked.gradient.dtype == torch.float32
    exact = problem.with_precision("fp32").ask(problem.space.clean)
    assert exact.gradient is not None
    torch.testing.assert_close(asked.gradient, exact.gradient, rtol=0.05, atol=0.002)
    assert not torch.equal(asked.gradient, exact.gradient)


def test_a_network_without_low_precision_is_one_clear_error() -> None:
    batch, threat = studies(Small((PHOTO,), (THREE,))), Threat("linf", {"photo": 0.1})
    problem = Problem(Stubborn().eval(), batch, threat)
    assert problem.ask(problem.space.clean).gradient is not None
    with pytest.raises(ValueError, match="Stubborn does not compute in bf16, only in fp32: Index put requires"):
        low(problem).ask(problem.space.clean)


def test_what_rounding_breaks_is_not_broken() -> None:
    problem = small_problem(Rounded(-1.0), "linf", {"ct": 0.01})  # every answer is wrong in low precision
    x = problem.space.random(torch.Generator().manual_seed(0))
    asked, exact = low(problem).ask(x), problem.ask(x)
    assert torch.equal(asked.broken, exact.broken)
    assert torch.equal(asked.loss, exact.loss)
    assert torch.equal(asked.logits[THREE.name], exact.logits[THREE.name])
    assert not asked.broken.any()
    for attack in ("pgd", "apgd_ce", "apgd_t", "square"):
        options = {"queries": 20} if attack == "square" else {"steps": 10}
        found = get_attack(attack)(low(problem), generator=torch.Generator().manual_seed(0), **options)
        assert not problem.ask(found, gradient=False).broken.any()


def test_what_rounding_breaks_while_another_task_is_where_it_shall_be_is_not_broken() -> None:
    model = Rounded(-1.0, tasks=(THREE, TWO), of=(TWO.name,))
    batch = studies(model)
    wanted = Objective(goals={THREE.name: batch.targets[THREE.name]})  # the other task alone shall be wrong
    problem = small_problem(model, "linf", {"ct": 0.01}, wanted, batch)
    towards = replace(wanted, goals={**(wanted.goals or {}), TWO.name: batch.targets[TWO.name]})
    part = low(problem).with_objective(towards)  # as when one class after the other is climbed to
    assert not part.broken(part.ask(part.space.clean), wanted).any()


def test_what_is_not_finite_is_asked_in_full() -> None:
    problem = small_problem(Rounded(torch.nan), "l2", {"ct": 0.1})
    x = problem.space.random(torch.Generator().manual_seed(0))
    asked, exact = low(problem).ask(x), problem.ask(x)
    assert asked.gradient is not None
    assert exact.gradient is not None
    assert torch.equal(asked.gradient, exact.gradient)
    assert torch.equal(asked.loss, exact.loss)


def test_a_random_network_is_not_asked_twice() -> None:
    model = Rounded(-1.0, noise=0.1)
    problem = small_problem(model, "linf", {"ct": 0.01}, draws=3, generator=torch.Generator().manual_seed(0))
    assert low(problem).ask(problem.space.clean).broken.all()
    assert problem.questions.tolist() == [3] * 6


def test_a_boundary_is_looked_for_in_full() -> None:
    problem = small_problem(Small((CT, PHOTO), (THREE,), hidden=8), "linf", {"ct": 0.05, "photo": 0.05})
    assert torch.equal(get_attack("fab_t")(low(problem), steps=10), get_attack("fab_t")(problem, steps=10))


def test_some_studies_are_asked_in_the_same_precision() -> None:
    problem = low(small_problem(Small((CT,), (THREE,)), "linf", {"ct": 0.1}))
    assert problem.take(torch.tensor([0, 2])).precision == "bf16"
    with pytest.raises(ValueError, match="precision 'fp16' is not one of fp32, bf16"):
        Problem(problem.model, problem.batch, problem.space.threat, precision="fp16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="precision 'fp16' is not one of fp32, bf16"):
        problem.with_precision("fp16")  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_as_strong_as_the_official_code(golden_folder: Path, norm: Norm) -> None:
    module = oracle()
    whole, _ = oracle_problem(golden_folder, norm, 400)
    arrays = module.read(golden_folder / "attack_oracle.npz")
    rows = torch.from_numpy(arrays["clean.correct"] & ~module.official(arrays, "apgd_ce", norm)).nonzero()[:60, 0]
    problem = whole.take(rows)
    found = get_attack("apgd_ce")(low(problem), generator=torch.Generator().manual_seed(0))
    assert int((~problem.ask(found, gradient=False).broken).sum()) <= 1
