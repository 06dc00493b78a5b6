"""Parametric noise injection."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mailnet.nn import create_model
from mailnet.nn.injection import NoisyWeight
from mailnet.nn.noise import NoiseSource, set_noise
from mailnet.specs import ModalitySpec

SPECS = {"ct": ModalitySpec("ct", size=(16, 16)), "clinic": ModalitySpec("clinic", "tabular", channels=5)}


def build(name: str = "pni_mail", **options: object) -> nn.Module:
    torch.manual_seed(4)
    return create_model(name, SPECS, {"t": 3}, widths=(8, 8), **options).eval()


def inputs(count: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "ct": torch.rand(count, 1, 16, 16, generator=generator),
        "clinic": torch.randn(count, 5, generator=generator),
    }


def test_noise_has_the_spread_of_the_weights_times_alpha() -> None:
    weight = 3 + 0.5 * torch.randn(200, 100, generator=torch.Generator().manual_seed(0))
    injected = NoisyWeight(0.4, NoiseSource(generator=torch.Generator().manual_seed(1)))
    noise = (injected(weight) - weight).detach()
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.4 * float(weight.std()), rel=0.02)


def test_every_layer_learns_how_strong_its_noise_is() -> None:
    network = build().train()
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    strengths = [p for name, p in network.named_parameters() if name.endswith("alpha")]
    assert len(strengths) == len(layers) > 5
    network(inputs())["t"].square().sum().backward()
    assert all(p.grad is not None and p.grad != 0 for p in strengths)


def test_without_noise_it_is_mail() -> None:
    network, plain = build(), build("mail")
    set_noise(network, "off")
    torch.testing.assert_close(network(inputs()), plain(inputs()))


def test_draws_differ_and_follow_from_the_generator() -> None:
    network = build()
    found = []
    for seed in (0, 0, 1):
        set_noise(network, "sample", generator=torch.Generator().manual_seed(seed))
        found.append(network(inputs())["t"])
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_shared_numbers_and_others_draw_the_same_weights_for_all_studies() -> None:
    network = build()
    for shared in (False, True):
        set_noise(network, "sample", generator=torch.Generator().manual_seed(0), shared=shared)
        together = network(inputs())["t"]
        set_noise(network, "sample", generator=torch.Generator().manual_seed(0), shared=shared)
        alone = network({name: x[1:2] for name, x in inputs().items()})["t"]
        torch.testing.assert_close(alone, together[1:2], rtol=1e-4, atol=1e-5)


def test_the_mean_averages_probabilities() -> None:
    network = build()
    set_noise(network, "mean", 8, torch.Generator().manual_seed(0))
    mean = network(inputs())["t"].softmax(1)
    set_noise(network, "sample", generator=torch.Generator().manual_seed(0))
    draws = torch.stack([network(inputs())["t"].softmax(1) for _ in range(8)])
    torch.testing.assert_close(mean, draws.mean(0))


def test_a_copy_is_a_network_of_its_own() -> None:
    network = build()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    set_noise(twin, "off")
    assert bool((twin(inputs())["t"] != 0).any())
    twin.load_state_dict(network.state_dict())
    assert bool((twin(inputs())["t"] == 0).all())


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha must not be negative"):
        build(alpha=-1.0)
