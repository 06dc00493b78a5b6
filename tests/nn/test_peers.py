"""Networks of other authors on convolutional encoders: what all of them keep."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mailnet.nn import create_model
from mailnet.nn.counts import count_operations
from mailnet.nn.layers import channels_last
from mailnet.specs import ModalitySpec

BRANCHES = ("two_branch_resnet18", "two_branch_resnet50", "two_branch_densenet121", "two_branch_efficientnet_b0")
PEERS = (*BRANCHES, "single_modality", "late_fusion", "early_fusion")
SPECS = {
    "ct": ModalitySpec("ct", size=(28, 28)),
    "photo": ModalitySpec("photo", channels=3, size=(40, 24)),
    "pet": ModalitySpec("pet", "volume", size=(6, 16, 16)),
    "clinic": ModalitySpec("clinic", "tabular", channels=5),
    "blood": ModalitySpec("blood", "tabular", channels=3),
}
SHAPES = {"ct": (1, 28, 28), "photo": (3, 40, 24), "pet": (1, 6, 16, 16), "clinic": (5,), "blood": (3,)}
GROUPS = [
    ("ct",),
    ("pet",),
    ("clinic",),
    ("ct", "photo"),
    ("clinic", "ct"),
    ("pet", "clinic"),
    ("clinic", "blood"),
    ("ct", "photo", "clinic"),
    tuple(SPECS),
]
CASES = [
    (name, group)
    for name in PEERS
    for group in (GROUPS if name not in BRANCHES[1:] else [("ct",), ("pet",), tuple(SPECS)])
    if name != "early_fusion" or group != tuple(SPECS)
]
MIXED = ("ct", "photo", "clinic")

each_case = pytest.mark.parametrize(
    ("name", "names"), CASES, ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
each_peer = pytest.mark.parametrize("name", PEERS)


def make(name: str, names: tuple[str, ...] = MIXED, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    if name == "single_modality" and len(names) > 1:
        options.setdefault("modality", names[0])
    modalities = {modality: SPECS[modality] for modality in names}
    return create_model(name, modalities, {"t": 3, "u": 2}, **{"width": "nano", **options})


def batch(names: tuple[str, ...] = MIXED, rows: int = 4, seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: torch.rand(rows, *SHAPES[name]) for name in names}


@each_case
def test_shapes_and_gradients(name: str, names: tuple[str, ...]) -> None:
    model = make(name, names).train()
    logits = model(batch(names))
    assert {task: tuple(value.shape) for task, value in logits.items()} == {"t": (4, 3), "u": (4, 2)}
    if len(names) > 1:
        logits["t"] = logits["t"] + model({names[0]: batch(names)[names[0]]})["t"]
        logits["u"] = logits["u"] + model({names[1]: batch(names)[names[1]]})["u"]
    (logits["t"].square().sum() + logits["u"].square().sum()).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@each_case
def test_a_study_depends_on_nothing_but_what_it_has(name: str, names: tuple[str, ...]) -> None:
    model = make(name, names).eval()
    inputs = batch(names)
    present = {names[0]: torch.tensor([True, False, True, True]), names[-1]: torch.tensor([True, True, False, True])}
    present = present if len(names) > 1 else {}
    logits = model(inputs, present)["t"]
    for row in range(4):
        alone = {m: inputs[m][row : row + 1] for m in inputs if m not in present or present[m][row]}
        torch.testing.assert_close(model(alone)["t"][0], logits[row], rtol=1e-4, atol=1e-5)


@each_peer
def test_the_order_of_modalities_does_not_matter(name: str) -> None:
    options = {"modality": "photo"} if name == "single_modality" else {}
    model = make(name, MIXED, **options).eval()
    other = make(name, MIXED[::-1], **options).eval()
    other.load_state_dict(model.state_dict())
    inputs = batch()
    for task, value in other({m: inputs[m] for m in reversed(MIXED)}).items():
        torch.testing.assert_close(value, model(inputs)[task], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PEERS[:-1])  # the one network of early fusion reads every study
def test_absent_rows_leave_batch_statistics_alone(name: str) -> None:
    models = [make(name, ("ct", "clinic")).train() for _ in range(2)]
    inputs = batch(("ct", "clinic"))
    for model in models:
        for module in model.modules():
            if hasattr(module, "drop_connect_rate"):
                module.drop_connect_rate = 0.0  # random, and so not to be compared
    models[0](inputs, {"ct": torch.tensor([True, False, True, False])})
    models[1]({m: value[::2] for m, value in inputs.items()})
    torch.testing.assert_close(dict(models[0].named_buffers()), dict(models[1].named_buffers()))


@each_peer
def test_bad_inputs_are_refused(name: str) -> None:
    model = make(name)
    inputs = batch()
    with pytest.raises(ValueError, match="unknown modality mr; the network has ct, photo, clinic"):
        model({"mr": inputs["ct"]})
    with pytest.raises(ValueError, match="modality 'ct': values must lie in"):
        model({**inputs, "ct": inputs["ct"] * 255})
    with pytest.raises(ValueError, match=r"modality 'ct': expected a tensor \(B, 1, H, W\)"):
        model({**inputs, "ct": inputs["ct"][:, 0]})
    with pytest.raises(ValueError, match="every modality is absent in row 1"):
        model({"ct": inputs["ct"]}, {"ct": torch.tensor([True, False, True, True])})


@each_peer
def test_channels_last_and_bf16_give_nearly_the_same(name: str) -> None:
    model = make(name).eval()
    inputs = batch()
    expected = model(inputs)["t"]
    channels_last(model)
    torch.testing.assert_close(model(inputs)["t"], expected, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(inputs, {"photo": torch.tensor([True, True, False, True])})["t"]
    assert (half.float() - expected)[[0, 1, 3]].abs().max() < 0.1 * expected.abs().max() + 0.02


@each_peer
def test_exported_network_gives_the_same(name: str) -> None:
    names = ("photo", "clinic")
    model = make(name, names).eval()
    inputs = batch(names)
    present = {"photo": torch.tensor([True, False, True, True]), "clinic": torch.tensor([True, True, True, False])}
    size = torch.export.Dim("batch", min=2, max=64)
    free = {modality: {0: size} for modality in names}
    example = (batch(names, rows=3), {modality: mask[:3] for modality, mask in present.items()})
    program = torch.export.export(model, example, dynamic_shapes=(free, free))
    for task, value in program.module()(inputs, present).items():
        torch.testing.assert_close(value, model(inputs, present)[task], rtol=1e-4, atol=1e-5)


@each_peer
def test_operations_are_counted(name: str) -> None:
    count = count_operations(make(name))
    assert count.macs == sum(count.modules.values()) > 100_000
