"""Networks as graphs: every one of the registry, random ones with their very draws, volumes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from mailnet.bundle import Bundle
from mailnet.bundle.passes import Passes
from mailnet.deploy.export import noise as noise_module
from mailnet.deploy.export import quantise
from mailnet.deploy.export.fold import operations, unfolded
from mailnet.deploy.export.graph import Answers, Names, allows_absence
from mailnet.deploy.export.onnx_file import Session, write_onnx
from mailnet.deploy.export.program import Exported, trace
from mailnet.deploy.export.studies import Studies, answer_of_program, arrays_of, original_passes
from mailnet.errors import ConfigError, RunError
from mailnet.nn.batch import Batch
from mailnet.nn.forms import as_defined
from mailnet.nn.layers import channels_last
from mailnet.nn.noise import NOISE_MODES
from mailnet.nn.registry import create_model, list_models
from mailnet.specs import ModalitySpec, TaskSpec

CT, TABLE = ModalitySpec("ct", size=(16, 16)), ModalitySpec("a.b", "tabular", channels=3)
LAB = ModalitySpec("lab", "tabular", channels=2)
PET = ModalitySpec("pet", "volume", size=(8, 8, 8))
TASKS = {"relu": TaskSpec("relu", ("x", "y"), "binary"), "grade": TaskSpec("grade", ("1", "2", "3"), "ordinal")}
SMALL: dict[str, dict[str, Any]] = {
    "mail": {"widths": (8,)},
    "robust_mail": {"widths": (8,)},
    "pni_mail": {"widths": (8,)},
    "mail_reference": {"widths": (16,)},
    "robust_mail_reference": {"widths": (16,)},
    "drifa_net": {"widths": (8, 8)},
    "mbt": {"depth": 2},
    "mmtm": {"widths": (8, 8)},
}
RANDOM = ("robust_mail", "pni_mail")
CALLS = 25  # of a graph that draws anew at each
# MONAI's encoders: wrappers around hundreds of layers, slow to trace; benchmarks/exports.py has them all as files.
ALIKE = ("two_branch_densenet121", "two_branch_resnet50", "two_branch_efficientnet_b0")


def make(name: str, specs: tuple[ModalitySpec, ...] = (CT,), **options: Any) -> Bundle:
    """A bundle of a network whose batch norms do something."""
    modalities = {spec.name: spec for spec in specs}
    chosen = {**SMALL.get(name, {}), **options}
    torch.manual_seed(0)
    model = create_model(name, modalities, TASKS, **chosen).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return Bundle(
        modalities=modalities, tasks=TASKS, model_name=name, options=chosen, defaults={}, study="s", regime="paired",
        id_column=None, preprocessing={}, tables={}, model=model,
    )  # fmt: skip


def studies(bundle: Bundle, absent: bool) -> Batch:
    """Studies of which one has everything and each of the next lacks a modality."""
    count = len(bundle.modalities) + 2
    generator = torch.Generator().manual_seed(1)
    present = {name: torch.ones(count, dtype=torch.bool) for name in bundle.modalities}
    inputs = {
        name: torch.rand(count, spec.channels, *(spec.size or ()), generator=generator)
        for name, spec in bundle.modalities.items()
    }
    for place, name in enumerate(bundle.modalities if absent else ()):
        present[name][place + 1] = False
        inputs[name][place + 1] = 0
    return Batch(inputs, present)


def combinations(bundle: Bundle) -> Batch:
    """A study, always of the same numbers, with every combination of modalities."""
    one = studies(bundle, False)
    masks = torch.tensor([mask for mask in product((True, False), repeat=len(bundle.modalities)) if any(mask)])
    present = {name: masks[:, k] for k, name in enumerate(bundle.modalities)}
    inputs = {name: x[:1].repeat(len(masks), *(1,) * (x.ndim - 1)) for name, x in one.inputs.items()}
    return Batch(inputs, present)


def largest_difference(exported: Exported, original: Bundle, passes: Passes) -> float:
    batch = studies(original, bool(exported.modalities))
    expected = passes.answers(batch)
    with torch.no_grad():
        given = exported.graph(batch.inputs, {name: batch.present[name] for name in exported.modalities})
    assert not unfolded(operations(exported.graph))
    return max(float(np.abs(given[task].numpy() - expected[task]).max()) for task in expected)


@pytest.mark.parametrize("name", sorted({*list_models()} - {*ALIKE, *RANDOM}))
def test_every_network_is_a_graph(name: str) -> None:
    exported, original = trace(make(name)), make(name)
    assert largest_difference(exported, original, original_passes(original)) < 1e-4


class Drawn(Studies):
    """Studies of random numbers."""

    def __len__(self) -> int:
        return 12

    def batch(self, rows: np.ndarray, without: Any = ()) -> Batch:
        spec = self.bundle.modalities["pet"]
        x = torch.rand(12, 1, *(spec.size or ()), generator=torch.Generator().manual_seed(0))
        return Batch({"pet": x[rows]}, {"pet": torch.ones(len(rows), dtype=torch.bool)})


def test_a_volume_in_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "RECIPES", quantise.RECIPES[:1])
    exported, original = trace(make("mail", (PET,))), make("mail", (PET,))
    assert largest_difference(exported, original, original_passes(original)) < 1e-5
    made, small = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    write_onnx(made, exported)
    studies: Any = Drawn(None, original, [], "val")  # type: ignore[arg-type]
    quantise.quantise(made, small, studies)
    kinds = [node.op_type for node in onnx.load(small).graph.node]
    assert kinds.count("Conv") == sum(isinstance(module, nn.Conv3d) for module in original.model.modules())
    # Each convolution reads weights that were whole numbers, and activations that were.
    assert kinds.count("DequantizeLinear") >= 2 * kinds.count("Conv")
    assert kinds.count("QuantizeLinear") > 0
    answers = [studies.ask(Session(path, 1).run, np.arange(12)) for path in (made, small)]
    for task in TASKS:
        assert 0 < np.abs(answers[0][task] - answers[1][task]).max() < 0.05


@pytest.mark.parametrize(("name", "noise"), [(name, noise) for name in RANDOM for noise in NOISE_MODES])
def test_random_networks_answer_as_the_predictor_for_every_combination(name: str, noise: Any, tmp_path: Path) -> None:
    specs = (CT, TABLE, LAB)
    exported, original = trace(make(name, specs), noise), make(name, specs)
    assert "aten.detach_.default" not in operations(exported.graph)  # which a loaded package cannot do
    answer = answer_of_program(exported.graph, list(exported.bundle.modalities))
    if noise == "sample" and name == "robust_mail":  # whether numbers are drawn anew is to be seen there alone
        write_onnx(tmp_path / "model.onnx", exported)
        onnxruntime.set_seed(0)
        session = Session(tmp_path / "model.onnx", 1)
        assert session.outputs == ["relu", "grade", "raw.relu", "raw.grade"]  # a task may be called as an operation
        answer = session.run
    batch = combinations(original)
    arrays = arrays_of(batch, original, exported.modalities)
    passes = original_passes(original, noise)
    if noise != "sample":
        given, expected = answer(arrays), passes.answers(batch)
        other = original_passes(original, "off" if noise == "mean" else None).answers(batch)
        for task, values in expected.items():
            np.testing.assert_allclose(given[f"raw.{task}"], values, rtol=0, atol=1e-5)
            assert np.abs(values - other[task]).max() > 1e-4
        return
    torch.manual_seed(0)
    calls = [answer(arrays) for _ in range(CALLS)]
    for task, draws in passes.draw(batch, CALLS, 0).items():
        drawn = np.stack([call[f"raw.{task}"] for call in calls])
        assert np.unique(drawn[:, 0, 0]).size == CALLS
        error = np.sqrt((drawn.var(0) + draws.var(0)) / CALLS)
        assert (np.abs(drawn.mean(0) - draws.mean(0)) <= 6 * error + 1e-4).all()
        assert drawn.std(0).mean() == pytest.approx(draws.std(0).mean(), rel=0.35)


def test_filters_drawn_in_all_units_of_a_member_of_an_ensemble() -> None:
    options = {"rpf": "units", "man": "published", "widths": (8,)}
    members = [{"name": "robust_mail", "options": options}, {"name": "mail", "options": {"widths": (8,)}}]
    original = make("ensemble", (CT,), members=members)
    found = largest_difference(trace(make("ensemble", (CT,), members=members)), original, original_passes(original))
    assert found < 1e-5


def test_weights_drawn_in_a_unit_that_a_cpu_merges() -> None:
    colours = ModalitySpec("ct", channels=3, size=(16, 16))
    frozen, original = (make("pni_mail", (colours,), widths=(16,), unit="emila") for _ in range(2))
    channels_last(frozen.model)
    answers = Answers(frozen, "mean", absent=False)
    batch = studies(original, absent=False)
    with torch.no_grad(), as_defined():  # as a graph computes
        given = answers(batch.inputs, {})
    for task, values in original_passes(original).answers(batch).items():
        np.testing.assert_allclose(given[task], values, rtol=0, atol=1e-5)


def test_more_numbers_than_a_file_should_hold_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_module, "MOST_NUMBERS", 10_000)
    with pytest.raises(RunError, match=r"10 draws for 7 combinations of modalities take up to \S+ MB\).*noise off"):
        trace(make("pni_mail", (CT, TABLE, LAB)))


def test_networks_that_need_every_modality_have_no_masks() -> None:
    pair = (CT, ModalitySpec("mr", size=(16, 16)))
    bundle = make("mail_reference", pair)
    assert not allows_absence(bundle.model, bundle.modalities)
    assert Names.of(Answers(bundle, None, absent=False)).inputs == ["ct", "mr"]
    assert allows_absence(make("mail", (CT, TABLE)).model, make("mail", (CT, TABLE)).modalities)


def test_what_cannot_be_exported_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="draws no random numbers"):
        trace(make("mail"), "mean")
    bundle = make("mail", (ModalitySpec("ct"),))
    with pytest.raises(RunError, match=r"the network 'mail' cannot be exported .*'ct' has no size"):
        trace(bundle)
    named = make("mail", (ModalitySpec("relu", size=(16, 16)),))
    with pytest.raises(RunError, match="'relu' would name an input and an output"):
        trace(named)


class Steered(nn.Module):
    """A network whose values steer the program."""

    def forward(self, inputs: dict[str, torch.Tensor], present: Any = None) -> dict[str, torch.Tensor]:
        x = inputs["ct"].mean((1, 2, 3))
        return {task: x[:, None].expand(-1, spec.outputs) * (2 if x.sum() > 0 else 3) for task, spec in TASKS.items()}


def test_a_network_steered_by_values_is_refused() -> None:
    bundle = make("mail")
    object.__setattr__(bundle, "model", Steered())
    with pytest.raises(RunError, match=r"cannot be exported \(.*Serve the bundle itself"):
        trace(bundle)
