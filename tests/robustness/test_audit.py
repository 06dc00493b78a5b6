"""The audit is no rubber stamp: networks masked in a known way fail the check that is to see it, honest ones none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from masked import FINDING, Net, Rippled, clipped, half_quantised, lying, quantised, studies

from mailnet.attacks import Objective, Threat
from mailnet.nn.batch import Batch
from mailnet.robustness.audit.audit import PARTS, Audit, run_audit
from mailnet.robustness.audit.bench import LEAST
from mailnet.robustness.audit.check import Check
from mailnet.robustness.audit.effort import SHORT, Effort
from mailnet.specs import TaskSpec

SMALL = Effort(
    studies=40, suite=SHORT, ladder=4.0, steps=(1, 5, 20), queries=60, points=10, draws=(1, 5, 20), together=40
)
THREAT = Threat("linf", {"ct": 0.05, "pet": 0.05})


def audit(model: Net, draws: int = 1, batch: Batch | None = None, threat: Threat = THREAT) -> Audit:
    return run_audit(model, batch or studies(model), threat, draws=draws, effort=SMALL)


def check(found: Audit, name: str) -> Check:
    return next(each for each in found.checks if each.name == name)


@pytest.mark.parametrize("model", [Net(), Net(hidden=16)], ids=["linear", "tanh"])
def test_an_honest_network_passes_every_check_that_applies(model: Net) -> None:
    found = audit(model)
    assert found.passed
    assert {each.name for each in found.checks if each.passed is None} == {
        "gradients_of_draws_agree",
        "white_box_beats_transfer",
        "clips_hide_nothing",
        "draws_converged",
    }
    # It passes on figures that tell something: some studies stand at the threat's radius, none at the largest.
    curve = check(found, "reaches_zero").curve
    assert curve is not None
    assert curve[0][1] > 0.4
    assert curve[-1][1] == 0


def test_steps_without_a_gradient_are_seen() -> None:
    found = audit(Net(quantised))
    assert {"no_zero_gradients", "loss_rises", "white_box_beats_black_box", "random_search_finds_nothing"} <= {
        *found.failed
    }
    figure = check(found, "no_zero_gradients").figure
    assert figure["zero_of_margin"] == 1
    assert not figure["saturated"]
    assert not found.passed


def test_one_modality_without_a_gradient_is_named() -> None:
    found = audit(Net(half_quantised))
    assert check(found, "no_zero_gradients").figure["hidden"] == ["finding to pet"]
    assert "no_zero_gradients" in found.failed


def test_a_modality_that_the_network_ignores_is_not_taken_for_one_that_hides() -> None:
    def first(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :16], torch.full_like(x[:, 16:], 0.7)], 1)

    found = audit(Net(first))
    assert found.passed
    assert check(found, "no_zero_gradients").figure["ignored"] == {"finding to pet": 1.0}


def test_a_confident_network_is_called_saturated_and_not_masked() -> None:
    found = audit(Net(scale=1e4))
    seen = check(found, "no_zero_gradients")
    assert seen.figure["saturated"]
    assert seen.figure["zero_of_cross_entropy"] > 0.9
    assert seen.figure["zero_of_margin"] == 0
    assert "underflows" in seen.meaning
    assert found.passed


def test_flat_clips_are_seen() -> None:
    found = audit(Net(clipped))
    assert "clips_hide_nothing" in found.failed
    figure = check(found, "clips_hide_nothing").figure
    assert figure["through_at_1"] < figure["plain_at_1"] - 0.1


def test_gradients_that_are_wrong_are_beaten_by_questions() -> None:
    found = audit(Net(lying))
    assert {"white_box_beats_black_box", "loss_rises"} <= {*found.failed}
    assert "no_zero_gradients" not in found.failed


def test_small_steps_that_get_stuck_are_beaten_by_a_single_one() -> None:
    model = Rippled()
    found = audit(model, threat=Threat("linf", {"ct": 0.1, "pet": 0.1}))
    assert "iterative_beats_single_step" in found.failed


def test_one_draw_of_a_noisy_network_has_not_converged() -> None:
    found = audit(Net(noise=3.0))
    assert {"draws_converged", "gradients_of_draws_agree", "white_box_beats_transfer"} <= {*found.failed}
    figure = check(found, "draws_converged").figure
    assert figure["gain_over_draws_in_use"] > 0.1
    assert set(check(found, "white_box_beats_transfer").figure) >= {"frozen_at_1", "noise_off_at_1"}


def test_enough_draws_of_a_mildly_noisy_network_have() -> None:
    found = audit(Net(noise=0.5), draws=5)
    assert found.random
    assert found.passed
    assert check(found, "gradients_of_draws_agree").figure["reached"] >= 0.9
    assert check(found, "draws_converged").passed


def test_points_carried_over_from_another_network_are_compared() -> None:
    # The attacked network lies about its gradients; an honest copy of it gives them away.
    model, other = Net(lying), Net()
    found = run_audit(model, studies(model), THREAT, effort=SMALL, sources=[other])
    assert "white_box_beats_transfer" in found.failed
    honest = run_audit(Net(), studies(Net()), THREAT, effort=SMALL, sources=[Net(seed=7)])
    assert check(honest, "white_box_beats_transfer").passed
    assert honest.passed


def test_the_same_arguments_give_the_same_audit() -> None:
    calls: list[int] = []
    model, few = Net(noise=0.5), replace(SMALL, studies=12, steps=(1, 3), queries=20, points=3, draws=(1, 3))
    first, second = (
        run_audit(model, studies(model), THREAT, draws=2, effort=few, seed=5, advance=calls.append).as_dict()
        for _ in range(2)
    )
    assert calls == [1] * (2 * PARTS)
    assert first["studies"] == 12
    for each in (first, second):
        each.pop("seconds")
        for one in each["checks"]:
            one.pop("seconds")
    assert first == second
    assert first["passes"] >= sum(one["passes"] for one in first["checks"]) > 0
    assert set(first["checks"][0]) == {"name", "passed", "figure", "wanted", "meaning", "passes"}


@pytest.mark.parametrize(
    "tasks",
    [
        [TaskSpec("signs", ("x", "y", "z"), "multilabel")],
        [TaskSpec("stage", ("one", "two", "three"), "ordinal")],
        [FINDING, TaskSpec("grade", ("low", "high"), "binary")],
    ],
    ids=["multilabel", "ordinal", "two tasks"],
)
def test_every_kind_of_task_with_an_absent_modality(tasks: list[TaskSpec]) -> None:
    model = Net(tasks=tasks)
    lacks = torch.arange(60) % 3 == 0
    batch = studies(model, absent={"pet": lacks})
    found = audit(model, batch=batch)
    assert found.failed == []
    assert check(found, "points_hold").figure["outside"] == 0
    assert check(found, "reaches_zero").figure["accuracy"] <= 0.01


def test_l2_and_networks_met_without_their_noise() -> None:
    model = Net(noise=3.0)
    found = run_audit(
        model, studies(model), Threat("l2", {"ct": 0.15, "pet": 0.15}), Objective(), noise="off", effort=SMALL
    )
    assert not found.random
    assert found.passed
    assert check(found, "draws_converged").passed is None


def test_an_attacker_of_one_modality_need_not_break_everything() -> None:
    def faint(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 + 0.05 * (x[:, :16] - 0.5), x[:, 16:]], 1)

    model = Net(faint)
    found = audit(model, threat=Threat("linf", {"ct": 0.05}))
    seen = check(found, "reaches_zero")
    assert seen.passed is None
    assert "does not hold all" in seen.meaning
    assert seen.figure["accuracy"] > 0.01
    assert found.passed
    # Of studies that lack the other modality he holds all.
    batch = studies(model, absent={"pet": torch.arange(60) < 30})
    seen = check(audit(model, batch=batch, threat=Threat("linf", {"ct": 0.05})), "reaches_zero")
    assert LEAST <= seen.figure["studies_wholly_held"] < 40
    assert seen.passed


def test_a_network_that_always_answers_the_same_is_not_taken_for_masked() -> None:
    def narrow(x: torch.Tensor) -> torch.Tensor:
        return 0.5 + 1e-4 * (x - 0.5) + 0.3 * torch.linspace(-1, 1, 32)

    found = audit(Net(narrow))
    seen = check(found, "reaches_zero")
    assert seen.passed is None
    assert seen.figure["accuracy"] == seen.figure["broken_by_nothing"] == 1
    assert "No image at hand is answered otherwise" in seen.meaning
    assert found.passed


def test_what_says_nothing_is_refused() -> None:
    model = Net()
    batch = studies(model)
    wrong = Batch(batch.inputs, batch.present, {"finding": (batch.targets["finding"] + 1) % 3})
    with pytest.raises(ValueError, match="needs 10 studies"):
        audit(model, batch=wrong)
    with pytest.raises(ValueError, match="draws no random numbers"):
        audit(model, draws=5)
