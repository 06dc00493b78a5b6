"""Signed and normalised steps: exact on linear networks, and the published attack on the published network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from linear_network import Linear, distances, linear_problem
from small_network import assert_allowed, oracle_problem, standing
from torch.nn import functional

from mailnet.attacks import Objective, Problem, Threat, get_attack, list_attacks
from mailnet.attacks.pgd import bim, fgsm, pgd
from mailnet.attacks.threat import Norm
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.reference.arrays import load_arrays
from mailnet.specs import TaskSpec

EPS = {"a": 0.02, "b": 0.05}
BINARY = (TaskSpec("t", ("no", "yes"), "binary"),)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_network_of_two_inputs_is_solved_exactly(norm: Norm) -> None:
    problem = linear_problem(Linear(("a", "b"), BINARY), norm, EPS, studies=40, objective=Objective("margin"))
    for scale in (1.0, 3.0, 9.0):
        larger = Problem(problem.model, problem.batch, Threat(norm, {k: scale * e for k, e in EPS.items()}))
        reachable = distances(larger) < 1
        x = pgd(larger, steps=10, step=1.0, random_start=False)
        assert_allowed(larger, x)
        assert torch.equal(larger.ask(x, gradient=False).broken, reachable)
        if norm == "linf":
            assert torch.equal(larger.ask(fgsm(larger), gradient=False).broken, reachable)


def test_an_absent_modality_is_not_touched() -> None:
    absent = {"b": torch.tensor([True, False] * 3)}
    problem = linear_problem(Linear(("a", "b"), BINARY), "linf", {"a": 0.5, "b": 0.5}, absent=absent)
    x = pgd(problem, steps=5, early_drop=False, generator=torch.Generator().manual_seed(0))
    assert_allowed(problem, x)
    moved = {name: (part - problem.batch.inputs[name]).flatten(1).abs().amax(1) for name, part in
             problem.space.split(x).items()}  # fmt: skip
    assert not moved["b"][::2].any()
    assert moved["b"][1::2].all()
    assert moved["a"].all()


def test_more_starts_and_steps_break_more_and_broken_studies_cost_nothing(golden_folder: Path) -> None:
    problem, official = oracle_problem(golden_folder, "linf", 60)
    left = {}
    for name, attack in {
        "one step": lambda: fgsm(problem),
        "ten": lambda: bim(problem, steps=10, step=0.2),
        "starts": lambda: pgd(problem, steps=10, step=0.2, restarts=2, generator=torch.Generator().manual_seed(0)),
    }.items():
        problem.questions.zero_()
        x = attack()
        assert_allowed(problem, x)
        wrong = ~problem.batch.targets["kind"].eq(problem.ask(problem.space.clean).logits["kind"].argmax(1))
        assert torch.equal(x[wrong], problem.space.clean[wrong])
        assert problem.questions[wrong].max() <= 2  # once to see it, once just now
        left[name] = standing(problem, x)
    assert left["starts"] <= left["ten"] <= left["one step"] < official["clean.correct"]
    assert left["starts"] <= official["Linf.suite.correct"] + 2


def test_the_published_attack_on_the_published_network(golden_folder: Path) -> None:
    with np.load(golden_folder / "mail_narrow.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    with np.load(golden_folder / "pgd_mail_narrow.npz", allow_pickle=False) as file:
        recorded = {key: file[key] for key in file.files}
    model = create_model("mail_reference", {"mri": 3, "xray": 3}, {"tumour": 5, "finding": 7}, widths=(16, 32, 48, 64))
    load_arrays(model, arrays)
    inputs = {name: torch.from_numpy(arrays[f"in{m}"]) for m, name in enumerate(("mri", "xray"))}
    targets = {name: torch.from_numpy(recorded[f"label{t}"]) for t, name in enumerate(("tumour", "finding"))}
    batch = Batch(inputs, {name: torch.ones(3, dtype=torch.bool) for name in inputs}, targets)
    eps, alpha = float(recorded["eps"]), float(recorded["alpha"])
    problem = Problem(model.eval(), batch, Threat("linf", {"mri": eps, "xray": eps}))
    x = bim(problem, steps=int(recorded["steps"]), step=alpha / eps, early_drop=False)
    # Ten steps of signs cannot be retraced pixel by pixel, see tests/nn/test_reference_golden.py for what noise leaves.
    logits = problem.ask(x, gradient=False).logits
    losses = [functional.cross_entropy(logits[name], targets[name], reduction="none") for name in targets]
    assert float(torch.stack(losses).mean()) == pytest.approx(float(recorded["loss_adv"].mean()), rel=0.05)
    for m, part in enumerate(problem.space.split(x).values()):
        assert ((part - torch.from_numpy(recorded[f"adv{m}"])).abs() < 1e-6).float().mean() > 0.45


def test_what_is_wrong_is_named() -> None:
    problem = linear_problem(Linear(("a",), BINARY), "linf", {"a": 0.1})
    with pytest.raises(ValueError, match="at least 1"):
        pgd(problem, steps=0)
    with pytest.raises(ValueError, match="unknown attack 'pdg'"):
        get_attack("pdg")
    with pytest.raises(ValueError, match="attack 'pgd' has no option 'step_size'"):
        get_attack("pgd", step_size=0.1)
    for name in list_attacks():
        assert callable(get_attack(name))
