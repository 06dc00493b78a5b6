"""The layers that an exported graph is made of, each beside the code that it stands for."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mailnet.deploy.export import measure
from mailnet.deploy.export.calibration import Calibration
from mailnet.deploy.export.choices import refusal_of
from mailnet.deploy.export.combinations import code_of, combinations_of
from mailnet.deploy.export.fold import operations, simplify, unfolded
from mailnet.deploy.export.program import read_program, refuse_pickles, write_program
from mailnet.errors import RunError
from mailnet.trust.calibration import Calibrator

CURVE = ((0.1, 0.3, 0.3, 0.7), (0.05, 0.2, 0.6, 0.9))  # with a step at 0.3
CALIBRATORS = [
    Calibrator("multiclass", 3, "temperature", (0.5,)),
    Calibrator("ordinal", 3, "temperature", (1.7,)),
    Calibrator("multilabel", 3, "temperature", (0.4, 1.0, 2.0)),
    Calibrator("multiclass", 3, "vector", (0.5, 1.0, 1.5), (0.2, -0.1, 0.0)),
    Calibrator("multilabel", 3, "vector", (0.5, 1.0, 1.5), (0.2, -0.1, 0.0)),
    Calibrator("multilabel", 3, "isotonic", knots=(CURVE, ((), ()), ((0.0, 1.0), (0.1, 0.8)))),
    Calibrator("multiclass", 3, "none"),
]


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda one: f"{one.kind}-{one.method}")
def test_calibration_is_that_of_the_calibrator(calibrator: Calibrator) -> None:
    p = np.random.default_rng(0).random((200, 3), dtype=np.float32)
    p[0], p[1], p[2] = (0, 0, 1), (1, 0, 0), (0.3, 0.3, 0.4)
    if calibrator.kind != "multilabel":
        p /= p.sum(1, keepdims=True)
    found = Calibration(calibrator)(torch.from_numpy(p)).numpy()
    np.testing.assert_allclose(found, calibrator.apply(p), rtol=0, atol=2e-6)


def test_isotonic_calibration_of_two_classes() -> None:
    calibrator = Calibrator("binary", 2, "isotonic", knots=(CURVE,))
    second = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1], np.float32)
    p = np.stack([1 - second, second], 1)
    found = Calibration(calibrator)(torch.from_numpy(p)).numpy()
    np.testing.assert_allclose(found, calibrator.apply(p), rtol=0, atol=2e-6)
    np.testing.assert_allclose(found[[0, 8], 1], [0.05, 0.9], atol=1e-6)


def test_codes_are_places_of_combinations() -> None:
    combinations = combinations_of(["a", "b", "c"], absent=True)
    masks = [torch.tensor(column) for column in zip(*combinations, strict=True)]
    assert code_of(masks).tolist() == list(range(7))
    assert combinations[-1] == (True, True, True)
    assert combinations_of(["a", "b"], absent=False) == [(True, True)]
    with pytest.raises(ValueError, match="too many combinations"):
        combinations_of([str(k) for k in range(7)], absent=True)


class Small(nn.Module):
    """Batch norms behind a convolution, behind a sum and behind a linear layer, constants, and a running minimum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=True)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.linear, self.last = nn.Linear(4, 3), nn.BatchNorm1d(3)

    def forward(self, inputs: dict[str, torch.Tensor], present: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        x = self.norms[0](self.conv(inputs["x"]))
        y = self.norms[1](x.relu() + x * torch.arange(4.0)[:, None, None].sqrt())
        z = self.last(self.linear(nn.functional.dropout(y.mean((2, 3)), 0.5, self.training)))
        return {"least": z.cummin(-1).values}


def program_of(module: Any) -> Any:
    sizes: Any = ({"x": {0: torch.export.Dim("n", min=1)}}, {})
    return torch.export.export(module, ({"x": torch.rand(3, 2, 6, 6)}, {}), dynamic_shapes=sizes)


@pytest.fixture(scope="module")
def small() -> Small:
    torch.manual_seed(0)
    module = Small()
    norms: list[Any] = [*module.norms, module.last]
    for norm in norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
    return module.eval()


@pytest.fixture(scope="module")
def graph(small: Small) -> Any:
    graph = program_of(small).module()
    simplify(graph)
    return graph


def test_folding_keeps_the_answers_and_no_batch_norm(small: Small, graph: Any) -> None:
    x = {"x": torch.rand(5, 2, 6, 6)}
    torch.testing.assert_close(graph(x, {})["least"], small(x, {})["least"], rtol=1e-5, atol=1e-5)
    names = operations(graph)
    assert not unfolded(names)
    assert not {"aten.dropout.default", "aten.cummin.default", "aten.arange.start", "aten.sqrt.default"} & set(names)
    assert names.count("aten.mul.Tensor") == 3  # of the model, and of the two norms that no convolution takes


def test_package_is_read_back_without_unpickling(
    graph: Any, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt2"
    write_program(path, program_of(graph))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("something was unpickled"))
    x = {"x": torch.rand(1, 2, 6, 6)}
    torch.testing.assert_close(read_program(path)(x, {})["least"], small(x, {})["least"], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m/data/constants/opaque_obj_0", b"x"),
        ("m/data/sample_inputs/model.pt", b"\x80\x04cos\nsystem\n."),
        ("m/data/weights/model_weights_config.json", b'{"config": {"w": {"use_pickle": true}}}'),
        ("m/data/aotinductor/model/a.so", b"x"),
    ],
)
def test_package_with_pickles_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)
    with pytest.raises(RunError, match="holds code or pickled objects"):
        refuse_pickles(path)


def test_what_is_no_package_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"no zip")
    with pytest.raises(RunError, match="cannot be read"):
        read_program(tmp_path / "model.pt2")


def test_loss_is_that_of_the_worst_task() -> None:
    before = {"a": {"balanced_accuracy": 0.8}, "b": {"balanced_accuracy": 0.7}, "c": {"balanced_accuracy": None}}
    after = {"a": {"balanced_accuracy": 0.9}, "b": {"balanced_accuracy": 0.69}, "c": {"balanced_accuracy": None}}
    assert measure.loss(before, after) == pytest.approx(0.01)
    assert measure.loss({"c": before["c"]}, {"c": after["c"]}) is None


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (-0.2, None),
        (0.005, None),
        (0.0051, "int8 loses 0.51 points"),
        (None, "is not known, since the val studies have"),
    ],
)
def test_int8_is_judged_by_what_it_loses(loss: float | None, why: str | None) -> None:
    rows: list[dict[str, Any]] = [{"model": "original"}, {"model": "bf16", "loss": 0.3, "split": "val"}]
    assert refusal_of(rows) is None
    found = refusal_of([*rows, {"model": "int8", "loss": loss, "split": "val"}])
    assert found is None if why is None else why in str(found)
