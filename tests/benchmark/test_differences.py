"""The paired bootstrap against the same computed directly, patient by patient."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from mailnet.benchmark.differences import paired_difference
from mailnet.benchmark.outcome import KEPT
from mailnet.benchmark.results import Results
from mailnet.benchmark.suite import Suite
from mailnet.benchmark.summary import summarise
from mailnet.benchmark.tables import markdown
from mailnet.metrics import measure, redraws
from mailnet.metrics.bootstrap import draw_weights
from mailnet.specs import TaskSpec

TASK = TaskSpec("t", ("a", "b", "c"))
N, DRAWS = 90, 200


def answers(seed: int, skill: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (N, 3) of a network, and the labels and patients (N,) that all networks share."""
    labels = np.random.default_rng(0).integers(0, 3, N)
    logits = np.random.default_rng(seed).normal(size=(N, 3))
    logits[np.arange(N), labels] += skill
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels, np.arange(N) // 3


def drawn(seed: int, skill: float) -> tuple[float, np.ndarray]:
    """Balanced accuracy and its redraws (D,)."""
    p, labels, patients = answers(seed, skill)
    values = redraws(p, labels, TASK, groups=patients, bootstrap=DRAWS)["balanced_accuracy"]
    return measure(p, labels, TASK, bootstrap=0)["metrics"]["balanced_accuracy"]["value"], values


def test_redraws_are_what_intervals_are_made_of() -> None:
    p, labels, patients = answers(1, 1.0)
    labels = np.where(np.arange(N) % 7 == 0, -1, labels)
    measured = measure(p, labels, TASK, groups=patients, bootstrap=DRAWS, seed=4)["metrics"]
    found = redraws(p, labels, TASK, groups=patients, bootstrap=DRAWS, seed=4)
    for metric in ("balanced_accuracy", "macro_auroc", "macro_f1"):
        bounds = np.quantile(found[metric], [0.025, 0.975])
        assert (measured[metric]["low"], measured[metric]["high"]) == pytest.approx(bounds)
    assert redraws(p, np.full(N, -1), TASK) == {}
    assert redraws(p, labels, TASK, groups=np.zeros(N), bootstrap=5) == {}  # one patient says nothing of others


def test_one_seed_each_is_the_plain_paired_bootstrap() -> None:
    (p, labels, patients), (q, _, _) = answers(1, 1.5), answers(2, 1.0)
    direct = []
    for weights in np.concatenate(list(draw_weights(N, patients, DRAWS, 0))):
        rows = np.repeat(np.arange(N), weights.astype(int))
        scores = [balanced_accuracy_score(labels[rows], each[rows].argmax(1)) for each in (p, q)]
        direct.append(scores[0] - scores[1])
    (value, own), (base, others) = drawn(1, 1.5), drawn(2, 1.0)
    found = paired_difference([value], [base], own[None], others[None])
    assert found.value == pytest.approx(value - base)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(direct, [0.025, 0.975])))
    # Pairing matters: of two networks that answer alike the difference is known better than either.
    alike = paired_difference([value], [value], own[None], own[None])
    assert (alike.value, alike.low, alike.high, alike.excludes_zero) == (0.0, 0.0, 0.0, False)


def test_seeds_are_drawn_too() -> None:
    own, base = [drawn(k, 1.5) for k in (1, 2)], [drawn(k, 0.8) for k in (3, 4, 5)]
    values, redrawn = [v for v, _ in own], np.stack([r for _, r in own])
    others, redrawn_others = [v for v, _ in base], np.stack([r for _, r in base])
    found = paired_difference(values, others, redrawn, redrawn_others)
    # Every way of drawing seeds, each as likely, in place of random ones.
    every = [
        redrawn[list(a)].mean(0) - redrawn_others[list(b)].mean(0)
        for a in product(range(2), repeat=2)
        for b in product(range(3), repeat=3)
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])), abs=0.006)
    assert found.value == pytest.approx(np.mean(values) - np.mean(others))
    assert found.excludes_zero
    # Seeds that differ widen the interval: with the mean network in place of each it is narrower.
    steady = [np.tile(r.mean(0), (len(r), 1)) for r in (redrawn, redrawn_others)]
    narrow = paired_difference(values, others, *steady)
    assert narrow.high - narrow.low < found.high - found.low


