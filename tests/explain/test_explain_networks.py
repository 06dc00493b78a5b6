"""Every registered network through every method, and what all methods leave as they found it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from explained import CLINIC, CT, PET, PHOTO, Linear, network, studies
from torch import Tensor, nn

from mailnet.explain import explain, list_explainers
from mailnet.explain.registry import EXPLAINERS, default_options, get_explainer, register_explainer
from mailnet.nn.noise import get_noise, set_noise
from mailnet.nn.registry import list_models
from mailnet.specs import ModalitySpec

QUICK: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 2},
    "occlusion": {"window": 1.0},
    "rise": {"masks": 2},
}
SECOND = ModalitySpec("mr", size=(16, 16))
MAPS = ("grad_cam", "grad_cam_pp", "layer_cam", "contrast_cam")
SLOW = ("two_branch_resnet50", "two_branch_densenet121", "two_branch_efficientnet_b0")


def modalities(name: str) -> tuple[ModalitySpec, ...]:
    if name.endswith("reference"):
        return (CT, SECOND)
    if name in (*SLOW, "drifa_net"):
        return (CT, CLINIC)
    return (CT, PHOTO, CLINIC) if name == "early_fusion" else (CT, PET, CLINIC)


@pytest.mark.parametrize("name", list_models())
def test_every_network(name: str) -> None:
    specs = modalities(name)
    model = network(name, specs)
    alone = name.endswith("reference")
    batch = studies(model, 2, None if alone else {"ct": [1]})
    # captum asks deep networks as it asks others
    for method in (*MAPS, "gradient") if name in SLOW else list_explainers():
        if (method == "emcam" and name not in ("robust_mail", "mail_reference", "robust_mail_reference")) or (
            name == "mbt" and method in MAPS
        ):
            with pytest.raises(ValueError, match="take "):
                explain(model, batch, "grade", method=method)
            continue
        found = explain(model, batch, "stage", method=method, **QUICK.get(method, {}))
        images = [spec for spec in specs if spec.spatial_dims]
        assert {n: tuple(v.shape) for n, v in found.maps.items()} == {s.name: (2, *(s.size or ())) for s in images}
        tables = {} if method in (*MAPS, "emcam") else {s.name: (2, s.channels) for s in specs if not s.spatial_dims}
        assert {n: tuple(v.shape) for n, v in found.columns.items()} == tables
        for values in [*found.maps.values(), *found.columns.values()]:
            assert bool(values.isfinite().all())
            assert found.signed or float(values.min()) >= 0
        if not alone:
            assert not found.maps["ct"][1].any()
        if method not in MAPS:
            assert found.maps["ct"][0].any()


@pytest.mark.parametrize("method", ["grad_cam", "integrated_gradients", "rise", "emcam"])
def test_draws_repeat_and_are_averaged(method: str) -> None:
    model = network("robust_mail", (CT, SECOND))
    batch = studies(model, 2)
    options = {**QUICK.get(method, {})}
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    once, again = (explain(model, batch, "grade", 1, method, draws=2, generator=s, **options) for s in seeds)
    other = explain(model, batch, "grade", 1, method, draws=2, generator=torch.Generator().manual_seed(6), **options)
    assert torch.equal(once.maps["ct"], again.maps["ct"])
    assert not torch.equal(once.maps["ct"], other.maps["ct"])
    source = set_noise(model, "off")
    quiet = explain(model, batch, "grade", 1, method, **options)
    assert get_noise(model) is source
    assert not torch.equal(once.maps["ct"], quiet.maps["ct"])
    with pytest.raises(ValueError, match="draws no random numbers"):
        explain(model, batch, "grade", 1, method, draws=2, **options)


def test_a_draw_keeps_its_numbers() -> None:
    # of noise on weights, integrated gradients are exact within a draw, and their mean within the mean of draws
    model = Linear((CT,), noise=0.5)
    batch = studies(model)
    found = explain(model, batch, "grade", 1, "integrated_gradients", draws=4, steps=3)
    assert found.residual is not None
    assert found.score is not None
    torch.testing.assert_close(found.residual, torch.zeros(3), rtol=0, atol=1e-3)
    alone = explain(model, batch, "grade", 1, "integrated_gradients", steps=3)
    assert alone.score is not None
    assert not torch.allclose(found.score, alone.score)


def test_draws_decide_the_class_together() -> None:
    model = network("robust_mail", (CT,))
    batch = studies(model, 4)
    found = explain(model, batch, "grade", draws=3)
    set_noise(model, "mean", 3, torch.Generator().manual_seed(0), shared=True)
    assert found.target.shape == (4,)
    assert found.score is not None
    # draws of two classes: those that win in the mean have positive log-odds, which the mean of the log-odds shares
    assert float((found.score > 0).float().mean()) > 0.5


@pytest.mark.parametrize("method", list_explainers())
def test_the_network_is_left_as_it_was(method: str) -> None:
    model = network("robust_mail", (CT, CLINIC)).train()
    list(model.modules())[3].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    source = get_noise(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    batch = studies(model, 2)
    with torch.no_grad():
        explain(model, batch, "grade", method=method, **QUICK.get(method, {}))
    assert [module.training for module in model.modules()] == modes
    assert get_noise(model) is not None
    assert get_noise(model).mode == source.mode  # type: ignore[union-attr]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(bool((parameter.grad == 1).all()) for parameter in model.parameters())  # type: ignore[union-attr]
    assert not [module for module in model.modules() if module._forward_hooks]
    assert not batch.inputs["ct"].requires_grad


def test_dropout_that_was_left_on_is_drawn() -> None:
    class Dropping(Linear):
        def forward(self, inputs: Any, present: Any = None) -> dict[str, Tensor]:
            kept = {name: nn.functional.dropout(x, 0.5, training=True) for name, x in inputs.items()}
            return super().forward(kept, present)

    model = Dropping((CT,))
    batch = studies(model)
    once = explain(model, batch, "grade", 1, "gradient", draws=8)
    again = explain(model, batch, "grade", 1, "gradient", draws=8)
    assert torch.equal(once.maps["ct"], again.maps["ct"])
    assert float((once.maps["ct"] == 0).float().mean()) < 0.1  # each pixel is dropped by half of the draws


def test_own_methods() -> None:
    name = "test_nothing"

    @register_explainer(name)
    def nothing(question: Any, *, amount: float = 2.0) -> Any:
        raise NotImplementedError

    assert get_explainer(name, amount=1.0) is nothing
    assert default_options(name) == {"amount": 2.0}
    assert name in list_explainers()
    with pytest.raises(ValueError, match="registered already"):
        register_explainer(name)(lambda question: question)
    with pytest.raises(ValueError, match="has no option 'speed'; it has amount"):
        get_explainer(name, speed=1)
    EXPLAINERS.forget(name)
