"""Peers on convolutional encoders: published networks, MONAI's as they are, and what each way of joining does."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mailnet.errors import MailnetError
from mailnet.nn import create_model
from mailnet.nn.layers import key
from mailnet.nn.peers import monai_encoders
from mailnet.nn.peers.backbones import ENCODERS
from mailnet.specs import ModalitySpec

PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "densenet121": 7_978_856,
    "efficientnet_b0": 5_288_548,
}
STEM = {"resnet18": (64, 49), "resnet50": (64, 49), "densenet121": (64, 49), "efficientnet_b0": (32, 9)}
PAIR = {"ct": ModalitySpec("ct", size=(28, 28)), "mri": ModalitySpec("mri", channels=3, size=(20, 36))}


def size_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def make(name: str, modalities: dict[str, ModalitySpec], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, modalities, {"t": 3}, **{"width": "nano", **options})


def images(rows: int = 3) -> dict[str, Tensor]:
    return {name: torch.rand(rows, spec.channels, *(spec.size or ())) for name, spec in PAIR.items()}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_parameters_are_as_published(encoder: str) -> None:
    colour = ModalitySpec("x", channels=3, size=(224, 224))
    grey = ModalitySpec("x", channels=1, size=(224, 224))
    name = f"two_branch_{encoder}"
    assert size_of(create_model(name, {"x": colour}, {"t": 1000}, width="small")) == PUBLISHED[encoder]
    filters, pixels = STEM[encoder]  # two channels fewer enter the filters of the first convolution
    grey_model = create_model(name, {"x": grey}, {"t": 1000}, width="small")
    assert size_of(grey_model) == PUBLISHED[encoder] - 2 * filters * pixels
    for model in ("single_modality", "late_fusion"):
        other = create_model(model, {"x": colour}, {"t": 1000}, width="small", encoder=encoder)
        assert size_of(other) == PUBLISHED[encoder]


@pytest.mark.parametrize("encoder", ["resnet50", "densenet121", "efficientnet_b0"])
def test_the_default_is_as_published(encoder: str) -> None:
    model = create_model(f"two_branch_{encoder}", {"x": ModalitySpec("x", channels=3)}, {"t": 1000})
    assert size_of(model) == PUBLISHED[encoder]


def test_early_fusion_of_one_image_is_a_resnet18() -> None:
    model = create_model("early_fusion", {"x": ModalitySpec("x", channels=3)}, {"t": 1000}, width="small")
    assert size_of(model) == PUBLISHED["resnet18"]


def monai_network(encoder: str, dims: int) -> nn.Module:
    from monai.networks.nets import DenseNet121, EfficientNetBN, resnet50
    from monai.networks.nets.efficientnet import EfficientNet

    if encoder == "resnet50":
        return resnet50(spatial_dims=dims, n_input_channels=1, num_classes=5, conv1_t_stride=2, bias_downsample=False)
    if encoder == "densenet121":
        return DenseNet121(spatial_dims=dims, in_channels=1, out_channels=5)
    # MONAI's padding is for one size; at 65 pixels every side is odd, where it is even on both sides.
    published = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=dims, in_channels=1)
    blocks = [block.to_string() for block in published._blocks_args]
    return EfficientNet(blocks, spatial_dims=dims, in_channels=1, num_classes=5, image_size=65)


@pytest.mark.parametrize("encoder", ["resnet50", "densenet121", "efficientnet_b0"])
def test_from_49_pixels_on_it_is_monais_network(encoder: str) -> None:
    pixels = 64 if encoder == "densenet121" else 65
    spec = ModalitySpec("x", size=(pixels, pixels), mean=(0.0,), std=(1.0,))
    torch.manual_seed(0)
    theirs = monai_network(encoder, 2)
    model = create_model(f"two_branch_{encoder}", {"x": spec}, {"t": 5})
    weights = [value for name, value in theirs.state_dict().items() if not name.endswith("num_batches_tracked")]
    branch = model.branches[key("x")]
    ours = [value for name, value in branch[1:].state_dict().items() if not name.endswith("num_batches_tracked")]
    assert len(weights) == len(ours) + 2
    for value, weight in zip(ours, weights[:-2], strict=True):
        value.copy_(weight)
    model.heads.weights["t_"]["x_"].weight.data.copy_(weights[-2])
    model.heads.biases["t_"].data.copy_(weights[-1])
    image = torch.rand(2, 1, pixels, pixels)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()({"x": image})["t"], theirs.eval()(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("size", [(3, 3), (28, 28), (40, 9), (64, 64), (2, 6, 20), (10, 34, 52)], ids=str)
def test_no_size_is_shrunk_to_nothing(encoder: str, size: tuple[int, ...]) -> None:
    spec = ModalitySpec("x", "image" if len(size) == 2 else "volume", size=size)
    model = make(f"two_branch_{encoder}", {"x": spec}).train()
    logits = model({"x": torch.rand(1, 1, *size)})["t"]
    assert logits.shape == (1, 3)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("encoder", ["resnet50", "densenet121", "efficientnet_b0"])
def test_presets_set_the_width(encoder: str) -> None:
    sizes = [
        size_of(make(f"two_branch_{encoder}", {"x": ModalitySpec("x")}, width=width)) for width in ("nano", "tiny")
    ]
    assert 3 * sizes[0] < sizes[1] < PUBLISHED[encoder] / 2


@pytest.mark.parametrize("name", ["single_modality", "late_fusion"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "vgg"}, "encoder must be one of resnet18, resnet50, densenet121, efficientnet_b0, got 'vgg'"),
        ({"encoder": "densenet121", "widths": (8, 8)}, "densenet121 has no widths of single stages"),
        ({"encoder": "resnet50", "widths": (8, 8)}, "resnet50 has 4 stages, got 2 widths"),
        ({"width": "huge"}, "nano, tiny, small, base"),
    ],
    ids=str,
)
def test_options_that_cannot_be_had(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, {"x": ModalitySpec("x")}, **options)


def test_a_network_without_monai_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(MailnetError, match=r"pip install mailnet\[peers\]"):
        create_model("two_branch_resnet50", {"x": 1}, {"t": 2})


def test_a_module_that_monai_lacks_is_not_blamed_on_monai(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'einops'", name="einops")

    monkeypatch.setattr(monai_encoders.importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError, match="einops"):
        create_model("two_branch_resnet50", {"x": 1}, {"t": 2})


def test_monai_is_imported_for_its_own_networks_only() -> None:
    program = (
        "import sys; from mailnet.nn import create_model\n"
        "for name in ('two_branch_resnet18', 'single_modality', 'late_fusion', 'early_fusion'):\n"
        "    create_model(name, {'x': 1}, {'t': 2}, width='nano')\n"
        "print('monai' in sys.modules)\n"
        "create_model('two_branch_resnet50', {'x': 1}, {'t': 2}, width='nano')\n"
        "print('monai' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_single_modality_looks_at_one_only() -> None:
    model = make("single_modality", PAIR, modality="mri").eval()
    inputs = images()
    expected = model(inputs)["t"]
    torch.testing.assert_close(model({**inputs, "ct": torch.rand_like(inputs["ct"])})["t"], expected)
    assert not torch.allclose(model({**inputs, "mri": torch.rand_like(inputs["mri"])})["t"], expected)
    without = model({"ct": inputs["ct"]})["t"]
    torch.testing.assert_close(without[0], without[1])
    part = model(inputs, {"mri": torch.tensor([True, False, True])})["t"]
    torch.testing.assert_close(part[1], without[1])
    torch.testing.assert_close(part[::2], expected[::2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modality", [None, "pet"])
def test_single_modality_names_those_there_are(modality: str | None) -> None:
    with pytest.raises(ValueError, match=f"set modality to one of ct, mri, got {modality!r}"):
        make("single_modality", PAIR, modality=modality)


def test_late_fusion_averages_what_a_study_has() -> None:
    model = make("late_fusion", PAIR).eval()
    inputs = images()
    ct, mri = (model({name: inputs[name]})["t"] for name in PAIR)
    torch.testing.assert_close(model(inputs)["t"], (ct + mri) / 2)
    present = {"ct": torch.tensor([True, False, True]), "mri": torch.tensor([True, True, False])}
    logits = model(inputs, present)["t"]
    expected = torch.stack([(ct[0] + mri[0]) / 2, mri[1], ct[2]])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_early_fusion_stacks_on_the_largest_grid() -> None:
    specs = {**PAIR, "clinic": ModalitySpec("clinic", "tabular", channels=5)}
    model = make("early_fusion", specs).eval()
    seen: list[Tensor] = []
    model.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    inputs = {**images(), "clinic": torch.randn(3, 5)}
    model(inputs, {"ct": torch.tensor([True, False, True])})
    planes = seen[0]  # clinic, ct, mri, and who has which
    assert planes.shape == (3, 8 + 1 + 3 + 3, 28, 36)
    table = planes[:, :8]
    torch.testing.assert_close(table, table[:, :, :1, :1].expand_as(table))
    assert not bool(planes[1, 8].any())
    normalised = (inputs["mri"] - 0.5) / 0.25
    expected = nn.functional.interpolate(normalised, (28, 36), mode="bilinear")
    torch.testing.assert_close(planes[:, 9:12], expected)
    assert planes[:, 12:, 0, 0].tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def test_early_fusion_of_unknown_sizes_takes_the_largest_given() -> None:
    model = make("early_fusion", {"a": ModalitySpec("a"), "b": ModalitySpec("b")}).eval()
    seen: list[tuple[int, ...]] = []
    model.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    model({"a": torch.rand(2, 1, 40, 30), "b": torch.rand(2, 1, 20, 50)})
    model({"a": torch.rand(2, 1, 40, 30)})
    assert seen == [(2, 4, 40, 50), (2, 4, 40, 30)]


def test_early_fusion_refuses_images_with_volumes() -> None:
    with pytest.raises(ValueError, match=r"an image \('ct'\) and a volume \('pet'\); take late_fusion"):
        make("early_fusion", {"ct": PAIR["ct"], "pet": ModalitySpec("pet", "volume")})
