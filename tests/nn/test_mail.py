"""Our own network: any modalities, any tasks, any of them absent."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mailnet.nn import create_model
from mailnet.nn.emcam import dct_matrix, spatial_bands
from mailnet.nn.layers import channels_last, key, plan_trunk
from mailnet.nn.presence import resolve_presence
from mailnet.nn.registry import default_options
from mailnet.specs import ModalitySpec, TaskSpec

SPECS = {
    "ct": ModalitySpec("ct", channels=1, size=(28, 28)),
    "photo": ModalitySpec("photo", channels=3, size=(40, 36), mean=(0.2, 0.3, 0.4), std=(0.1, 0.2, 0.3)),
    "pet": ModalitySpec("pet", "volume", channels=2, size=(6, 16, 16)),
    "clinic": ModalitySpec("clinic", "tabular", channels=5),
}
TASKS = {"grade": TaskSpec("grade", ("low", "mid", "high"), "ordinal"), "type": TaskSpec("type", ("a", "b", "c", "d"))}
MIXES = [("ct",), ("clinic",), ("pet",), ("ct", "photo"), ("photo", "clinic"), ("ct", "pet", "clinic"), tuple(SPECS)]
EVERYTHING: dict[str, Any] = {"unit": "multiscale", "attention": "normalised", "emcam": True}
DEFAULT: dict[str, Any] = {name: default_options("mail")[name] for name in EVERYTHING}
OPTIONS: list[dict[str, Any]] = [
    {},
    DEFAULT,
    {"unit": "emila", "units": 2},
    {"units": 2, "fuse_kernel": 1},
    {"unit": "emila", "branches": (1, 3)},
    {"unit": "single", "blocks": 2, "stem_kernel": 7},
    {"stem_kernel": 7, "stem_pool": False},
    {"activation": "silu"},
    {"shortcut": "mean"},
    {"attention": "published"},
    {"attention": "none"},
    {"emcam": 2},
    {"gamma": None},
    {"emcam": False},
    {"frequency": "channel"},
    {"frequency": "none"},
    {"exchange": "ring"},
    {"exchange": "none"},
    {"spatial_attention": False},
    {"centred": False},
    {"dropout": 0.3, "modality_dropout": 0.3},
    {"widths": (16, 32)},
]


def make(names: tuple[str, ...] = ("ct", "photo", "clinic"), **options: Any) -> Any:
    torch.manual_seed(0)
    width = {} if "widths" in options else {"width": "nano"}
    return create_model("mail", {name: SPECS[name] for name in names}, TASKS, **width, **(EVERYTHING | options))


def batch(names: tuple[str, ...] = ("ct", "photo", "clinic"), rows: int = 4, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(rows, SPECS[name].channels, *(SPECS[name].size or ()), generator=generator) for name in names
    }


def differ(model: Any) -> Any:
    """Give running statistics and gates values that are not their first ones."""
    model.train()
    for seed in range(3):
        model(batch(tuple(model.modalities), seed=seed))
    for name, parameter in model.named_parameters():
        if ".gate." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("names", MIXES, ids="+".join)
def test_shapes_of_any_mix(names: tuple[str, ...]) -> None:
    logits = make(names)(batch(names))
    assert {task: tuple(value.shape) for task, value in logits.items()} == {"grade": (4, 2), "type": (4, 4)}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    model = make(**options)
    inputs = batch(rows=6)
    some = {"ct": torch.tensor([True] * 3 + [False] * 3), "photo": torch.tensor([True] * 5 + [False])}
    some["clinic"] = torch.tensor([False] * 2 + [True] * 4)
    for present in (None, some):  # the tokens of absent modalities are read where one is absent
        logits = model(inputs, present)
        (logits["grade"].square().sum() + logits["type"].square().sum()).backward()
    # a branch may be dead by chance at a width of 16; a parameter that never moves has no gradient at all
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not still


def test_every_parameter_of_volumes_and_of_one_modality_gets_a_gradient() -> None:
    for names in (("pet", "clinic"), ("pet",), ("clinic",)):
        model = make(names).train()
        present = {"clinic": torch.tensor([True, False] * 3), "pet": torch.tensor([False] + [True] * 5)}
        logits = model(batch(names, rows=6), present if len(names) > 1 else None)
        (logits["grade"].square().sum() + logits["type"].square().sum()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_study_depends_on_nothing_but_what_it_has(options: dict[str, Any]) -> None:
    model = differ(make(**options))
    inputs = batch()
    present = {
        "ct": torch.tensor([True, True, False, False]),
        "photo": torch.tensor([True, False, True, False]),
        "clinic": torch.tensor([True, False, True, True]),
    }
    logits = model(inputs, present)
    for row in range(4):
        alone = {name: inputs[name][row : row + 1] for name in inputs if present[name][row]}
        for task, value in model(alone).items():
            torch.testing.assert_close(value[0], logits[task][row], rtol=1e-4, atol=1e-5)
    garbage = {name: value.clone() for name, value in inputs.items()}
    for name, value in garbage.items():
        value[~present[name]] = float("nan")
    for task, value in model(garbage, present).items():
        torch.testing.assert_close(value, logits[task], rtol=0, atol=0)


def test_a_present_modality_counts_and_gates_the_others() -> None:
    model = differ(make())
    full = model(batch())
    assert not torch.allclose(model({"ct": batch()["ct"]})["type"], full["type"])
    for parameter in model.heads.weights["type_"]["photo_"].parameters():
        torch.nn.init.zeros_(parameter)  # so that the photo is read through the fusion only
    before = model(batch())["type"]
    after = model({**batch(), "photo": batch(seed=1)["photo"]})["type"]
    assert not torch.allclose(before, after)


def test_absent_rows_leave_batch_statistics_alone() -> None:
    models = [make(("ct", "clinic")).train() for _ in range(2)]
    inputs = batch(("ct", "clinic"))
    rows = torch.tensor([0, 2])
    present = {"ct": torch.tensor([True, False, True, False])}
    models[0](inputs, present)
    models[1]({name: value[rows] for name, value in inputs.items()})
    statistics = [{n: b for n, b in model.trunks[key("ct")].named_buffers()} for model in models]
    for name, value in statistics[0].items():
        torch.testing.assert_close(value, statistics[1][name])


def test_a_compiled_network_trains_as_an_eager_one() -> None:
    eager, compiled = (make(("ct", "clinic"), widths=(8,)).train() for _ in range(2))
    inputs = batch(("ct", "clinic"))
    present = {"ct": torch.tensor([True, False, True, False])}
    logits = torch.compile(compiled, backend="eager")(inputs, present)
    torch.testing.assert_close(logits, eager(inputs, present))
    torch.testing.assert_close(dict(compiled.named_buffers()), dict(eager.named_buffers()))


def test_a_modality_that_no_study_has_is_not_encoded() -> None:
    model = make().train()
    seen: list[str] = []
    for name in SPECS.keys() & model.modalities.keys():
        model.trunks[key(name)].norm.register_forward_hook(lambda *_, name=name: seen.append(name))
    model(batch(), {"photo": torch.zeros(4, dtype=torch.bool)})
    assert sorted(seen) == ["clinic", "ct"]


@pytest.mark.parametrize("options", [{}, DEFAULT, {"exchange": "none"}, {"emcam": False}], ids=str)
def test_the_order_of_modalities_does_not_matter(options: dict[str, Any]) -> None:
    names = ("ct", "photo", "pet", "clinic")
    model = differ(make(names, **options))
    other = make(names[::-1], **options).eval()
    other.load_state_dict(model.state_dict())
    inputs = batch(names)
    for task, value in other({name: inputs[name] for name in reversed(names)}).items():
        torch.testing.assert_close(value, model(inputs)[task], rtol=1e-4, atol=1e-5)


def test_published_ring_depends_on_the_order() -> None:
    names = ("ct", "photo", "clinic")
    model = differ(make(names, exchange="ring"))
    other = make(names[::-1], exchange="ring").eval()
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(other(batch(names))["type"], model(batch(names))["type"])


def test_modality_dropout_never_hides_the_last_one() -> None:
    inputs = batch(rows=64)
    present = {"ct": torch.arange(64) < 40, "photo": torch.arange(64) >= 30, "clinic": torch.zeros(64) > 0}
    torch.manual_seed(0)
    presence = resolve_presence({n: SPECS[n] for n in inputs}, inputs, present, True, dropout=0.8)
    left = torch.stack(list(presence.masks.values()))
    assert bool(left.any(0).all())
    assert all(not (presence.masks[name] & ~present[name]).any() for name in inputs)
    assert left[:2, 30:40].sum() < 20


def test_dropout_is_off_in_evaluation() -> None:
    model = make(modality_dropout=0.9, dropout=0.5).eval()
    torch.testing.assert_close(model(batch())["type"], model(batch())["type"], rtol=0, atol=0)


def test_exported_network_gives_the_same() -> None:
    names = ("ct", "photo", "clinic")
    model = differ(make(names, widths=(16,)))
    inputs = batch(names)
    present = {name: torch.tensor([True, name == "ct", name != "photo", name != "clinic"]) for name in names}
    free = {0: torch.export.Dim("batch", min=2, max=64)}
    dynamic = (dict.fromkeys(names, free), dict.fromkeys(names, free))
    program = torch.export.export(
        model, (batch(names, rows=3), {n: p[:3] for n, p in present.items()}), dynamic_shapes=dynamic
    )
    for task, value in program.module()(inputs, present).items():
        torch.testing.assert_close(value, model(inputs, present)[task], rtol=1e-4, atol=1e-5)


def test_exported_network_of_one_volume_needs_no_mask() -> None:
    model = differ(make(("pet",), widths=(16, 32)))
    program = torch.export.export(model, (batch(("pet",)),))
    torch.testing.assert_close(
        program.module()(batch(("pet",), seed=1))["type"], model(batch(("pet",), seed=1))["type"], rtol=1e-4, atol=1e-5
    )


def test_normalisation_is_the_first_layer_and_travels_with_the_weights() -> None:
    state = make(("photo",)).state_dict()
    torch.testing.assert_close(state["trunks.photo_.norm.mean"].flatten(), torch.tensor([0.2, 0.3, 0.4]))
    torch.testing.assert_close(state["trunks.photo_.norm.std"].flatten(), torch.tensor([0.1, 0.2, 0.3]))
    default = create_model("mail", {"ct": 1}, {"t": 2}, width="nano").state_dict()
    assert default["trunks.ct_.norm.mean"].item() == 0.5
    assert default["trunks.ct_.norm.std"].item() == 0.25


@pytest.mark.parametrize("size", [(28, 28), (64, 64), (224, 224), (9, 200)])
def test_an_image_of_any_size_keeps_pixels(size: tuple[int, int]) -> None:
    stem, plans = plan_trunk(ModalitySpec("m", size=size), 4)
    for axis, left in enumerate(size):
        for stride in (stem, *(plan.stride for plan in plans)):
            left = -(-left // stride[axis])
        assert 2 <= left <= 7
        assert plans[-1].grid[axis] == left
    model = create_model("mail", {"m": ModalitySpec("m", size=size)}, {"t": 2}, width="nano")
    assert model({"m": torch.rand(2, 1, *size)})["t"].shape == (2, 2)


def test_a_stem_without_pooling_gives_the_same_grid() -> None:
    spec = ModalitySpec("m", channels=1, size=(64, 40))  # quartered and halved
    x = torch.rand(2, 1, 64, 40)
    stems = [
        create_model("mail", {"m": spec}, {"t": 2}, width="nano", stem_pool=pool).trunks["m_"].stem  # type: ignore[index]
        for pool in (True, False)
    ]
    assert [any(isinstance(layer, nn.MaxPool2d) for layer in stem) for stem in stems] == [True, False]
    assert stems[0](x).shape == stems[1](x).shape == (2, 16, 16, 20)


def test_features_of_a_grey_image_have_channels_last() -> None:
    model = channels_last(make(("ct",)))
    laid = model.trunks["ct_"].stem[0](torch.rand(4, 1, 28, 28))
    assert laid.is_contiguous(memory_format=torch.channels_last)
    assert not laid.is_contiguous()


def test_one_study_can_be_trained_on() -> None:
    model = make(tuple(SPECS)).train()
    assert model(batch(tuple(SPECS), rows=1))["type"].isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "present", "message"),
    [
        ({}, None, "no input"),
        ({"mr": torch.rand(2, 1, 28, 28)}, None, "unknown modality mr; the network has ct, clinic"),
        ({"ct": torch.rand(2, 1, 28, 28), "clinic": torch.rand(3, 5)}, None, "one batch size"),
        ({"ct": torch.rand(2, 3, 28, 28)}, None, r"modality 'ct': expected a tensor \(B, 1, H, W\), got \(2, 3"),
        ({"ct": torch.rand(2, 1, 28)}, None, "modality 'ct': expected"),
        ({"clinic": torch.rand(2, 4)}, None, r"modality 'clinic': expected a tensor \(B, 5\)"),
        ({"ct": 255 * torch.ones(2, 1, 28, 28)}, None, r"modality 'ct': values must lie in \[0, 1\], got \[255, 255\]"),
        ({"ct": torch.full((2, 1, 28, 28), float("nan"))}, None, "modality 'ct': values must lie"),
        ({"clinic": torch.full((2, 5), float("nan"))}, None, "modality 'clinic': the table holds NaN"),
        ({"ct": torch.rand(2, 1, 28, 28)}, {"ct": torch.tensor([True, False])}, "absent in row 1 "),
        ({"ct": torch.rand(2, 1, 28, 28)}, {"clinic": torch.tensor([True, False])}, "'clinic' is marked as present"),
    ],
)
def test_bad_inputs_are_named(inputs: dict[str, Tensor], present: dict[str, Tensor] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(("ct", "clinic"))(inputs, present)


@pytest.mark.parametrize(
    "options",
    [
        {"unit": "resnet"},
        {"units": 0},
        {"fuse_kernel": 2},
        {"blocks": 0},
        {"stem_kernel": 4},
        {"branches": (1, 7)},
        {"branches": (3, 3)},
        {"activation": "tanh"},
        {"shortcut": "max"},
        {"emcam": 5},
        {"attention": "sum"},
        {"frequency": "fft"},
        {"exchange": "all"},
        {"dropout": 1.0},
        {"modality_dropout": -0.1},
        {"widths": ()},
        {"widths": (16, 31)},
        {"unit": "emila", "widths": (24, 48)},
    ],
    ids=str,
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        make(**options)


def test_cosine_transform_is_orthonormal_and_bands_hold_all_energy() -> None:
    torch.testing.assert_close(dct_matrix(7) @ dct_matrix(7).T, torch.eye(7), atol=1e-5, rtol=0)
    x = torch.randn(2, 3, 6, 9)
    mean, low, high = spatial_bands(x)
    energy = mean.square() + low.square() + high.square()
    torch.testing.assert_close(energy, x.square().mean((2, 3)), atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(spatial_bands(x), [mean, low, high])
    assert spatial_bands(x.bfloat16())[2].dtype == torch.bfloat16
    smooth = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    checks = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float()[None, None]
    assert spatial_bands(smooth)[1] > 10 * spatial_bands(smooth)[2]
    assert spatial_bands(checks)[2] > 10 * spatial_bands(checks)[1]
