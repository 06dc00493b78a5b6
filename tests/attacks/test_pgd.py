"""Signed and normalised steps: exact on linear networks, and the published attack on the published network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_network import (
    CLINIC,
    CT,
    PHOTO,
    THREE,
    TWO,
    Small,
    assert_allowed,
    oracle_problem,
    small_problem,
    standing,
    studies,
)
from torch.nn import functional

from mailnet.attacks import Objective, Problem, Threat, get_attack, list_attacks, register_attack
from mailnet.attacks.pgd import bim, fgsm, pgd
from mailnet.attacks.threat import Norm
from mailnet.nn import create_model
from mailnet.nn.batch import Batch
from mailnet.nn.reference.arrays import load_arrays

DUAL: dict[Norm, float] = {"linf": 1.0, "l2": 2.0}
EPS = {"ct": 0.02, "photo": 0.05}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1.0, 2.0, 6.0])
def test_a_linear_network_of_two_inputs_is_solved_exactly(norm: Norm, scale: float) -> None:
    """The margin can rise by the sum over modalities of radius times the dual norm of the weights' difference."""
    model = Small((CT, PHOTO), (TWO,))
    batch = studies(model, 40, absent={"photo": torch.arange(40) % 3 == 0})
    eps = {name: scale * (1 if norm == "linf" else 2) * radius for name, radius in EPS.items()}
    problem = small_problem(model, norm, eps, Objective("margin"), batch)
    weight = model.weights["grade"][1] - model.weights["grade"][0]
    parts = {"ct": weight[:9], "photo": weight[9:]}
    rise = sum(eps[name] * float(part.norm(DUAL[norm])) * batch.present[name] for name, part in parts.items())
    best = problem.ask(problem.space.clean).loss + rise
    one = pgd(problem, steps=1, step=1.0, random_start=False, early_drop=False)
    several = pgd(problem, steps=20, step=0.25, early_drop=False, generator=torch.Generator().manual_seed(0))
    for x in (one, several):
        assert_allowed(problem, x)
        torch.testing.assert_close(problem.ask(x).loss, best, atol=2e-3, rtol=2e-3)
    stopped = fgsm(problem)
    sure = best.abs() > 1e-3
    assert torch.equal(problem.ask(stopped).broken[sure], best[sure] > 0)
    assert (int((best > 0).sum()) > 3) == (scale > 1)


@pytest.mark.parametrize("random_start", [False, True], ids=["clean", "random"])
def test_studies_misclassified_as_they_are_stay_so(random_start: bool) -> None:
    model = Small((CT, PHOTO), (TWO,))
    batch = studies(model)
    batch.targets["grade"][2] = 1 - batch.targets["grade"][2]
    problem = small_problem(model, "linf", EPS, batch=batch)
    x = pgd(problem, steps=3, restarts=2, random_start=random_start, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x[2], problem.space.clean[2])
    assert problem.questions[2] == 1
    others = [n for n in range(6) if n != 2]
    assert not bool((x[others] == problem.space.clean[others]).all(1).any())


def test_a_broken_study_takes_no_further_step_but_as_published() -> None:
    model = Small((CT, PHOTO), (TWO,), hidden=16)
    problem = small_problem(model, "linf", {"ct": 0.3, "photo": 0.3}, batch=studies(model, 30))
    stopped = bim(problem, steps=10, step=0.1)
    asked = problem.questions.clone()
    broken = problem.ask(stopped).broken
    assert int(broken.sum()) > 0
    assert bool((asked[~broken] == 11).all())
    assert bool((asked[broken] <= 11).all())
    assert int(asked[broken].min()) < 11
    # A point is where its study broke: after as many steps as there were questions about it but the first.
    far = problem.space.norms(stopped - problem.space.clean).amax(1)
    assert bool((far <= 0.3 * 0.1 * (asked - 1) + 1e-5).all())
    problem.questions.zero_()
    published = bim(problem, steps=10, step=0.1, early_drop=False)
    assert problem.questions.tolist() == [11] * 30
    assert float(problem.ask(published).loss.mean()) > float(problem.ask(stopped).loss.mean())


def test_starts_end_when_all_are_broken() -> None:
    model = Small((CT,), (TWO,))
    problem = small_problem(model, "l2", {"ct": 30.0})
    x = pgd(problem, steps=4, restarts=5, generator=torch.Generator().manual_seed(0))
    assert bool(problem.ask(x).broken.all())
    assert int(problem.questions.max()) <= 1 + 5 + 1
    weak = small_problem(model, "l2", {"ct": 1e-4})
    pgd(weak, steps=4, restarts=3, generator=torch.Generator().manual_seed(0))
    assert weak.questions.tolist() == [1 + 3 * 5] * 6


def test_an_absent_modality_is_not_touched() -> None:
    model = Small((CT, PHOTO, CLINIC), (THREE,))
    absent = {"photo": torch.tensor([True, False] * 3)}
    batch = studies(model, absent=absent)
    problem = small_problem(model, "linf", {"photo": 0.5, "ct": 0.5, "clinic": 0.5}, batch=batch)
    x = pgd(problem, steps=5, early_drop=False, generator=torch.Generator().manual_seed(0))
    assert_allowed(problem, x)
    parts = problem.space.split(x)
    moved = {name: (part != batch.inputs[name]).flatten(1).any(1).tolist() for name, part in parts.items()}
    assert moved == {"ct": [True] * 6, "photo": [False, True] * 3, "clinic": [True] * 6}
    assert torch.equal(parts["clinic"][:, 3], batch.inputs["clinic"][:, 3])


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
        wrong = ~problem.batch.targets["cell"].eq(problem.ask(problem.space.clean).logits["cell"].argmax(1))
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


@pytest.mark.parametrize("options", [{"steps": 0}, {"restarts": 0}, {"step": 0.0}, {"step": -0.1}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="steps and restarts must be at least 1 and step positive"):
        pgd(small_problem(Small((CT,), (TWO,)), "linf", {"ct": 0.1}), **options)


def test_attacks_go_by_name() -> None:
    with pytest.raises(ValueError, match="no attack is named 'pdg'"):
        get_attack("pdg")
    with pytest.raises(ValueError, match="attack 'pgd' has no option 'step_size'"):
        get_attack("pgd", step_size=0.1)
    with pytest.raises(ValueError, match="'pgd' is registered already"):
        register_attack("pgd")(fgsm)
    for name in list_attacks():
        assert callable(get_attack(name))
