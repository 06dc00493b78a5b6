"""Means of parts, weighted by their labels, give the mean of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_study import small_config

from mailnet.data.study import StudyData
from mailnet.nn.heads import task_loss
from mailnet.specs import TaskSpec
from mailnet.training.losses import class_weights, label_weights

KINDS: list[Any] = ["binary", "multiclass", "multilabel", "ordinal"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_weigh_what_they_count_in_a_mean(kind: Any, weighted: bool, tmp_path: Any) -> None:
    random = np.random.default_rng(0)
    task = TaskSpec("t", ("a", "b") if kind == "binary" else ("a", "b", "c"), kind)
    if kind == "multilabel":
        labels = random.choice([0.0, 1.0, 1.0, np.nan], (40, 3))
    else:
        labels = random.choice([-1, -1, 0, 0, 0, *range(len(task.classes))], 40)
    frame = pd.DataFrame({"split": ["train"] * 40, "id": [str(i) for i in range(40)]})
    data = StudyData(small_config(tmp_path), frame, {}, {"t": task}, {}, {}, {"t": labels})
    weights = class_weights(data) if weighted else {}
    counts = label_weights(data, weights)["t"]
    assert counts.shape == (40,)
    logits, target = torch.randn(40, task.outputs), torch.from_numpy(labels)
    whole = task_loss(task, logits, target, weights.get("t"), 0.1)
    parts = [np.arange(start, stop) for start, stop in ((0, 3), (3, 21), (21, 40))]
    means = [task_loss(task, logits[part], target[part], weights.get("t"), 0.1) for part in parts]
    shares = [counts[part].sum() / counts.sum() for part in parts]
    assert sum(share * mean.item() for share, mean in zip(shares, means, strict=True)) == pytest.approx(
        whole.item(), rel=1e-5
    )
