"""The forms in which a CPU computes MSGDC and depthwise convolutions faster give what the definition gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn import create_model, merged
from mailnet.nn.counts import count_operations
from mailnet.nn.depthwise import Depthwise, depthwise_conv2d
from mailnet.nn.erla import MSGDC, ERLAOptions
from mailnet.nn.forms import as_defined
from mailnet.nn.injection import inject_noise
from mailnet.nn.layers import StagePlan, channels_last
from mailnet.nn.merged import merges
from mailnet.nn.noise import NoiseSource, get_noise, set_noise
from mailnet.nn.reference.blocks import EMILA, SharedMSGDC
from mailnet.nn.reference.robust import RobustEMILA
from mailnet.nn.rpan import RPAN


@pytest.fixture(autouse=True)
def _small_examples_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merged, "PLACES_A_CHANNEL", 4)


def own(branches: tuple[int, ...], rpan: RPAN | None = None) -> Callable[[], nn.Module]:
    return lambda: MSGDC(2, 32, 64, StagePlan((2, 2), (6, 5)), ERLAOptions(unit="emila", branches=branches), rpan)


def with_noise(unit: nn.Module) -> nn.Module:
    inject_noise(unit, 0.25, NoiseSource())
    return unit


CONVOLUTIONS = nn.Conv2d(96, 64, 1, groups=2), nn.Conv2d(32, 64, 1, groups=16)  # that merge
UNITS: dict[str, Callable[[], nn.Module]] = {
    "published": lambda: EMILA(32, 32),
    "published, strided": lambda: EMILA(32, 64, 2),
    "shared": lambda: SharedMSGDC(32),
    "robust": lambda: RobustEMILA(32, 64, 2, gpc_ratio=0.25, dwc_ratio=0.25),
    "own": own((1, 3, 5)),
    "own without 1x1": own((3, 5)),
    "own 1x1 alone": own((1,)),
    "own with random filters": own((1, 3, 5), RPAN(rpf="units")),
    "own with noise on its weights": lambda: with_noise(own((1, 3, 5))()),
}


def seed_noise(module: nn.Module) -> None:
    if get_noise(module) is not None:
        set_noise(module, "sample", generator=torch.Generator().manual_seed(0))


def computed(module: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of a fixed sum of it."""
    seed_noise(module)
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    module.zero_grad()
    y = module(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    torch.autograd.backward((y * weights).sum())
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


@pytest.mark.parametrize("unit", UNITS)
def test_merged_units_have_the_outputs_and_gradients_of_the_definition(unit: str) -> None:
    torch.manual_seed(0)
    module = channels_last(UNITS[unit]().double())
    x = torch.randn(4, 32, 12, 10, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert merges(x, *CONVOLUTIONS)
    with as_defined():
        assert not merges(x, *CONVOLUTIONS)
        expected = computed(module, x)
    found = computed(module, x)
    assert len(found) == len(expected) > 3
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("network", ["mail_reference", "robust_mail_reference"])
def test_a_whole_network_trains_alike_in_both_forms(network: str) -> None:
    torch.manual_seed(0)
    model = channels_last(create_model(network, {"a": 3, "b": 1}, {"t": 3}, widths=(16, 32), dropout=0).double())
    inputs = {
        name: torch.rand(8, c, 40, 40, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
        for name, c in (("a", 3), ("b", 1))
    }

    def gradients() -> list[Tensor]:
        seed_noise(model)
        model.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(inputs)["t"], torch.arange(8) % 3))
        return [p.grad for p in model.parameters() if p.grad is not None]

    with as_defined():
        expected = gradients()
    for a, b in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_in_bf16_both_forms_are_as_near_to_float32() -> None:
    torch.manual_seed(0)
    module = channels_last(EMILA(32, 32)).eval()  # biases have no gradient before a batch norm that trains
    x = torch.randn(4, 32, 12, 10).contiguous(memory_format=torch.channels_last)
    with as_defined():
        exact = computed(module, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = computed(module, x)
        with as_defined():
            defined = computed(module, x)

    def error(got: list[Tensor]) -> float:
        return max(float((a - e).norm() / e.norm().clamp(min=1e-3)) for a, e in zip(got, exact, strict=True))

    assert error(found) < 2 * error(defined) < 0.2


def test_a_compiled_unit_is_one_graph_of_the_definition() -> None:
    torch.manual_seed(0)
    module = channels_last(EMILA(32, 32)).eval()
    x = torch.randn(4, 32, 12, 10).contiguous(memory_format=torch.channels_last)
    with as_defined():
        expected = module(x)
    torch.testing.assert_close(torch.compile(module, backend="eager", fullgraph=True)(x), expected, rtol=0, atol=0)


def test_few_places_and_other_layouts_are_computed_as_defined() -> None:
    x = torch.randn(8, 64, 8, 8)
    laid = x.contiguous(memory_format=torch.channels_last)
    assert merges(laid, *CONVOLUTIONS)
    assert not merges(x, *CONVOLUTIONS)  # channels first
    assert not merges(laid[:1], *CONVOLUTIONS)  # 64 places
    assert not merges(laid.to("meta"), *CONVOLUTIONS)


@pytest.mark.parametrize("unit", ["published", "shared", "robust", "own"])
def test_a_convolution_that_is_watched_is_called(unit: str) -> None:
    module, called = channels_last(UNITS[unit]()), list[nn.Module]()
    x = torch.randn(4, 32, 12, 10).contiguous(memory_format=torch.channels_last)
    for watched in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
        called.clear()
        hook = watched.register_forward_hook(lambda module, *_: called.append(module))
        module(x)
        assert called == [watched]
        hook.remove()


def test_transforms_of_torch_func_see_the_definition() -> None:
    torch.manual_seed(0)
    unit = channels_last(EMILA(32, 32)).eval()
    x = torch.randn(4, 32, 12, 10).contiguous(memory_format=torch.channels_last)
    found = torch.func.grad(lambda x: unit(x).sum())(x)
    (expected,) = torch.autograd.grad(unit(x.requires_grad_()).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_operations_are_counted_of_the_definition() -> None:
    model = create_model("mail_reference", {"a": 3}, {"t": 3}, widths=(16, 32))
    before = count_operations(model, batch=16, sizes={"a": (64, 64)})
    assert count_operations(channels_last(model), batch=16, sizes={"a": (64, 64)}) == before


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("size", [(5, 5), (6, 9), (1, 1)])
def test_depthwise_has_the_gradients_of_the_convolution(
    kernel: int, stride: int, padding: int, size: tuple[int, int]
) -> None:
    if min(size) + 2 * padding < kernel:
        size = (kernel, kernel + 1)
    torch.manual_seed(0)
    given = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, *size), (4, 1, kernel, kernel), (4,))
    ]
    x, weight, bias = given
    found = depthwise_conv2d(x, weight, bias, (stride, stride), (padding, padding))
    expected = functional.conv2d(x, weight, bias, stride, padding, groups=4)
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(found, given, cotangent), torch.autograd.grad(expected, given, cotangent), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_depthwise_gives_the_gradients_that_are_asked_for_and_second_ones() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 6, 5, dtype=torch.float64), torch.randn(3, 1, 5, 5, dtype=torch.float64)

    def of(x: Tensor, weight: Tensor) -> Tensor:
        return depthwise_conv2d(x, weight, None, (1, 1), (2, 2))

    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, None, 1, 2, groups=3)

    cotangents = torch.randn(4, 2, 3, 6, 5, dtype=torch.float64)
    for asked in (0, 1):
        given = [x, weight]
        given[asked] = given[asked].clone().requires_grad_()
        found, expected = (
            torch.autograd.grad(f(*given), given[asked], cotangents, is_grads_batched=True) for f in (of, plain)
        )
        torch.testing.assert_close(found, expected)
        found, expected = (torch.autograd.grad(f(*given), given[asked], cotangents[0]) for f in (of, plain))
        torch.testing.assert_close(found, expected)
    assert not of(x, weight).requires_grad
    assert torch.autograd.gradgradcheck(of, (x.requires_grad_(), weight.requires_grad_()))


def test_depthwise_in_bf16_under_autocast() -> None:
    torch.manual_seed(0)
    layer = Depthwise(8, 8, 5, stride=2, padding=2, groups=8, bias=False)
    x = torch.randn(2, 8, 12, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert layer(x[:, :, :1, :1]).dtype == torch.bfloat16
    assert y.dtype == torch.bfloat16
    of = (x, layer.weight)
    found = torch.autograd.grad(y.float().square().sum(), of)
    exact = functional.conv2d(x, layer.weight, None, 2, 2, groups=8)
    for a, b in zip(found, torch.autograd.grad(exact.square().sum(), of), strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < 0.02
