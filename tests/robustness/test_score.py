"""Ways of counting right answers on a random network made by hand, whose draws are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem, Threat
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource
from mailnet.robustness.attack.score import score
from mailnet.robustness.figures import figures
from mailnet.specs import ModalitySpec, TaskSpec

# Logits of class 1 (class 0 has none) of three studies, one row a pass.
DRAWS = torch.tensor([[1.0, 0.5, 2.0], [1.0, 0.5, 2.0], [1.0, -9.0, -1.0], [1.0, 0.5, -1.0], [1.0, 0.5, -1.0]])
TASKS = (TaskSpec("grade", ("low", "high"), "binary"), TaskSpec("signs", ("x", "y"), "multilabel"))


class Listed(nn.Module):
    """Answers by a list, one row a pass, whatever the input."""

    def __init__(self, random: bool = True) -> None:
        super().__init__()
        self.modalities, self.tasks = {"ct": ModalitySpec("ct", size=(1, 1))}, {task.name: task for task in TASKS}
        self.passes = 0
        if random:
            self.noise = NoiseSource()
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        row = DRAWS[self.passes % len(DRAWS)] + 0 * inputs["ct"].sum()
        self.passes += 1
        return {"grade": torch.stack([torch.zeros(3), row], 1), "signs": torch.stack([row, row], 1)}


def problem(random: bool = True) -> Problem:
    batch = Batch(
        {"ct": torch.full((3, 1, 1, 1), 0.5)},
        {"ct": torch.ones(3, dtype=torch.bool)},
        {"grade": torch.ones(3, dtype=torch.long), "signs": torch.tensor([[1.0, 1.0], [1.0, np.nan], [0.0, 1.0]])},
    )
    return Problem(Listed(random), batch, Threat("linf", {"ct": 0.1}))


def test_the_four_ways_of_counting() -> None:
    met = problem()
    found = score(met, met.space.clean, repeats=5)["grade"]
    assert found["single"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert found["worst"].tolist() == [[1.0, 0.0, 0.0]]
    assert found["majority"].tolist() == [[1.0, 1.0, 0.0]]
    # Of the mean probability: (4 sigmoid(.5) + sigmoid(-9)) / 5 = 0.498, (2 sigmoid(2) + 3 sigmoid(-1)) / 5 = 0.514.
    assert found["mean"].tolist() == [[1.0, 0.0, 1.0]]


def test_a_multilabel_answer_is_right_where_all_known_labels_are() -> None:
    met = problem()
    found = score(met, met.space.clean, repeats=5)["signs"]
    assert found["single"].mean(0).tolist() == pytest.approx([1.0, 0.8, 0.0])
    assert found["majority"].tolist() == [[1.0, 1.0, 0.0]]


def test_a_deterministic_network_is_asked_once() -> None:
    met = problem(random=False)
    found = score(met, met.space.clean, repeats=5)["grade"]
    assert met.model.passes == 1
    assert all(values.tolist() == [[1.0, 1.0, 1.0]] for values in found.values())


def test_what_has_no_label_is_not_counted() -> None:
    met = problem()
    met.batch.targets["grade"] = torch.tensor([1, -1, 0])
    found = score(met.with_objective(Objective(tasks=["grade"])), met.space.clean, repeats=5)["grade"]
    assert np.isnan(found["single"]).tolist() == [[False, True, False]] * 5
    known = figures(found["single"], np.array([1, -1, 0]), bootstrap=0)
    assert (known["n"], known["accuracy"], known["balanced_accuracy"]) == (2, *[{"value": pytest.approx(0.8)}] * 2)
    assert figures(np.full(3, np.nan), np.zeros(3))["n"] == 0
    with pytest.raises(ValueError, match="repeats"):
        score(met, met.space.clean, repeats=0)


def test_intervals_redraw_patients_together() -> None:
    right = np.repeat([1.0, 0.0], 50)
    labels = np.tile([0, 1], 50)
    alone = figures(right, labels, redraws=True)
    paired = figures(right, labels, groups=np.repeat(np.arange(10), 10))
    assert alone["accuracy"]["value"] == paired["accuracy"]["value"] == 0.5
    widths = [found["accuracy"]["high"] - found["accuracy"]["low"] for found in (alone, paired)]
    assert widths[0] == pytest.approx(2 * 1.96 * 0.05, rel=0.1)  # of 100 independent studies
    assert widths[1] == pytest.approx(2 * 1.96 * 0.5 / 10**0.5, rel=0.1)  # of 10 patients
    assert len(alone["redraws"]) == 1000
    assert np.std(alone["redraws"]) == pytest.approx(0.05, rel=0.1)


class Filtered(nn.Module):
    """One number a pass moves the answers of all studies alike, as random filters do."""

    def __init__(self) -> None:
        super().__init__()
        self.modalities, self.tasks = {"ct": ModalitySpec("ct", size=(1, 1))}, {"grade": TASKS[0]}
        self.noise = NoiseSource()
        self.eval()

    def forward(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        margin = 4 * (inputs["ct"].flatten(1)[:, 0] - 0.4)
        margin = margin + self.noise.draw("rpf_kernel", (1,), 1.0, margin)
        return {"grade": torch.stack([torch.zeros_like(margin), margin], 1)}


def test_intervals_hold_the_spread_of_draws_that_all_studies_share() -> None:
    count = 150
    x = torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(count, dtype=torch.long)
    batch = Batch({"ct": x}, {"ct": torch.ones(count, dtype=torch.bool)}, {"grade": labels})
    met = Problem(Filtered(), batch, Threat("linf", {"ct": 0.1}))
    truth = stats.norm.cdf(4 * (x.flatten().numpy() - 0.4)).mean()
    held = {"both": 0, "patients alone": 0}
    for seed in range(60):
        found = score(met, met.space.clean, generator=torch.Generator().manual_seed(seed))["grade"]["single"]
        for name, shares in (("both", found), ("patients alone", found.mean(0))):
            # The same patients each time, so that all that differs is the draws.
            ends = figures(shares, labels.numpy(), bootstrap=200)["accuracy"]
            held[name] += ends["low"] <= truth <= ends["high"]
    assert held["patients alone"] <= 45
    assert held["both"] >= 56


def test_draws_of_their_own_widen_intervals_little() -> None:
    random = np.random.default_rng(0)
    right = (random.random((20, 300)) < random.random(300)).astype(float)
    labels = np.zeros(300)
    both, alone = (figures(shares, labels, bootstrap=2000)["accuracy"] for shares in (right, right.mean(0)))
    widths = [found["high"] - found["low"] for found in (both, alone)]
    assert both["value"] == pytest.approx(alone["value"])
    assert 1.0 < widths[0] / widths[1] < 1.15


def test_balanced_accuracy_weighs_classes_alike() -> None:
    found = figures(np.array([1.0] * 9 + [0.5]), np.array([0] * 9 + [1]), bootstrap=0)
    assert found["accuracy"]["value"] == pytest.approx(0.95)
    assert found["balanced_accuracy"]["value"] == pytest.approx(0.75)
    assert figures(np.ones(2), np.ones((2, 3)), bootstrap=0)["balanced_accuracy"] is None


@pytest.mark.parametrize("all_right", [False, True])
def test_no_study_standing_of_a_few_is_no_certainty(all_right: bool) -> None:
    shares, labels = np.full(24, float(all_right)), np.arange(24) % 2
    found = figures(shares, labels, bootstrap=50)
    for metric, units in (("accuracy", 24), ("balanced_accuracy", 12)):
        exact = stats.binomtest(0, units).proportion_ci(method="exact").high
        end = 1 - found[metric]["low"] if all_right else found[metric]["high"]
        assert end == pytest.approx(exact)
        assert found[metric]["value"] == all_right
    patients = figures(shares, labels, groups=np.arange(24) // 4, bootstrap=50)["accuracy"]
    exact = stats.binomtest(0, 6).proportion_ci(method="exact").high
    assert patients["high"] - patients["low"] == pytest.approx(exact)
