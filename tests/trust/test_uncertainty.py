"""Parts of uncertainty, worked out by hand and as identities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as reference

from mailnet.specs import TaskSpec
from mailnet.trust.uncertainty import confidence_of, measure_uncertainty, wrong_of

Array = np.ndarray[Any, Any]
THREE = TaskSpec("t", tuple("abc"))
FINDINGS = TaskSpec("t", ("a", "b"), "multilabel")


def test_draws_that_agree_and_draws_that_do_not() -> None:
    sure, unsure = [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]
    draws = np.array([[sure, sure, unsure], [sure, [0.0, 1.0, 0.0], unsure]])
    found = measure_uncertainty(draws, THREE)
    bit = np.log(2)
    assert found.mean.tolist() == [sure, unsure, unsure]
    assert found.total == pytest.approx([0, bit, bit])
    assert found.aleatoric == pytest.approx([0, 0, bit])
    assert found.epistemic == pytest.approx([0, bit, 0])
    assert found.variation == pytest.approx([0, 0.5, 0])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), draws=st.integers(1, 6), kind=st.sampled_from(["multiclass", "ordinal", "multilabel"])
)
def test_parts_add_up_and_know_no_order(seed: int, draws: int, kind: Any) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random((draws, 7, 3)) if kind == "multilabel" else rng.dirichlet(np.full(3, 0.3), (draws, 7))
    found = measure_uncertainty(p.astype(np.float32), TaskSpec("t", tuple("abc"), kind))
    again = measure_uncertainty(p[rng.permutation(draws)].astype(np.float32), TaskSpec("t", tuple("abc"), kind))
    assert found.total == pytest.approx(found.aleatoric + found.epistemic)
    assert (found.epistemic >= 0).all()
    assert found.epistemic == pytest.approx(again.epistemic)
    assert ((found.variation >= 0) & (found.variation < 0.67)).all()
    assert found.total.shape == ((7, 3) if kind == "multilabel" else (7,))
    both = np.stack([1 - p, p], -1).mean(0) if kind == "multilabel" else p.mean(0)
    assert found.total == pytest.approx(reference(both, axis=-1), abs=1e-5)
    if draws == 1:
        assert found.epistemic == pytest.approx(0, abs=1e-12)
        assert (found.variation == 0).all()


def test_answers_and_errors() -> None:
    p = np.array([[0.6, 0.4], [0.5, 0.2]])
    labels = np.array([[1.0, np.nan], [0.0, 1.0]])
    assert confidence_of(p, FINDINGS).tolist() == [[0.6, 0.6], [0.5, 0.8]]
    assert wrong_of(p, labels, FINDINGS) == pytest.approx(np.array([[0, np.nan], [0, 1]]), nan_ok=True)
    said = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8]])
    assert confidence_of(said, THREE).tolist() == [0.5, 0.4, 0.8]
    assert wrong_of(said, np.array([1, 1, -1]), THREE) == pytest.approx([0, 1, np.nan], nan_ok=True)


def test_wrong_draws_are_refused() -> None:
    for wrong in (np.ones((2, 3)), np.zeros((0, 2, 3)), np.ones((1, 2, 3))):
        with pytest.raises(ValueError, match=r"must be|do not sum"):
            measure_uncertainty(wrong, THREE)
