"""Gradients, integrated gradients, occlusion and random masks: as captum has them, and as linear networks must have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency
from explained import CLINIC, CT, GRADE, PET, PHOTO, Convolutional, Linear, studies
from torch import Tensor

from mailnet.explain import explain
from mailnet.explain.quality.blur import blur
from mailnet.nn.batch import Batch

ALL = (CT, PHOTO, PET, CLINIC)


def slope(model: Linear, name: str) -> Tensor:
    weight = model.weights["grade", name]
    return weight[1] - weight[0]


def test_integrated_gradients_of_a_linear_network() -> None:
    model = Linear(ALL)
    batch = studies(model, absent={"photo": [1]})
    found = explain(model, batch, "grade", 1, "integrated_gradients", baseline="mean", steps=3)
    for name in ("ct", "photo", "pet"):
        x = batch.inputs[name]
        expected = ((x - 0.5) * slope(model, name)).sum(1) * x[0, 0].numel()
        expected[~batch.present[name]] = 0
        torch.testing.assert_close(found.maps[name], expected)
    torch.testing.assert_close(found.columns["clinic"], batch.inputs["clinic"] * slope(model, "clinic"))
    assert found.residual is not None
    assert found.score is not None
    torch.testing.assert_close(found.residual, torch.zeros(3), rtol=0, atol=1e-4)
    middle = {n: torch.full_like(x, 0.5) if n != "clinic" else torch.zeros_like(x) for n, x in batch.inputs.items()}
    base = model(middle, batch.present)["grade"].diff(dim=1)[:, 0]
    torch.testing.assert_close(sum(found.totals().values()), found.score - base, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("baseline", ["black", "blur", {"ct": torch.full((1, 16, 16), 0.2)}])
def test_baselines(baseline: Any) -> None:
    model = Linear((CT,))
    batch = studies(model)
    x = batch.inputs["ct"]
    expected = {"black": torch.zeros_like(x), "blur": blur(x, 0.15 * 16)}
    base = expected[baseline] if isinstance(baseline, str) else torch.full_like(x, 0.2)
    found = explain(model, batch, "grade", 1, "integrated_gradients", baseline=baseline, steps=1)
    torch.testing.assert_close(found.maps["ct"], ((x - base) * slope(model, "ct")).sum(1) * 256)


def test_gradients_of_a_linear_network() -> None:
    model = Linear(ALL)
    batch = studies(model, absent={"ct": [0], "clinic": [2]})
    plain = explain(model, batch, "grade", 1, "gradient")
    times = explain(model, batch, "grade", 1, "gradient", times_input=True)
    for name in ("ct", "photo", "pet"):
        here = batch.present[name].view(-1, *[1] * (plain.maps[name].ndim - 1))
        pixels = plain.maps[name][0].numel()
        torch.testing.assert_close(plain.maps[name], (slope(model, name).abs().sum(0) * here) * pixels)
        expected = (slope(model, name) * batch.inputs[name]).sum(1) * pixels
        torch.testing.assert_close(times.maps[name], expected * here)
    here = batch.present["clinic"][:, None]
    torch.testing.assert_close(plain.columns["clinic"], slope(model, "clinic").abs() * here)
    assert (plain.signed, times.signed) == (False, True)


def scores(model: Convolutional) -> Any:
    return lambda ct, photo: model({"ct": ct, "photo": photo})["grade"].diff(dim=1)[:, 0]


def test_equal_to_captum_called_directly() -> None:
    model = Convolutional()
    batch = studies(model)
    inputs = (batch.inputs["ct"].clone().requires_grad_(), batch.inputs["photo"].clone().requires_grad_())
    grey = (torch.full_like(inputs[0], 0.5), torch.full_like(inputs[1], 0.5))
    pixels = {"ct": 256, "photo": 240}
    integrated = IntegratedGradients(scores(model)).attribute(inputs, baselines=grey, n_steps=8)
    saliency = Saliency(scores(model)).attribute(inputs)
    occluded = Occlusion(scores(model)).attribute(
        inputs, ((1, 3, 3), (3, 2, 4)), strides=((1, 2, 2), (3, 1, 2)), baselines=grey
    )
    for k, name in enumerate(("ct", "photo")):
        found = explain(model, batch, "grade", 1, "integrated_gradients", baseline="mean", steps=8).maps[name]
        torch.testing.assert_close(found, integrated[k].detach().sum(1) * pixels[name], rtol=1e-4, atol=1e-4)
        found = explain(model, batch, "grade", 1, "gradient").maps[name]
        torch.testing.assert_close(found, saliency[k].detach().sum(1) * pixels[name], rtol=1e-4, atol=1e-4)
        found = explain(model, batch, "grade", 1, "occlusion", baseline="mean").maps[name]
        torch.testing.assert_close(found, occluded[k].detach()[:, 0], rtol=1e-4, atol=1e-4)


def test_occlusion_is_the_fall_of_the_score() -> None:
    model = Linear((CT, CLINIC))
    batch = studies(model, absent={"ct": [1]})
    found = explain(model, batch, "grade", 1, "occlusion", window=1.0, baseline="black")
    x = batch.inputs["ct"]
    whole = (x * slope(model, "ct")).sum((1, 2, 3))
    torch.testing.assert_close(found.maps["ct"], whole[:, None, None].expand(-1, 16, 16))
    torch.testing.assert_close(found.columns["clinic"], batch.inputs["clinic"] * slope(model, "clinic"))


def test_random_masks_find_what_the_score_hangs_on() -> None:
    model = Linear((CT, CLINIC))
    model.weights["grade", "ct"].zero_()[1, 0, 4:8, 10:14] = 0.5
    batch = studies(model)
    found = explain(model, batch, "grade", 1, "rise", masks=600, cells=4, baseline="black")
    for row in range(3):
        top, left = divmod(int(found.maps["ct"][row].argmax()), 16)
        assert 2 <= top < 10
        assert 8 <= left < 16
    # of what is seen or not as a whole, the value is what it adds, but for the noise of the masks
    alone = explain(model, batch, "grade", 1, "rise", masks=600, modalities=["clinic"])
    expected = batch.inputs["clinic"] * slope(model, "clinic")
    torch.testing.assert_close(alone.columns["clinic"], expected, rtol=0, atol=0.02)
    again = explain(model, batch, "grade", 1, "rise", masks=600, cells=4, baseline="black")
    assert torch.equal(found.maps["ct"], again.maps["ct"])
    other = explain(model, batch, "grade", 1, "rise", masks=600, cells=4, baseline="black", generator=torch.Generator())
    assert not torch.equal(found.maps["ct"], other.maps["ct"])


def test_noise_stays_in_range_and_repeats() -> None:
    model = Convolutional()
    seen = []
    hook = model.register_forward_pre_hook(lambda _, given: seen.append(given[0]["ct"].detach()))
    batch = studies(model)
    before = torch.get_rng_state()
    first = explain(model, batch, "grade", 1, "integrated_gradients", smooth=3, steps=2, noise=0.3)
    hook.remove()
    assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in seen)
    assert torch.equal(torch.get_rng_state(), before)
    again = explain(model, batch, "grade", 1, "integrated_gradients", smooth=3, steps=2, noise=0.3)
    assert torch.equal(first.maps["ct"], again.maps["ct"])
    plain = explain(model, batch, "grade", 1, "integrated_gradients", steps=2)
    assert not torch.equal(first.maps["ct"], plain.maps["ct"])


def test_the_residual_of_noisy_copies_is_that_of_each_study() -> None:
    """One step is too few for a cube; of a study that is all but black there is nothing to miss."""

    class Cube(Linear):
        def forward(self, inputs: Any, present: Any = None) -> dict[str, torch.Tensor]:
            return {task: (3 * values) ** 3 for task, values in super().forward(inputs, present).items()}

    model = Cube((CT,))
    batch = studies(model)
    batch.inputs["ct"][1] *= 0.01
    options: dict[str, Any] = {"baseline": "black", "steps": 1, "noise": 1e-4}
    plain = explain(model, batch, "grade", 1, "integrated_gradients", **options).residual
    smooth = explain(model, batch, "grade", 1, "integrated_gradients", smooth=4, **options).residual
    assert plain is not None
    assert smooth is not None
    assert plain[[0, 2]].abs().min() > 1e-2 > 1e-4 > plain[1].abs()
    torch.testing.assert_close(smooth, plain, rtol=0.02, atol=1e-3)


def test_modalities_that_are_not_asked_stay_as_they_are() -> None:
    model = Convolutional()
    batch = studies(model, 2)
    found = explain(model, batch, "grade", 1, "integrated_gradients", modalities=["photo"], steps=64)
    assert list(found.maps) == ["photo"]
    assert found.score is not None
    blurred = {**batch.inputs, "photo": blur(batch.inputs["photo"], 0.15 * 12)}
    fall = found.score - model(blurred)["grade"].diff(dim=1)[:, 0].detach()
    torch.testing.assert_close(found.totals()["photo"], fall, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("integrated_gradients", {"steps": 0}, "steps must be at least 1"),
        ("integrated_gradients", {"baseline": "white"}, "baseline must be blur, mean, black"),
        ("integrated_gradients", {"baseline": {"ct": torch.zeros(2)}}, "baseline of modality 'ct'"),
        ("integrated_gradients", {"baseline": {"mr": torch.zeros(2)}}, "baseline has the modality 'mr'"),
        ("gradient", {"smooth": -1}, "smooth and noise"),
        ("occlusion", {"window": 0.0}, "window must be above 0"),
        ("occlusion", {"stride": 2.0}, "stride must be above 0"),
        ("rise", {"masks": 1}, "masks must be at least 2"),
        ("emcam", {}, "Linear has no EMCAM"),
        ("shap", {}, "no method is named 'shap'; there are contrast_cam, emcam, grad_cam"),
    ],
)
def test_bad_options(method: str, options: dict[str, Any], message: str) -> None:
    model = Linear((CT,))
    with pytest.raises(ValueError, match=message):
        explain(model, studies(model), "grade", method=method, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "size"}, "unknown task 'size'"),
        ({"target": 2}, "must be a class, 0 to 1"),
        ({"target": "middle"}, "no class 'middle'; it has low, high"),
        ({"target": [0, 1]}, "one for each of the 3 studies"),
        ({"target": torch.zeros(3)}, "whole numbers"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"draws": 2}, "Linear draws no random numbers"),
        ({"modalities": ["mr"]}, "unknown modality 'mr'"),
    ],
)
def test_bad_questions(options: dict[str, Any], message: str) -> None:
    model = Linear((CT,), (GRADE,))
    with pytest.raises(ValueError, match=message):
        explain(model, studies(model), **{"task": "grade", "method": "gradient", **options})


def test_nothing_to_explain() -> None:
    model = Linear((CT, PHOTO))
    batch = studies(model, absent={"photo": [0, 1, 2]})
    with pytest.raises(ValueError, match="no study has what is to be explained: photo"):
        explain(model, batch, "grade", method="gradient", modalities=["photo"])
    found = explain(model, Batch(batch.inputs, batch.present), "grade", method="gradient")
    assert not found.maps["photo"].any()
