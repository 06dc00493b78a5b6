"""Suites on the network whose official results are recorded, on linear ones, and on one that draws."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent / "attacks"))

from attacked import inside, oracle
from small_network import CT, PHOTO, THREE, TWO, Rounded, Small, small_problem, studies

from mailnet.attacks.threat import Norm
from mailnet.errors import ConfigError
from mailnet.robustness.attack.network import choose_precision, draws_numbers, refuse_probabilities
from mailnet.robustness.attack.run_suite import Progress, run_suite, standing_share
from mailnet.robustness.attack.suites import Suite, get_suite

QUICK = get_suite("quick")
FIRST = 60  # of the recorded images that the official suite broke


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_suite_leaves_no_more_than_the_official_one(golden_folder: Path, norm: Norm) -> None:
    module = oracle()
    arrays = module.read(golden_folder / "attack_oracle.npz")
    # What the official suite left is at most left by ours, too.
    rows = (arrays["clean.correct"] & ~module.official(arrays, "suite", norm)).nonzero()[0][:FIRST]
    problem = module.problem(arrays, norm, rows)
    last = module.suite_on(problem, seed=0)
    assert int(last.chance.sum()) <= 0.01 * FIRST
    assert inside(problem, last.x)
    assert torch.equal(last.chance == 1, ~problem.ask(last.x, gradient=False).broken)
    assert (last.after.diff(dim=0) <= 0).all()


def test_larger_radii_go_on_from_smaller_ones() -> None:
    model = Small((CT, PHOTO), (THREE,), hidden=8)
    batch = studies(model, 40)
    shares, start, asked = [], None, []
    for eps in (0.02, 0.05, 0.1):
        problem = small_problem(model, "linf", {"ct": eps, "photo": eps / 2}, batch=batch)
        first = None if start is None else Progress(start.x, start.chance, start.chance[None])
        *_, start = run_suite(problem, QUICK, start=first)
        if first is not None:
            kept = first.chance == 0
            assert torch.equal(start.x[kept], first.x[kept])  # what is broken is not attacked again
        shares.append(float(start.chance.mean()))
        asked.append(int((problem.questions > 2).sum()))
        assert inside(problem, start.x)
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[0] < 1
    assert asked == sorted(asked, reverse=True)


def test_one_that_goes_on_ends_where_the_whole_does() -> None:
    model = Small((CT, PHOTO), (TWO,), noise=0.2)
    eps = {"ct": 0.05, "photo": 0.05}

    def problem() -> object:
        return replace_draws(small_problem(model, "linf", eps, batch=studies(model, 12), draws=3))

    def replace_draws(found: object) -> object:
        found.sure = True  # type: ignore[attr-defined]
        return found

    whole = list(run_suite(problem(), QUICK, seed=4))  # type: ignore[arg-type]
    for step in whole:
        *_, last = run_suite(problem(), QUICK, seed=4, start=replace(step))  # type: ignore[arg-type]
        assert torch.equal(last.x, whole[-1].x)
        assert torch.equal(last.after, whole[-1].after)
        assert last.passes == whole[-1].passes


def test_a_search_in_low_precision_is_judged_in_full() -> None:
    model = Rounded(-1.0, noise=0.1)  # in low precision every answer is wrong
    problem = small_problem(model, "linf", {"ct": 0.01, "photo": 0.01}, draws=2)
    first, *_, last = run_suite(problem.with_precision("bf16"), QUICK)
    assert torch.equal(first.chance, next(run_suite(problem, QUICK)).chance)
    assert (last.chance > 0.5).all()


def test_a_network_without_low_precision_is_refused_before_it_is_searched() -> None:
    def refuse(*_: object) -> None:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("dtypes differ")

    model = Small((CT,), (TWO,))
    model.register_forward_hook(refuse)
    assert choose_precision("fp32", model, [studies(model)]) == "fp32"
    with pytest.raises(ConfigError, match=r"Small does not compute in bf16.*dtypes differ.*Give --precision fp32"):
        choose_precision("bf16", model, [studies(model)])


def test_a_random_network_is_found_and_every_member_of_rand_meets_it() -> None:
    model = Small((CT, PHOTO), (TWO,), noise=0.3)
    batch = studies(model, 10)
    assert draws_numbers(model, [batch])
    assert not draws_numbers(Small((CT, PHOTO), (TWO,)), [batch])
    problem = small_problem(model, "linf", {"ct": 0.1, "photo": 0.1}, batch=batch, draws=4)
    problem.sure = True
    rand = get_suite("rand")
    shorter = [replace(m, options={"queries": 30} if m.attack == "square" else {**m.options, "steps": 5})
               for m in rand.members]  # fmt: skip
    *_, last = run_suite(problem, Suite("rand", shorter, ["random"]))
    assert last.done == len(rand.members)
    assert (last.after.diff(dim=0) <= 0).all()
    # Points were chosen by few fresh draws; by many others they break as much, up to chance.
    share = standing_share(problem, last.x, torch.Generator().manual_seed(77))
    assert float(share.mean()) == pytest.approx(float(last.chance.mean()), abs=0.1)
    clean = float(standing_share(problem, problem.space.clean).mean())
    assert float(share.mean()) < clean - 0.2


def test_dropout_that_stays_on_has_no_noise_that_could_be_off() -> None:
    class Dropping(Small):
        def forward(self, inputs: object, present: object = None) -> dict[str, torch.Tensor]:
            logits = super().forward(inputs)  # type: ignore[arg-type]
            return {name: torch.nn.functional.dropout(value + 1, 0.3) for name, value in logits.items()}

    model = Dropping((CT,), (TWO,))
    batch = studies(model, 6)
    assert draws_numbers(model, [batch])
    problem = small_problem(model, "linf", {"ct": 0.1}, batch=batch, draws=3)
    members = [m for m in get_suite("rand").members if m.attack == "mim"]
    *_, last = run_suite(problem, Suite("transfer", members, ["random"]))
    assert last.passes[0] == 0 < last.passes[1]


def test_probabilities_are_told_from_logits() -> None:
    model = Small((CT,), (THREE, TWO))
    logits = model(studies(model, 8).inputs)
    refuse_probabilities(model.tasks, logits)
    wrong = {**logits, "grade": logits["grade"].softmax(1)}
    with pytest.raises(ValueError, match="task 'grade': the network returns probabilities"):
        refuse_probabilities(model.tasks, wrong)

    class Softened(Small):
        def forward(self, inputs: object, present: object = None) -> dict[str, torch.Tensor]:
            return {name: value.softmax(1) for name, value in super().forward(inputs).items()}  # type: ignore[arg-type]

    soft = Softened((CT,), (THREE,))
    with pytest.raises(ValueError, match="returns probabilities"):
        next(run_suite(small_problem(soft, "linf", {"ct": 0.1}), QUICK))


def test_images_outside_their_range_are_refused() -> None:
    model = Small((CT,), (TWO,))
    batch = studies(model)
    batch.inputs["ct"] = batch.inputs["ct"] * 255
    with pytest.raises(ValueError, match=r"modality 'ct' has values from .* images must be in \[0, 1\]"):
        small_problem(model, "linf", {"ct": 0.1}, batch=batch)


def test_a_study_without_a_label_stands_and_costs_nothing() -> None:
    model = Small((CT,), (TWO,))
    batch = studies(model)
    batch.targets["grade"][2] = -1
    problem = small_problem(model, "linf", {"ct": 0.5}, batch=batch)
    *_, last = run_suite(problem, QUICK)
    assert last.chance.tolist() == [0, 0, 1, 0, 0, 0]
    assert int(problem.questions[2]) < 10  # no climb of 20 steps
