"""Networks as graphs: every one of the registry, random ones with their very draws, volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mailnet.bundle import Bundle
from mailnet.bundle.passes import Passes
from mailnet.deploy.export.fold import operations, unfolded
from mailnet.deploy.export.graph import allows_absence
from mailnet.deploy.export.onnx_file import Session, write_onnx
from mailnet.deploy.export.program import Exported, trace
from mailnet.deploy.export.studies import arrays_of, original_passes
from mailnet.errors import ConfigError, RunError
from mailnet.nn.batch import Batch
from mailnet.nn.registry import create_model, list_models
from mailnet.specs import ModalitySpec, TaskSpec

CT, TABLE = ModalitySpec("ct", size=(16, 16)), ModalitySpec("a.b", "tabular", channels=3)
PET = ModalitySpec("pet", "volume", size=(8, 8, 8))
TASKS = {"relu": TaskSpec("relu", ("x", "y"), "binary"), "grade": TaskSpec("grade", ("1", "2", "3"), "ordinal")}
SMALL = {
    "mail": {"widths": (8,)},
    "robust_mail": {"widths": (8,)},
    "pni_mail": {"widths": (8,)},
    "mail_reference": {"widths": (16,)},
    "robust_mail_reference": {"widths": (16,)},
    "drifa_net": {"widths": (8, 8)},
    "mbt": {"depth": 2},
    "mmtm": {"widths": (8, 8)},
    "two_branch_efficientnet_b0": {"width": "nano"},
}
# Of MONAI's encoders one stands for all: the others are the same wrapper around some hundred layers, slow to trace.
ALIKE = ("two_branch_densenet121", "two_branch_resnet50")


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


def largest_difference(exported: Exported, original: Bundle, passes: Passes) -> float:
    batch = studies(original, bool(exported.modalities))
    expected = passes.answers(batch)
    with torch.no_grad():
        given = exported.graph(batch.inputs, {name: batch.present[name] for name in exported.modalities})
    assert not unfolded(operations(exported.graph))
    return max(float(np.abs(given[task].numpy() - expected[task]).max()) for task in expected)


@pytest.mark.parametrize("name", sorted({*list_models()} - {*ALIKE}))
def test_every_network_is_a_graph(name: str) -> None:
    noise = "off" if name in ("robust_mail", "pni_mail") else None  # their draws are tested below
    exported, original = trace(make(name), noise), make(name)  # type: ignore[arg-type]
    assert largest_difference(exported, original, original_passes(original, exported.noise)) < 1e-4


@pytest.mark.parametrize("specs", [(CT, TABLE), (PET,)], ids=["image and table", "volume"])
def test_a_random_network_answers_with_the_draws_of_the_predictor(specs: tuple[ModalitySpec, ...]) -> None:
    exported = trace(make("robust_mail", specs))
    assert exported.noise == "mean"
    original = make("robust_mail", specs)
    assert largest_difference(exported, original, original_passes(original)) < 1e-5
    assert largest_difference(exported, original, original_passes(original, "off")) > 1e-4


def test_random_weights_are_those_of_each_combination_of_modalities() -> None:
    original = make("pni_mail", (CT, TABLE), emcam=False)
    found = largest_difference(trace(make("pni_mail", (CT, TABLE), emcam=False)), original, original_passes(original))
    assert found < 1e-5


def test_noise_off_and_drawn_anew_in_onnx(tmp_path: Any) -> None:
    original = make("robust_mail")
    assert largest_difference(trace(make("robust_mail"), "off"), original, original_passes(original, "off")) < 1e-5
    write_onnx(tmp_path / "model.onnx", trace(make("robust_mail"), "sample"))
    session = Session(tmp_path / "model.onnx", 1)
    arrays = arrays_of(studies(original, False), original, ())
    calls = [session.run(arrays)["raw.relu"] for _ in range(3)]
    assert not np.array_equal(calls[0], calls[1])
    assert not np.array_equal(calls[1], calls[2])
    assert session.outputs == ["relu", "grade", "raw.relu", "raw.grade"]  # a task may be called as an operation


def test_networks_that_need_every_modality_have_no_masks() -> None:
    pair = (CT, ModalitySpec("mr", size=(16, 16)))
    bundle = make("mail_reference", pair)
    assert not allows_absence(bundle.model, bundle.modalities)
    assert trace(bundle).names.inputs == ["ct", "mr"]
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
