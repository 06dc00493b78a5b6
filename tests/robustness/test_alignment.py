"""The number of draws, against a network whose gradients are a known mean and known noise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mailnet.attacks import Objective, Problem, Threat
from mailnet.nn.batch import Batch
from mailnet.nn.noise import NoiseSource
from mailnet.robustness.attack.alignment import measure_alignment, reached_cosine, wanted_draws
from mailnet.specs import ModalitySpec, TaskSpec

PIXELS = 400


class Noisy(nn.Module):
    """A linear network whose weights are drawn anew at every pass: g = mean + noise."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.modalities = {"ct": ModalitySpec("ct", size=(20, 20))}
        self.tasks = {"t": TaskSpec("t", ("no", "yes"), "binary")}
        self.noise = NoiseSource()
        self.std = std
        self.mean = torch.randn(PIXELS, generator=torch.Generator().manual_seed(0))

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        x = inputs["ct"].flatten(1)
        weights = self.mean + self.noise.draw("attention_noise", x.shape, self.std, x)
        score = (x * weights).sum(1)
        return {"t": torch.stack([torch.zeros_like(score), score], 1)}


def problem(std: float, studies: int = 50) -> Problem:
    images = torch.rand(studies, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    batch = Batch({"ct": images}, {"ct": torch.ones(studies, dtype=torch.bool)}, {"t": torch.ones(studies).long()})
    generator = torch.Generator().manual_seed(2)
    return Problem(Noisy(std).eval(), batch, Threat("linf", {"ct": 0.1}), Objective("margin"), generator=generator)


@pytest.mark.parametrize("std", [0.5, 2.0, 5.0])
def test_the_cosine_of_two_draws_and_of_their_mean_are_what_they_should_be(std: float) -> None:
    given = problem(std)
    true = 1 / (1 + std**2)  # |mean|^2 = 1 a pixel, noise std^2 a pixel
    found = measure_alignment(given, pairs=8, cap=1000)
    assert found.cosine == pytest.approx(true, rel=0.15)
    assert found.draws == found.wanted == wanted_draws(found.cosine)
    assert found.reached >= 0.9
    # The mean of so many draws does point where the expectation's gradient does.
    mean = given.with_draws(found.draws).ask(given.space.clean).gradient
    assert mean is not None
    weights = given.model.mean  # the loss rises against the label, class 1
    assert isinstance(weights, Tensor)
    cosine = torch.cosine_similarity(mean, -weights.expand_as(mean), dim=1).mean()
    assert float(cosine) == pytest.approx(found.reached, abs=0.03)


def test_a_cap_is_kept_and_said() -> None:
    found = measure_alignment(problem(8.0), cap=30)
    assert found.draws == 30
    assert found.wanted is not None
    assert found.wanted > 30
    assert found.reached == reached_cosine(found.cosine, 30)
    assert 0 < found.reached < 0.9
    assert found.as_dict()["studies"] == 50


def test_gradients_that_do_not_agree_at_all_reach_nothing() -> None:
    assert wanted_draws(-0.1) is None
    assert reached_cosine(0.0, 500) == 0.0
    assert wanted_draws(1.0) == 20
    for cosine in (0.01, 0.03, 0.1, 0.3):
        draws = wanted_draws(cosine, least=1)
        assert draws is not None
        assert reached_cosine(cosine, draws) >= 0.9 > reached_cosine(cosine, draws - 1)
    assert math.isclose(reached_cosine(0.2, 1), math.sqrt(0.2))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        measure_alignment(problem(1.0), pairs=0)
