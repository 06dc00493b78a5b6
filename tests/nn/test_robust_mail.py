"""Robust-MAIL: what is random, and how it is turned off, averaged or repeated."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn import create_model
from mailnet.nn.layers import conv
from mailnet.nn.noise import NoiseSource, set_noise
from mailnet.nn.rpan import ModulatedNoise, RandomProjectionConv
from mailnet.specs import ModalitySpec

SPECS = {"ct": ModalitySpec("ct", size=(28, 28)), "clinic": ModalitySpec("clinic", "tabular", channels=3)}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"rpf": "units", "rpf_ratio": 0.3},
    {"rpf": "units", "rpf_ratio": 0.5, "unit": "emila", "man": "published"},
    {"rpf": None},
    {"rpf": None, "man": "published"},
    {"man": None},
]


def make(**options: Any) -> Any:
    torch.manual_seed(0)
    return create_model("robust_mail", SPECS, {"t": 3}, width="nano", **options).eval()


def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"ct": torch.rand(3, 1, 28, 28, generator=generator), "clinic": torch.randn(3, 3, generator=generator)}


def predict(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(inputs())["t"]
    return logits


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_modes(options: dict[str, Any]) -> None:
    model = make(**options)
    assert not torch.equal(predict(model), predict(model))
    set_noise(model, "off")
    assert torch.equal(predict(model), predict(model))
    twice = []
    for _ in range(2):
        set_noise(model, "sample", generator=torch.Generator().manual_seed(7))
        twice.append(predict(model))
    assert torch.equal(twice[0], twice[1])


def test_mean_averages_the_probabilities_of_draws() -> None:
    model = make()
    set_noise(model, "mean", draws=3, generator=torch.Generator().manual_seed(7))
    mean = predict(model).softmax(1)
    set_noise(model, "sample", generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(mean, torch.stack([predict(model).softmax(1) for _ in range(3)]).mean(0))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    model = make(**options).train()
    for present in (None, {"ct": torch.tensor([True, True, False]), "clinic": torch.tensor([True, False, True])}):
        model(inputs(), present)["t"].square().sum().backward()
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not still


def test_without_randomness_it_is_mail() -> None:
    model = make(rpf=None, man=None)
    torch.manual_seed(0)
    mail = create_model("mail", SPECS, {"t": 3}, width="nano", attention="normalised", emcam=True).eval()
    assert torch.equal(predict(model), predict(mail))
    noisy = make(rpf=None)
    set_noise(noisy, "off")
    torch.testing.assert_close(predict(noisy), predict(mail))


def test_weights_alone_repeat_a_prediction_without_noise() -> None:
    model = make(rpf="units")
    torch.manual_seed(5)
    other = create_model("robust_mail", SPECS, {"t": 3}, width="nano", rpf="units").eval()
    other.load_state_dict(model.state_dict())
    set_noise(model, "off")
    set_noise(other, "off")
    assert torch.equal(predict(model), predict(other))


@pytest.mark.parametrize("groups", [1, 2, 16])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.3, 0.9])
def test_any_ratio_works_with_any_number_of_groups(groups: int, ratio: float) -> None:
    layer = RandomProjectionConv(conv(2, 16, 48, 3, groups=groups, stride=2, bias=True), ratio, NoiseSource())
    assert layer(torch.randn(2, 16, 9, 9)).shape == (2, 48, 5, 5)
    random = min(round(ratio * 48 / groups), 48 // groups - 1)
    assert layer.weight.shape == (48 - groups * random, 16 // groups, 3, 3)
    assert layer.fixed.shape == (groups * random, 16 // groups, 3, 3)


def test_a_share_of_depthwise_channels_is_random() -> None:
    layer = RandomProjectionConv(conv(2, 16, 16, 3, groups=16), 0.3, NoiseSource())
    assert layer.fixed.shape == (5, 1, 3, 3)
    assert layer.std == pytest.approx(1 / 3)
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(layer(x)[:, :11], layer(x)[:, :11])
    assert (layer(x)[:, 11:] != layer(x)[:, 11:]).all()


def test_random_filters_come_last_in_their_group_and_have_the_declared_scale() -> None:
    noise = NoiseSource(generator=torch.Generator().manual_seed(3))
    layer = RandomProjectionConv(conv(3, 8, 400, 3, groups=2, bias=True), 0.5, noise)
    x = torch.randn(1, 8, 4, 4, 4)
    y = layer(x).unflatten(1, (2, 200))
    torch.testing.assert_close(
        y[:, 0, :100],
        functional.conv3d(x[:, :4], layer.weight[:100], layer.bias[:100], padding=1),
        atol=1e-5,
        rtol=1e-4,
    )
    drawn = NoiseSource(generator=torch.Generator().manual_seed(3)).draw("rpf_kernel", layer.fixed.shape, 1.0, x)
    kernel = drawn[100:] / (4 * 27) ** 0.5
    torch.testing.assert_close(
        y[:, 1, 100:], functional.conv3d(x[:, 4:], kernel, layer.bias[300:], padding=1), atol=1e-5, rtol=1e-4
    )
    assert kernel.std().item() == pytest.approx(1 / (4 * 27) ** 0.5, rel=0.03)
    assert layer.fixed.std().item() == pytest.approx(1 / (4 * 27) ** 0.5, rel=0.03)


@pytest.mark.parametrize("rpf", ["stem", "units"])
def test_memory_format_changes_nothing(rpf: str) -> None:
    model = make(rpf=rpf)
    set_noise(model, "off")
    before = predict(model)
    torch.testing.assert_close(predict(model.to(memory_format=torch.channels_last)), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "mean"), [("zero_mean", 0.0), ("published", 0.36)])
def test_noise_has_the_declared_mean(variant: Any, mean: float) -> None:
    noise = ModulatedNoise(
        "channel_noise", variant, 0.6, NoiseSource(generator=torch.Generator().manual_seed(0)), trained=True
    )
    drawn = noise(torch.zeros(200_000))
    assert drawn.mean().item() == pytest.approx(mean, abs=0.01)
    assert len(list(noise.parameters())) == (variant == "published")
    if variant == "zero_mean":
        assert drawn.std().item() == pytest.approx(0.6, abs=0.01)


def test_published_noise_attenuates_and_ours_does_not() -> None:
    def vector(man: Any) -> Tensor:
        model = make(rpf=None, man=man)
        features = model.trunks["ct_"].stages[0][0].units(torch.rand(3, 16, 28, 28))
        return torch.as_tensor(features.abs().mean())

    assert vector("published") < 0.5 * vector("zero_mean")


@pytest.mark.parametrize(
    "options", [{"rpf": "head"}, {"rpf_ratio": 1.0}, {"rpf_ratio": -0.1}, {"man": "loud"}, {"man_std": -1.0}], ids=str
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
        make(**options)
