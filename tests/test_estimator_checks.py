"""scikit-learn's own checks of what an estimator must do, on a small network that reads an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from mailnet import MAILClassifier

SMALL: dict[str, Any] = {
    "model_options": {"width": "nano"},
    "train": {"epochs": 3, "batch_size": 32, "learning_rate": 0.01},
}
# Runs where the process was started with SCIPY_ARRAY_API alone; other arrays than numpy's are not promised.
ELSEWHERE = "check_array_api_input"

CHECKS = [
    (estimator, check)
    for estimator, check in estimator_checks_generator(MAILClassifier(**SMALL))
    if check.func.__name__ != ELSEWHERE
]
NAMES = [check.func.__name__ for _, check in CHECKS]


def test_there_are_checks_of_every_kind() -> None:
    wanted = {"check_classifiers_train", "check_estimators_pickle", "check_methods_sample_order_invariance"}
    assert wanted <= set(NAMES)
    assert len(CHECKS) > 40


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=NAMES)
def test_check(estimator: MAILClassifier, check: Callable[[MAILClassifier], None]) -> None:
    check(estimator)
