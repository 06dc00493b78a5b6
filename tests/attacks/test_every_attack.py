"""What holds for every registered attack."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from linear_network import Linear, distances, linear_problem
from small_network import assert_allowed

from mailnet.attacks import Objective, Problem, Threat, get_attack, list_attacks
from mailnet.attacks.threat import Norm
from mailnet.specs import TaskSpec

TASK = (TaskSpec("t", ("a", "b", "c")),)
EPS = {"a": 0.15, "b": 0.3}
SCALE: dict[Norm, float] = {"linf": 1.0, "l2": 2.0}
FEW: dict[str, dict[str, Any]] = {"square": {"queries": 200}, "cw": {"steps": 60}, "hop_skip_jump": {"questions": 600}}
# Gradients of a linear network lead straight to the corner of the ball; random draws and a bound on questions do not.
EXACT = {"apgd", "apgd_ce", "apgd_dlr", "apgd_t", "bim", "fab", "fab_t", "fgsm", "mim", "ni_fgsm", "pgd", "vmi_fgsm"}


def problem(norm: Norm) -> Problem:
    eps = {name: SCALE[norm] * radius for name, radius in EPS.items()}
    absent = {"b": torch.tensor([True, False, False, False] * 6)}
    return linear_problem(Linear(("a", "b"), TASK), norm, eps, studies=24, absent=absent, objective=Objective("margin"))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", list_attacks())
def test_points_are_allowed_repeat_and_break_what_a_linear_network_lets_break(name: str, norm: Norm) -> None:
    given = problem(norm)
    if name == "cw" and norm == "linf":
        with pytest.raises(ValueError, match="l2"):
            get_attack(name)(given)
        return
    attack, options = get_attack(name), FEW.get(name, {})
    given.batch.targets["t"][3] = (given.batch.targets["t"][3] + 1) % 3  # misclassified as it is
    # Another seed than that of the weights, along which the draws would point else.
    x = attack(given, generator=torch.Generator().manual_seed(11), **options)
    assert x.shape == given.space.clean.shape
    assert_allowed(given, x)
    assert torch.equal(x[3], given.space.clean[3])
    assert torch.equal(x, attack(given, generator=torch.Generator().manual_seed(11), **options))

    broken = given.ask(x, gradient=False).broken
    reachable = distances(given) < 1
    assert not (broken & ~reachable).any()
    assert reachable.sum() > 5
    assert (~reachable).sum() > 2
    if name in EXACT and not (name in {"fgsm"} and norm == "l2"):
        assert broken.sum() >= reachable.sum() - 1
    else:
        assert broken.sum() > 1  # beyond the one that was wrong already


@pytest.mark.parametrize("name", list_attacks())
def test_nothing_left_to_break_is_nothing_to_do(name: str) -> None:
    given = problem("l2")
    given.batch.targets["t"][:] = (given.batch.targets["t"] + 1) % 3
    everything = Problem(given.model, given.batch, Threat("l2", {"a": 0.1}))
    x = get_attack(name)(everything, generator=torch.Generator().manual_seed(11))
    assert torch.equal(x, everything.space.clean)
    assert everything.questions.max() <= 3
