"""The source of random numbers that robust networks share."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mailnet.nn.noise import NoiseSource, get_noise, mean_logits, set_noise
from mailnet.specs import TaskSpec


class Adds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.noise = NoiseSource()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.noise.draw("spatial_noise", x.shape, 0.5, x)


TASKS = {"a": TaskSpec("a", ("0", "1", "2")), "b": TaskSpec("b", ("x", "y"), "multilabel")}


def test_std_shape_and_type() -> None:
    like = torch.zeros(1, dtype=torch.bfloat16)
    numbers = NoiseSource(generator=torch.Generator().manual_seed(0)).draw("rpf_kernel", (100, 100), 0.6, like)
    assert numbers.shape == (100, 100)
    assert numbers.dtype == torch.bfloat16
    assert numbers.float().std().item() == pytest.approx(0.6, rel=0.03)


def test_one_generator_serves_all_layers_and_repeats() -> None:
    model = nn.Sequential(Adds(), Adds())
    x = torch.zeros(4, 4)
    outputs = []
    for _ in range(2):
        source = set_noise(model, "sample", generator=torch.Generator().manual_seed(3))
        outputs.append(model(x))
    assert get_noise(model) is source
    assert all(layer.noise is source for layer in model)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], model(x))


def test_without_generator_the_global_one_is_used() -> None:
    layer = Adds()
    torch.manual_seed(5)
    first = layer(torch.zeros(3))
    torch.manual_seed(5)
    assert torch.equal(first, layer(torch.zeros(3)))


def test_off_is_silent() -> None:
    layer = Adds()
    set_noise(layer, "off")
    assert torch.equal(layer(torch.ones(3)), torch.ones(3))


def test_copies_share_nothing_with_the_original() -> None:
    model = nn.Sequential(Adds(), Adds())
    set_noise(model, generator=torch.Generator().manual_seed(1))
    twin = copy.deepcopy(model)
    assert twin[0].noise is twin[1].noise
    assert torch.equal(twin(torch.zeros(2)), model(torch.zeros(2)))


def test_mean_averages_probabilities() -> None:
    draws = [{"a": torch.randn(4, 3), "b": torch.randn(4, 2)} for _ in range(5)]
    mean = mean_logits(draws, TASKS)
    torch.testing.assert_close(mean["a"].softmax(1), torch.stack([d["a"].softmax(1) for d in draws]).mean(0))
    torch.testing.assert_close(mean["b"].sigmoid(), torch.stack([d["b"].sigmoid() for d in draws]).mean(0))


def test_mean_is_finite_for_extreme_logits() -> None:
    draws = [{"a": torch.tensor([[90.0, -90.0, 0.0]]), "b": torch.tensor([[200.0, -200.0]])}] * 2
    assert all(value.isfinite().all() for value in mean_logits(draws, TASKS).values())


@pytest.mark.parametrize(("mode", "passes"), [("off", 1), ("sample", 1), ("mean", 7)])
def test_number_of_forward_passes(mode: str, passes: int) -> None:
    calls = []

    def forward() -> dict[str, Tensor]:
        calls.append(1)
        return {"a": torch.zeros(1, 3)}

    NoiseSource(mode, draws=7).average(forward, TASKS)  # type: ignore[arg-type]
    assert len(calls) == passes


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="mode 'on' is not one of off, mean, sample"):
        NoiseSource("on")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws must be at least 1"):
        NoiseSource(draws=0)
    with pytest.raises(ValueError, match="Linear draws no random numbers"):
        set_noise(nn.Linear(2, 2))
    assert get_noise(nn.Linear(2, 2)) is None
