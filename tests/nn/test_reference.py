"""The reference networks: what they accept and refuse, their randomness, their arrays, their export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import Replay
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mailnet.nn import create_model
from mailnet.nn.noise import get_noise, set_noise
from mailnet.nn.reference import load_arrays
from mailnet.nn.reference.arrays import _their_name
from mailnet.nn.reference.blocks import EMCAM, EMILA
from mailnet.nn.reference.layers import SameConv2d, dct_matrix, max_pool_same
from mailnet.nn.reference.robust import RPFConv
from mailnet.specs import ModalitySpec, TaskSpec

NAMES = ["mail_reference", "robust_mail_reference"]
TASKS: dict[str, Any] = {"tumour": 4, "grade": TaskSpec("grade", ("1", "2", "3"), "ordinal")}


def build(name: str, modalities: int = 2, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, {f"m.{m}": 1 + m for m in range(modalities)}, TASKS, **{"widths": (16, 32), **options})


def example(modalities: int = 2, batch: int = 2, size: tuple[int, int] = (32, 32)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {f"m.{m}": torch.rand(batch, 1 + m, *size, generator=generator) for m in range(modalities)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_shapes(name: str, modalities: int) -> None:
    model = build(name, modalities)
    inputs = example(modalities, size=(37, 50))
    logits = model(inputs, {key: torch.ones(2, dtype=torch.bool) for key in inputs})
    assert {task: tuple(x.shape) for task, x in logits.items()} == {"tumour": (2, 4), "grade": (2, 2)}
    taps = model.features(inputs)
    assert [tuple(tap["m.0"].shape) for tap in taps] == [(2, 16, 10, 13), (2, 32, 5, 7)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_every_parameter_gets_a_gradient(name: str, modalities: int) -> None:
    # The published clips hide the gradients of whole layers by chance (all hidden units of a channel attention silent,
    # all its noise clipped): wide enough stages, small images and batch norm at rest make that unlikely.
    model = build(name, modalities, widths=(64, 64)).double().eval()
    if get_noise(model) is not None:
        set_noise(model, generator=torch.Generator().manual_seed(0))
    logits = model({key: x.double() / 4 for key, x in example(modalities, batch=8).items()})
    torch.stack([x.square().sum() for x in logits.values()]).sum().backward()
    assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_three_modalities_form_a_ring() -> None:
    """l_m <- l_m + pool(q(l_m)) + l_(m-1), the first taking the last's old value."""
    torch.manual_seed(0)
    emcam = EMCAM(16, 3)
    xs = [torch.rand(2, 16, 4, 4) for _ in range(3)]

    def pool(x: Tensor) -> Tensor:
        q = emcam.msgdc(x)
        return q.mean((2, 3), keepdim=True) + q.amax((2, 3), keepdim=True)

    a, b, c = (pool(x) for x in xs)
    a = a + pool(a) + c
    b = b + pool(b) + a
    c = c + pool(c) + b
    torch.testing.assert_close(emcam.emsca(xs), torch.sigmoid(a + b + c))


def test_dct_is_orthonormal() -> None:
    matrix = dct_matrix(48)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(48), atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix @ torch.ones(48), torch.tensor([48**0.5] + [0.0] * 47), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9])
