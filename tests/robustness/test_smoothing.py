"""Certificates against what is known in closed form of a linear classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mailnet.robustness.certificate.smoothing import ABSTAIN, Certificate, certified_accuracy, certify, lower_bound

WEIGHTS = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([0.5])}
SIGMA = {"a": 0.5, "b": 2.0}


def linear(inputs: dict[str, Tensor]) -> np.ndarray:
    """Class 1 on the positive side of a plane."""
    found = sum(inputs[name] @ weights for name, weights in WEIGHTS.items())
    assert isinstance(found, Tensor)
    return (found > 0).long().numpy()


def study(value: float) -> dict[str, Tensor]:
    return {"a": torch.tensor([value, 0.0]), "b": torch.tensor([0.0])}


def certified(value: float, **options: int | float) -> Certificate:
    return certify(linear, study(value), SIGMA, generator=torch.Generator().manual_seed(0), **options)  # type: ignore[arg-type]


def test_the_radius_of_a_plane_is_its_distance_in_deviations() -> None:
    # In units of the deviations the plane has the weights sigma w, and the study lies value away from it.
    length = sum(float((SIGMA[name] * weights).square().sum()) for name, weights in WEIGHTS.items()) ** 0.5
    true = 1.0 / length
    found = certified(1.0, draws=200_000, batch=100_000, level=0.01)
    assert found.answer == 1
    assert found.radius <= true
    assert found.radius == pytest.approx(true, rel=0.03)
    assert found.radius_of(0.5) == found.radius / 2
    assert certified(-1.0, draws=2000).answer == 0


def test_the_promise_is_broken_at_most_as_often_as_said() -> None:
    level, draws, chance = 0.1, 50, 0.8
    counts = np.random.default_rng(0).binomial(draws, chance, 1000)
    wrong = np.mean([lower_bound(int(count), draws, level) > chance for count in counts])
    assert wrong <= level + 0.03
    assert wrong > level / 4  # nor is the bound idle


def test_it_abstains_on_the_plane_and_where_noise_cannot_tell() -> None:
    found = certified(0.0, draws=500)
    assert (found.answer, found.radius) == (ABSTAIN, 0.0)
    assert lower_bound(10, 10, 0.001) == pytest.approx(0.001 ** (1 / 10))


def test_a_modality_without_noise_is_given_as_it_is() -> None:
    seen: list[Tensor] = []

    def answer(inputs: dict[str, Tensor]) -> np.ndarray:
        seen.append(inputs["b"])
        assert len(torch.unique(inputs["a"], dim=0)) == len(inputs["a"]) > 1
        return np.zeros(len(inputs["a"]), int)

    certify(answer, study(1.0), {"a": 0.1}, selection=20, draws=50, batch=20)
    assert torch.cat(seen).shape == (70, 1)
    assert not torch.cat(seen).any()


def test_certified_accuracy_falls_with_the_radius() -> None:
    certificates = [Certificate(1, 2.0, 0.9), Certificate(0, 1.0, 0.8), Certificate(ABSTAIN, 0.0, 0.5)]
    shares = certified_accuracy(certificates, np.array([1, 1, 1]), np.array([0.0, 1.0, 2.0, 2.1]))
    assert shares.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert stats.norm.ppf(0.5) == 0  # radius 0 is where a certificate begins


@pytest.mark.parametrize(
    ("sigma", "options", "words"),
    [
        ({"c": 0.1}, {}, "modality 'c', which the study lacks"),
        ({"a": 0.0}, {}, "must be positive"),
        ({}, {}, "needs a sigma"),
        ({"a": 0.1}, {"draws": 0}, "at least one draw"),
        ({"a": 0.1}, {"level": 1.0}, "level between"),
    ],
)
def test_what_is_wrong_is_named(sigma: dict[str, float], options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        certify(linear, study(1.0), sigma, **options)  # type: ignore[arg-type]
