"""Calibrations beside those of scikit-learn and netcal, whose temperature needs tensorboard and pyro to be imported."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from netcal.binning import IsotonicRegression  # type: ignore[import-untyped]
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from test_calibrator import BINARY, FIVE, Array, too_sure

from mailnet.specs import TaskSpec
from mailnet.trust.fitting import fit_calibrator


class Said(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that is given what it says."""

    def fit(self, said: Array, labels: Array) -> Said:
        self.classes_ = np.unique(labels)
        return self

    def predict(self, said: Array) -> Array:
        return np.asarray(said.argmax(1))

    def predict_proba(self, said: Array) -> Array:
        return said


def theirs(method: str, said: Array, labels: Array) -> Array:
    frozen = FrozenEstimator(Said().fit(said, labels))
    return np.asarray(CalibratedClassifierCV(frozen, method=method).fit(said, labels).predict_proba(said))


# Scikit-learn has temperature scaling from 1.8 on, which Python 3.10 does not get.
if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8):

    @pytest.mark.parametrize("spec", [BINARY, FIVE], ids=lambda spec: spec.kind)
    def test_temperature_equals_scikit_learn(spec: TaskSpec) -> None:
        _, said, labels = too_sure(spec, n=400)
        ours = fit_calibrator(said, labels, spec, spread=np.inf)
        assert ours.apply(said) == pytest.approx(theirs("temperature", said, labels), abs=1e-4)


def test_isotonic_equals_scikit_learn_and_netcal() -> None:
    _, said, labels = too_sure(BINARY, n=400)
    ours = fit_calibrator(said, labels, BINARY, "isotonic").apply(said)
    # Ours stay as far from 0 and 1 as Laplace's rule says.
    margin = 1 / 402
    assert ours == pytest.approx(np.clip(theirs("isotonic", said, labels), margin, 1 - margin))
    peer = IsotonicRegression().fit(said[:, 1], labels).transform(said[:, 1])
    assert ours[:, 1] == pytest.approx(np.clip(peer, margin, 1 - margin))
