from __future__ import annotations

import numpy as np
import pytest

from mailnet.specs import TaskSpec
from mailnet.training.validate import validation_metrics

TASKS = {"a": TaskSpec("a", ("no", "yes"), "binary"), "b": TaskSpec("b", ("x", "y")), "c": TaskSpec("c", ("x", "y"))}
SURE = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])


def test_means_are_over_tasks_that_have_the_metric() -> None:
    labels = {"a": np.array([0, 1, 1]), "b": np.array([0, 0, 0]), "c": np.array([-1, -1, -1])}
    found = validation_metrics({task: SURE for task in TASKS}, labels, TASKS)
    assert set(found["tasks"]) == {"a", "b"}  # of c nothing is known
    assert found["accuracy"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found["tasks"]["b"]["macro_auroc"] is None  # one class alone has no ranking
    assert found["macro_auroc"] == found["tasks"]["a"]["macro_auroc"] == pytest.approx(1.0)
    assert found["tasks"]["a"]["loss"] == pytest.approx(-np.log([0.9, 0.8, 0.3]).mean())
