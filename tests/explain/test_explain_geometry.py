"""Maps lie where their cells look: the centre of a cell, not of its stride."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from explained import network, studies
from torch import Tensor, nn
from torch.nn import functional

from mailnet.explain import explain
from mailnet.explain.geometry import cell_centre, stride_of, to_pixels
from mailnet.nn.batch import Batch
from mailnet.specs import ModalitySpec, TaskSpec

LARGE = ModalitySpec("ct", size=(64, 64))


@pytest.mark.parametrize("size", [(20, 28), (6, 20, 12)])
def test_the_middle_of_a_cell_is_what_pictures_are_enlarged_by(size: tuple[int, ...]) -> None:
    maps = torch.rand(2, *(3, 5, 4)[: len(size)])
    mode = {2: "bilinear", 3: "trilinear"}[len(size)]
    expected = functional.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]
    torch.testing.assert_close(to_pixels(maps, size), expected)


def test_cells_lie_on_their_centres() -> None:
    maps = torch.rand(1, 4, 7)
    large = to_pixels(maps, (64, 28), 0.0)
    torch.testing.assert_close(large[:, ::16, ::4], maps)
    assert torch.equal(large[:, 49:], large[:, 48:49].expand(-1, 15, -1))  # constant beyond the last
    last = to_pixels(maps, (64, 28), 1.0)
    torch.testing.assert_close(last[:, 15::16, 3::4], maps)


def test_strides_of_odd_sizes() -> None:
    assert [stride_of(*pair) for pair in ((17, 3), (224, 7), (28, 14), (1, 1))] == [8.0, 32.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mail", {}),
        ("mail", {"shortcut": "strided", "emcam": True}),
        ("two_branch_resnet18", {}),
        ("drifa_net", {}),
        ("mail_reference", {"widths": (16, 32, 48)}),
    ],
)
def test_where_cells_look_is_what_their_gradients_say(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = network(name, (LARGE,))
    batch = studies(model, 8)
    kept = {}
    layers = model.feature_layers()["ct"]  # type: ignore[operator]

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        features = output if isinstance(output, Tensor) else output["ct"] if isinstance(output, dict) else output[0]
        if features.ndim == 4:
            kept[features.shape[2]] = features

    for layer in layers:
        layer.register_forward_hook(keep)
    x = batch.inputs["ct"].requires_grad_()
    model({"ct": x})
    found = []
    features = kept[8]
    for cell in (2, 3, 4, 5):
        (slope,) = torch.autograd.grad(features[:, :, cell, cell].sum(), x, retain_graph=True)
        weight = slope.abs().sum((0, 1))
        for axis in (0, 1):
            middle = float((weight.sum(axis) * torch.arange(64)).sum() / weight.sum())
            found.append((middle - 8 * cell) / 7)
    # half a cell is what pictures are off by; a sixth is a pixel at this stride
    assert abs(sum(found) / len(found) - cell_centre(model)) < 1 / 6


class Detector(nn.Module):
    """Finds what is brighter than its surroundings: a mean over 5x5 pixels, strided and thresholded, read by a mean."""

    def __init__(self, brighter_than: float = 0.8) -> None:
        super().__init__()
        self.modalities = {"ct": LARGE}
        self.tasks = {"grade": TaskSpec("grade", ("low", "high"), "binary")}
        self.look = nn.Sequential(nn.Conv2d(1, 1, 5, 8, 2), nn.ReLU())
        with torch.no_grad():
            for parameter, value in zip(self.look.parameters(), (1 / 25, -brighter_than), strict=True):
                parameter.fill_(value)
        self.eval()

    def feature_layers(self) -> dict[str, list[nn.Module]]:
        return {"ct": [self.look]}

    def forward(self, inputs: dict[str, Tensor], present: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        high = self.look(inputs["ct"]).mean((1, 2, 3))
        return {"grade": torch.stack([-high, high], 1)}


@pytest.mark.parametrize(
    "method", ["grad_cam", "grad_cam_pp", "layer_cam", "contrast_cam", "integrated_gradients", "occlusion", "rise"]
)
def test_a_bright_lesion_in_the_middle_lights_up_and_the_border_does_not(method: str) -> None:
    x = torch.full((1, 1, 64, 64), 0.3)
    x[:, :, :8] = x[:, :, -8:] = x[..., :8] = x[..., -8:] = 0  # padding
    x[:, :, 29:36, 29:36] = 1
    model = Detector()
    found = explain(model, Batch({"ct": x}, {"ct": torch.tensor([True])}), "grade", 1, method)
    values = found.maps["ct"][0]
    row, column = divmod(int(values.argmax()), 64)
    assert 29 <= row < 36
    assert 29 <= column < 36
    border = torch.ones(64, 64, dtype=torch.bool)
    border[8:-8, 8:-8] = False
    assert float(values[border].abs().max()) < 0.2 * float(values.max())