def test_draws_that_are_not_defined_are_left_out() -> None:
    some = np.linspace(0, 1, 50)[None]
    some[0, :10] = np.nan
    found = paired_difference([0.5], [0.4], some, np.zeros((1, 50)))
    assert (found.low, found.high) == pytest.approx(tuple(np.nanquantile(some, [0.025, 0.975])))
    assert paired_difference([0.5], [0.4], some * np.nan, np.zeros((1, 50))).low is None
    assert paired_difference([0.5], [0.4], np.zeros((1, 0)), np.zeros((1, 0))).high is None


SETTINGS = {**dict.fromkeys(("epochs", "wanted_epochs", "trials", "parameters", "macs")), "tuned": {}}


def suite_of(studies: list[str], networks: list[str], **more: Any) -> Suite:
    return Suite.model_validate(
        {
            "name": "small",
            "studies": {study: {"study": "study.yaml"} for study in studies},
            "networks": {network: {"name": "mail"} for network in networks},
            "reference": networks[0],
            **more,
        }
    )


def cell(seed: int = 0, **tasks: tuple[float, list[float]]) -> dict[str, Any]:
    """A cell by task -> value and redraws."""
    found = {
        name: {
            "n": 4,
            "groups": None,
            "drawn": "",
            "metrics": {key: {"value": value} for key in KEPT},
            "redraws": {"balanced_accuracy": redrawn} if redrawn else {},
        }
        for name, (value, redrawn) in tasks.items()
    }
    return {**SETTINGS, "seed": seed, "seconds": 1.0, "machine": {}, "only": {}, "tasks": found}


def test_a_task_of_one_patient_has_no_interval_nor_the_mean_of_tasks() -> None:
    cells = {
        name: [cell(many=(value, [value, value + 0.1, value]), one=(value, []))]
        for name, value in {"a": 0.5, "b": 0.7}.items()
    }
    found = summarise(Results(suite_of(["s"], ["a", "b"]), {"s": cells}, {}, []))["differences"]
    assert [each["task"] for each in found] == ["many", "one", "mean of tasks"]
    assert [each["value"] for each in found] == pytest.approx([0.2] * 3)
    assert [each["low"] for each in found] == [pytest.approx(0.2), None, None]


def test_ranks_are_of_seeds_that_all_have_and_groups_are_ranked_by_themselves() -> None:
    suite = suite_of(["s", "t", "u"], ["a", "b"], groups={"first two": ["s", "t"]}, seeds=[0, 1])

    def row(value: float, seed: int = 0) -> dict[str, Any]:
        return cell(seed, only=(value, [value] * 3))

    cells = {
        "s": {"a": [row(0.5), row(0.1, 1)], "b": [row(0.4)]},  # the mean of both seeds of a is below b
        "t": {"a": [row(0.5)], "b": [row(0.4)]},
        "u": {"a": [row(0.5)], "b": [row(0.8)]},
    }
    found = summarise(Results(suite, cells, {}, []))
    assert found["ranks"]["seeds"] == {"s": [0], "t": [0], "u": [0]}
    assert found["ranks"]["networks"] == ["a", "b"]
    assert found["ranks"]["mean_ranks"] == pytest.approx([4 / 3, 5 / 3])
    assert found["ranks"]["scores"][0] == pytest.approx([0.5, 0.4])
    assert found["groups"]["first two"]["mean_ranks"] == [1, 2]
    # Differences keep all seeds, whose spread the interval shows.
    assert found["record"] == {"b": {"better": 1, "worse": 1, "undecided": 1}}
    text = markdown(found, [])
    assert "### Ranks: first two" in text
    assert "| b | 1 | 1 | 1 |" in text

    cells["t"]["a"] = [row(0.5, 1)]
    found = summarise(Results(suite, cells, {}, []))
    assert found["ranks"] is None
    assert "No ranks: the networks share no seed on t." in found["notes"]
