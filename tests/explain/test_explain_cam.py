"""Class activation maps against a computation by hand, captum, and what they are of a network that is a mean."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from explained import CLINIC, CT, GRADE, PET, PHOTO, Convolutional, network, studies
from torch import Tensor

from mailnet.explain import explain
from mailnet.explain.geometry import to_pixels
from mailnet.nn.batch import Batch

NAMES = ("ct", "photo")


def by_hand(model: Convolutional, batch: Batch, name: str, target: int) -> tuple[Tensor, Tensor]:
    """Features and gradients of the last layer, by an equation of their own: of a mean and a linear head."""
    features = model.last[name](model.first[name](batch.inputs[name])).detach()
    weight = next(model.heads[name].parameters()).detach()
    gradient = (weight[target] - weight[1 - target]) / features[0, 0].numel()
    return features, gradient.reshape(1, -1, *[1] * (features.ndim - 2)).expand_as(features)


def enlarged(maps: Tensor, batch: Batch, name: str) -> Tensor:
    return to_pixels(maps, tuple(batch.inputs[name].shape[2:]), 0.0)


@pytest.mark.parametrize("target", [0, 1])
def test_grad_cam_by_hand(target: int) -> None:
    model = Convolutional()
    batch = studies(model)
    found = explain(model, batch, "grade", target, "grad_cam")
    for name in NAMES:
        a, g = by_hand(model, batch, name, target)
        cam = (g.sum((2, 3), keepdim=True) * a).sum(1)
        torch.testing.assert_close(found.maps[name], enlarged(cam, batch, name).clamp(min=0))
    assert not found.signed
    assert found.target.tolist() == [target] * 3


def test_grad_cam_pp_and_layer_cam_by_hand() -> None:
    model = Convolutional()
    batch = studies(model)
    plus = explain(model, batch, "grade", 1, "grad_cam_pp")
    layer = explain(model, batch, "grade", 1, "layer_cam", stage="last")
    for name in NAMES:
        a, g = by_hand(model, batch, name, 1)
        expected = torch.zeros(a[:, 0].shape)
        for row in range(len(a)):
            for channel in range(a.shape[1]):
                weight = 0.0
                for slope in g[row, channel].flatten():
                    if slope > 0:
                        weight += float(slope**2 / (2 * slope**2 + a[row, channel].sum() * slope**3) * slope)
                expected[row] += weight * a[row, channel]
        torch.testing.assert_close(plus.maps[name], enlarged(expected.clamp(min=0), batch, name))
        expected = a[0, 0].numel() * (g.clamp(min=0) * a).sum(1)
        torch.testing.assert_close(layer.maps[name], enlarged(expected, batch, name))


def test_grad_cam_is_captums_times_the_cells() -> None:
    model = Convolutional((CT,))
    batch = studies(model)
    captum = LayerGradCam(lambda x: model({"ct": x})["grade"].diff(dim=1)[:, 0], model.last["ct"])
    expected = captum.attribute(batch.inputs["ct"], relu_attributions=True)[:, 0].detach() * 8 * 8
    torch.testing.assert_close(
        explain(model, batch, "grade", 1, "grad_cam").maps["ct"], enlarged(expected, batch, "ct")
    )


def test_the_mean_of_a_map_is_what_the_modality_adds() -> None:
    # of sizes and grids that differ; of the cells, since pixels beyond the last cell's centre repeat it
    model = Convolutional((CT, PHOTO, PET))
    batch = studies(model)
    found = explain(model, batch, "grade", 1, "grad_cam", rectify=False, cells=1)
    assert found.signed
    assert found.score is not None
    total: Tensor = torch.zeros(3)
    for name, cells in (("ct", (8, 8)), ("photo", (6, 10)), ("pet", (3, 4, 4))):
        values = found.maps[name]
        for axis, count in enumerate(cells, start=1):
            step = values.shape[axis] // count
            values = values.index_select(axis, torch.arange(0, values.shape[axis], step))
        total = total + values.flatten(1).mean(1)
    torch.testing.assert_close(total, found.score)
    torch.testing.assert_close(found.score, model(batch.inputs)["grade"].diff(dim=1)[:, 0].detach())


def test_a_baseline_takes_away_what_it_has_as_well() -> None:
    model = Convolutional()
    batch = studies(model, absent={"photo": [1]})
    grey = Batch({name: torch.full_like(x, 0.5) for name, x in batch.inputs.items()}, batch.present)
    found = explain(model, batch, "grade", 1, "grad_cam", against="mean")
    fused = explain(model, batch, "grade", 1, "contrast_cam", against="mean", stage=-1)
    for name in NAMES:
        a, g = by_hand(model, batch, name, 1)
        base, _ = by_hand(model, grey, name, 1)
        cam = (g.sum((2, 3), keepdim=True) * (a - base)).sum(1) * batch.present[name][:, None, None]
        torch.testing.assert_close(found.maps[name], enlarged(cam, batch, name).clamp(min=0))
        assert torch.equal(found.maps[name], fused.maps[name])
    flat = Batch({name: torch.full_like(x, 0.3) for name, x in batch.inputs.items()}, batch.present)
    nothing = explain(model, flat, "grade", 1, "contrast_cam")
    for name in NAMES:
        torch.testing.assert_close(nothing.maps[name], torch.zeros_like(nothing.maps[name]), rtol=0, atol=1e-6)


def test_stages() -> None:
    model = Convolutional((CT,))
    batch = studies(model)
    fine = explain(model, batch, "grade", 1, "layer_cam", stage=0).maps["ct"]
    coarse = explain(model, batch, "grade", 1, "layer_cam", stage=-1).maps["ct"]
    fused = explain(model, batch, "grade", 1, "layer_cam")
    torch.testing.assert_close(fused.maps["ct"], (fine * coarse).sqrt())
    assert [torch.equal(a, b) for a, b in zip(fused.stages["ct"], (fine, coarse), strict=True)] == [True, True]
    assert torch.equal(explain(model, batch, "grade", 1, "layer_cam", cells=9).maps["ct"], fine)
    given = explain(model, batch, "grade", 1, "layer_cam", stage="last", layers={"ct": model.first["ct"]})
    assert torch.equal(given.maps["ct"], fine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": 2}, "no stage 2"),
        ({"stage": "best"}, "'last', 'fused' or a number"),
        ({"cells": 0}, "cells must be at least 1"),
        ({"stage": "fused", "rectify": False}, "stages can be fused only"),
        ({"layers": {"ct": torch.nn.ReLU()}}, "none of the layers of modality 'ct'"),
        ({"window": 0.2}, "has no option 'window'; it has stage, cells, against, rectify, layers"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    model = Convolutional((CT,))
    with pytest.raises(ValueError, match=message):
        explain(model, studies(model), "grade", method="grad_cam", **options)  # type: ignore[arg-type]


def test_a_transformer_names_the_methods_that_work() -> None:
    model = network("mbt", (CT, CLINIC))
    with pytest.raises(ValueError, match=r"MBT keeps no image of its features.*take gradient, integrated_gradients"):
        explain(model, studies(model), "grade")


def test_the_class_that_is_predicted_costs_one_pass() -> None:
    model = Convolutional()
    passes = []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    found = explain(model, studies(model), "grade")
    hook.remove()
    assert len(passes) == 1
    assert found.target.tolist() == model(studies(model).inputs)["grade"].argmax(1).tolist()
    assert GRADE.classes[1] == "high"
    assert explain(model, studies(model), "grade", "high").target.tolist() == [1, 1, 1]
