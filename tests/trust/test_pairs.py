"""Images of two studies are told from those of one, and an odd image alone is not enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mailnet.trust.pairs import PairScore, fit_pair

Array = np.ndarray[Any, Any]


def studies(count: int, seed: int, shared: float = 3.0) -> tuple[Array, Array]:
    """Return features (n, 6) and (n, 5) that share two hidden numbers of the study, of very different units."""
    rng = np.random.default_rng(seed)
    hidden = shared * rng.normal(size=(count, 2))
    mixing = np.random.default_rng(99)
    found = []
    for size in (6, 5):
        own = hidden @ mixing.normal(size=(2, size)) + rng.normal(size=(count, size))
        found.append(own * 10.0 ** np.arange(size) + 5)
    return found[0], found[1]


def auroc(high: Array, low: Array) -> float:
    return float((high[:, None] > low).mean())


def test_strangers_score_higher() -> None:
    score = fit_pair(*studies(400, 0))
    a, b = studies(300, 1)
    assert auroc(score.score(a, np.roll(b, 1, 0)), score.score(a, b)) > 0.9
    alone = fit_pair(*studies(400, 0, shared=0))
    a, b = studies(300, 1, shared=0)
    assert auroc(alone.score(a, np.roll(b, 1, 0)), alone.score(a, b)) == pytest.approx(0.5, abs=0.06)


def test_it_is_the_ratio_of_two_likelihoods() -> None:
    train, (a, b) = studies(400, 0), studies(3, 1)
    score = fit_pair(*train)
    first, second = (a - score.centre) @ score.axes, (b - score.other_centre) @ score.other_axes
    z = np.concatenate([first, second], axis=1)
    own = np.concatenate(
        [(train[0] - score.centre) @ score.axes, (train[1] - score.other_centre) @ score.other_axes], 1
    )
    covariance = 0.8 * own.T @ own / 400 + 0.2 * np.eye(10)
    size = first.shape[1]

    def log_likelihood(x: Array, of: Array) -> Array:
        return np.asarray(-0.5 * np.einsum("ni,ij,nj->n", x, np.linalg.inv(of), x))

    alone = log_likelihood(first, covariance[:size, :size]) + log_likelihood(second, covariance[size:, size:])
    np.testing.assert_allclose(score.score(a, b), alone - log_likelihood(z, covariance), rtol=2e-4)


def test_arrays_come_back_and_wrong_ones_are_refused() -> None:
    a, b = studies(60, 0)
    score = fit_pair(a, b)
    assert score.axes.shape == (6, 5)
    again = PairScore.from_arrays(score.arrays())
    np.testing.assert_array_equal(again.score(a, b), score.score(a, b))
    good = score.arrays()
    for change in (
        {"axes": good["axes"][:, :2]},
        {"weights": good["weights"] * np.nan},
        {"centre": good["centre"][:2]},
    ):
        with pytest.raises(ValueError, match="pair"):
            PairScore.from_arrays(good | change)
    with pytest.raises(ValueError, match="expected the arrays"):
        PairScore.from_arrays({"centre": good["centre"]})


def test_too_little_to_learn_from_is_refused() -> None:
    a, b = studies(60, 0)
    with pytest.raises(ValueError, match="30 studies"):
        fit_pair(a[:29], b[:29])
    with pytest.raises(ValueError, match="too few ways"):
        fit_pair(a, np.zeros_like(b))
    with pytest.raises(ValueError, match="30 studies"):
        fit_pair(a, b[:50])