def test_same_padding_for_any_size(size: int) -> None:
    x = torch.rand(1, 2, size, size)
    for kernel, stride in [(1, 2), (3, 1), (3, 2), (5, 2), (7, 2)]:
        assert SameConv2d(2, 2, kernel, stride)(x).shape[2] == -(-size // stride)
    assert max_pool_same(-x, 3, 2).max() < 0  # padded by -inf, not by zeros


def test_noise_is_on_unless_told_otherwise() -> None:
    model, inputs = build("robust_mail_reference").eval(), example()
    assert get_noise(model).mode == "sample"
    assert not torch.equal(model(inputs)["tumour"], model(inputs)["tumour"])
    set_noise(model, "off")
    assert torch.equal(model(inputs)["tumour"], model(inputs)["tumour"])


@pytest.mark.parametrize("mode", ["sample", "mean"])
def test_a_generator_repeats_a_prediction(mode: str) -> None:
    model, inputs, outputs = build("robust_mail_reference").eval(), example(), []
    for _ in range(2):
        set_noise(model, mode, 3, torch.Generator().manual_seed(7))  # type: ignore[arg-type]
        outputs.append(model(inputs)["tumour"])
    assert torch.equal(*outputs)


def test_mean_is_the_average_of_samples() -> None:
    model, inputs = build("robust_mail_reference").eval(), example()
    set_noise(model, "sample", generator=torch.Generator().manual_seed(7))
    samples = [model(inputs) for _ in range(4)]
    set_noise(model, "mean", 4, torch.Generator().manual_seed(7))
    mean = model(inputs)
    torch.testing.assert_close(
        mean["tumour"].softmax(1), torch.stack([s["tumour"].softmax(1) for s in samples]).mean(0)
    )
    torch.testing.assert_close(mean["grade"].sigmoid(), torch.stack([s["grade"].sigmoid() for s in samples]).mean(0))


def test_random_filters_keep_one_draw_when_off() -> None:
    conv = RPFConv(16, 32, groups=16, ratio=0.5)
    x = torch.rand(1, 16, 4, 4)
    sampled = conv(x)
    set_noise(conv, "off")
    first = conv(x)
    assert torch.equal(first, conv(x))
    assert torch.equal(first[:, :16], sampled[:, :16])
    assert not torch.equal(first[:, 16:], sampled[:, 16:])
    twin = RPFConv(16, 32, groups=16, ratio=0.5)
    twin.load_state_dict(conv.state_dict())
    set_noise(twin, "off")
    assert torch.equal(twin(x), first)


def test_filters_and_noise_can_be_mixed() -> None:
    model = create_model("robust_mail_reference", {"a": 1}, {"t": 2}, widths=(64,), gpc_ratio=0.25, dwc_ratio=0.25)
    model({"a": torch.rand(2, 1, 32, 32)})["t"].sum().backward()
    assert model.trunks[0].erlas[0].emila0.gpc.weight.shape == (48, 4, 1, 1)
    assert model.trunks[0].erlas[0].emila0.dwc5.weight.shape == (48, 1, 5, 5)


def test_replay_notices_a_wrong_draw() -> None:
    values = np.zeros((2, 3), dtype=np.float32)
    like = torch.zeros(1)
    for kind, shape, std in [("rpf_kernel", (2, 3), 0.6), ("channel_noise", (3,), 0.6), ("channel_noise", (2, 3), 0.5)]:
        with pytest.raises(AssertionError):
            Replay("layer", [("channel_noise", values, 0.6)]).draw(kind, shape, std, like)
    with pytest.raises(AssertionError, match="draws more"):
        Replay("layer", []).draw("channel_noise", (2, 3), 0.6, like)


def recorded(model: nn.Module) -> dict[str, np.ndarray]:
    return {
        f"w.{_their_name(model, key)}": value.numpy() + 1
        for key, value in model.state_dict().items()
        if not key.endswith(("num_batches_tracked", "noise_weight"))
    }


@pytest.mark.parametrize("name", NAMES)
def test_load_arrays_fills_everything(name: str) -> None:
    model = build(name, 3)
    arrays = recorded(model)
    assert {"w.m2.erla3.emila1.gpc.weight", "w.emcam1.local_scale3", "w.emcam0.alpha2", "w.head1.bias"} <= set(arrays)
    load_arrays(model, {**arrays, "in0": np.zeros(1)})
    after = recorded(model)
    assert all(np.array_equal(after[key], arrays[key] + 1) for key in arrays)


def test_load_arrays_names_every_problem_and_loads_nothing() -> None:
    model = build("mail_reference")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    arrays = recorded(model)
    del arrays["w.m0.stem.bias"], arrays["w.emcam1.local_scale2"]
    arrays["w.head7.bias"] = np.zeros(3)
    arrays["w.head0.bias"] = np.zeros(9)
    with pytest.raises(ValueError, match="do not fit MailReference") as error:
        load_arrays(model, arrays)
    text = str(error.value)
    assert "missing: w.emcam1.local_scale2, w.m0.stem.bias;" in text
    assert "left over: w.head7.bias;" in text
    assert "w.head0.bias has shape (9,), the model has (4,)" in text
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_recording_of_mail_does_not_fit_robust_mail() -> None:
    with pytest.raises(ValueError, match=r"missing: .*w\.m0\.erla0\.emila0\.dwc3_bn\.bias"):
        load_arrays(build("robust_mail_reference"), recorded(build("mail_reference")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (16, 40)}, r"widths must be multiples of 16.*\(16, 40\)"),
        ({"widths": ()}, "at least one"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"noise_std": -0.1}, "noise_std must not be negative"),
        ({"gpc_ratio": 0.25}, "makes 4 of 16 filters random, which 16 groups do not divide"),
        ({"dwc_ratio": 1.0}, "must leave one to train"),
        ({"dwc_ratio": -0.1}, "must leave one to train"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("robust_mail_reference", **options)


def test_bad_channels_of_a_block() -> None:
    with pytest.raises(ValueError, match="channels must be multiples of 16, got 8 -> 16"):
        EMILA(8, 16)


def test_images_only() -> None:
    with pytest.raises(ValueError, match="modality 'age': the published networks take images only, got 'tabular'"):
        create_model("mail_reference", {"age": ModalitySpec("age", "tabular", 3)}, {"t": 2})


@pytest.mark.parametrize("name", NAMES)
def test_bad_inputs(name: str) -> None:
    model, inputs = build(name).eval(), example()
    with pytest.raises(ValueError, match=r"modality 'm\.1' is missing; .* use 'mail'"):
        model({"m.0": inputs["m.0"]})
    with pytest.raises(ValueError, match=r"modality 'm\.1' is absent in a study; .* use 'mail'"):
        model(inputs, {"m.0": torch.tensor([True, True]), "m.1": torch.tensor([True, False])})
    with pytest.raises(ValueError, match=r"modality 'm\.1': expected \(B, 2, H, W\), got \(2, 1, 32, 32\)"):
        model({**inputs, "m.1": inputs["m.0"]})
    with pytest.raises(ValueError, match="resize the images to one size"):
        model({**inputs, "m.1": inputs["m.1"][:, :, :16]})


def test_images_are_read_as_they_are() -> None:
    model, inputs = build("mail_reference").eval(), example()
    assert model({key: 300 * x - 100 for key, x in inputs.items()})["tumour"].isfinite().all()


@pytest.mark.parametrize(("name", "mode"), [(NAMES[0], None), (NAMES[1], "off"), (NAMES[1], "sample")])
def test_export(name: str, mode: Any) -> None:
    model, batch = build(name, widths=(16,)).eval(), torch.export.Dim("batch")
    if mode is not None:
        set_noise(model, mode)
    shapes = ({key: {0: batch} for key in model.modalities},)
    exported = torch.export.export(model, (example(),), dynamic_shapes=shapes).module()
    inputs = example(batch=3)
    torch.manual_seed(0)
    expected = model(inputs)
    torch.manual_seed(0)
    torch.testing.assert_close(exported(inputs), expected)


@pytest.mark.parametrize("name", NAMES)
def test_safetensors_round_trip(name: str, tmp_path: Path) -> None:
    model, inputs = build(name).eval(), example()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    twin = build(name, dropout=0.5).eval()
    nn.init.zeros_(twin.heads[0].weight)
    twin.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for network in (model, twin):
        if get_noise(network) is not None:
            set_noise(network, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(inputs)["tumour"], twin(inputs)["tumour"])
