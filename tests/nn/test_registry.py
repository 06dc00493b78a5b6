"""Networks by name."""

import pytest
import torch

from mailnet.nn import create_model, list_models, register_model
from mailnet.nn.registry import NETWORKS
from mailnet.specs import ModalitySpec, TaskSpec

# The reference networks are given widths, no preset.
NAMES = [name for name in list_models() if "reference" not in name]
OPTIONS = {"single_modality": {"modality": "mri"}}


def test_our_networks_are_listed() -> None:
    assert {"mail", "robust_mail", "two_branch_resnet18", "two_branch_resnet50", "late_fusion"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_stand_for_specs(name: str) -> None:
    model = create_model(name, {"ct": 1, "mri": 3}, {"tumour": 4}, width="nano", **OPTIONS.get(name, {}))
    assert model.modalities["mri"] == ModalitySpec("mri", channels=3)
    assert model.tasks["tumour"] == TaskSpec("tumour", ("0", "1", "2", "3"))
    logits = model({"ct": torch.rand(2, 1, 64, 64), "mri": torch.rand(2, 3, 64, 64)})
    assert logits["tumour"].shape == (2, 4)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_preset_names_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="nano, tiny, small, base"):
        create_model(name, {"ct": 1}, {"tumour": 2}, width="huge")


def test_unknown_network_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no model is named 'male'; there are .*mail"):
        create_model("male", {"ct": 1}, {"tumour": 2})


def test_a_name_is_registered_once() -> None:
    class Mine(torch.nn.Module):
        def __init__(self, modalities: object, tasks: object) -> None:
            super().__init__()

    try:
        assert register_model("mine_for_test")(Mine) is Mine
        assert "mine_for_test" in list_models()
        assert isinstance(create_model("mine_for_test", {"ct": 1}, {"tumour": 2}), Mine)
        with pytest.raises(ValueError, match="registered already"):
            register_model("mine_for_test")(type("Other", (), {}))
    finally:
        NETWORKS.forget("mine_for_test")
