"""A batch of no study has no answers, and is no error."""

from __future__ import annotations

import pytest
import torch

from mailnet.nn.registry import create_model
from mailnet.specs import ModalitySpec, TaskSpec


@pytest.mark.parametrize("name", ["mail", "robust_mail", "two_branch_resnet18"])
def test_no_study_has_no_answers(name: str) -> None:
    modalities = {"ct": ModalitySpec("ct", size=(16, 16)), "blood": ModalitySpec("blood", kind="tabular", channels=3)}
    model = create_model(name, modalities, {"finding": TaskSpec("finding", ("a", "b", "c"))}).eval()
    inputs = {"ct": torch.zeros(0, 1, 16, 16), "blood": torch.zeros(0, 3)}
    assert model(inputs)["finding"].shape == (0, 3)
    assert model(inputs, {"ct": torch.zeros(0, dtype=torch.bool)})["finding"].shape == (0, 3)
    assert model({"ct": inputs["ct"]})["finding"].shape == (0, 3)
