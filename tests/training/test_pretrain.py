"""The start without labels: what it computes, what it looks at, and what a run keeps of it."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from killed import train_until
from safetensors.numpy import load_file
from small_study import small_config
from torch import Tensor, nn

from mailnet.benchmark.network import run_network, training_seconds
from mailnet.data.config import ModelConfig, StudyConfig, parse_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, RunError
from mailnet.nn import create_model, list_models
from mailnet.nn.layers import channels_last, key
from mailnet.specs import ModalitySpec
from mailnet.training import engine, train
from mailnet.training.losses import nt_xent
from mailnet.training.pretrain import ENCODERS, Encoder, Pretraining, pretraining_seconds
from mailnet.training.progress import Progress
from mailnet.training.run import read_history

QUIET = Progress(1, shown=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretrain")


@pytest.fixture(scope="module")
def config(folder: Path) -> StudyConfig:
    return small_config(folder, n=30, batch_size=6, checkpoint_minutes=0, pretrain={"epochs": 2})


@pytest.fixture(scope="module")
def data(config: StudyConfig, folder: Path) -> StudyData:
    return load_study(config, cache=folder / "cache")


@pytest.fixture(scope="module")
def whole(config: StudyConfig, data: StudyData, folder: Path) -> Path:
    """A run that was never interrupted."""
    assert train_until(config, folder / "whole", folder / "cache") == 0
    return folder / "whole"


def network(data: StudyData, name: str = "mail", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return channels_last(create_model(name, data.modalities, data.tasks, **{"widths": [16, 16], **options}))


def changed(config: StudyConfig, **settings: Any) -> StudyConfig:
    values = config.model_dump(mode="json")
    values["train"] |= {key: value for key, value in settings.items() if key != "pretrain"}
    values["train"]["pretrain"] |= settings.get("pretrain", {})
    return parse_config(values)


def learnt(config: StudyConfig, data: StudyData, run: Path, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A pre-trained network, and what the run says of it."""
    model = network(data, **options)
    accelerator = Accelerator(cpu=True)
    Pretraining(config, data, model, accelerator).run(run, QUIET)
    return model, json.loads((run / "pretraining.json").read_text("utf-8"))


def moved(before: nn.Module, after: nn.Module) -> set[str]:
    old = dict(before.named_parameters())
    return {name for name, value in after.named_parameters() if not torch.equal(value, old[name])}


def test_the_loss_is_that_of_the_equation() -> None:
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    views = [*first, *second]

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    total = 0.0
    for i, view in enumerate(views):
        others = [math.exp(cosine(view, other) / 0.3) for k, other in enumerate(views) if k != i]
        total -= math.log(math.exp(cosine(view, views[(i + 4) % 8]) / 0.3) / sum(others))
    assert float(nt_xent(first, second, 0.3)) == pytest.approx(total / 8, rel=1e-5)


def test_the_loss_of_equal_views_of_unlike_images_is_near_nothing() -> None:
    z = torch.eye(5)
    assert float(nt_xent(z, z, 0.05)) < 1e-6 < float(nt_xent(z, z.roll(1, 0), 0.05))


def test_it_learns_to_tell_images_apart(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    _, record = learnt(changed(config, pretrain={"epochs": 15}), data, tmp_path)
    first, last = record["losses"][0], record["losses"][-1]
    for name in ("ct", "photo"):
        assert last[name] < 0.9 * first[name] < 1.2 * math.log(11), (first, last)  # 12 views, one of them itself
    assert record["images"] == {"ct": 18, "photo": 18}
    assert record["seconds"] > 0


def test_no_label_and_no_study_of_another_split_is_looked_at(
    config: StudyConfig, data: StudyData, tmp_path: Path
) -> None:
    other = np.concatenate([data.rows(split) for split in ("val", "test")])
    arrays = {}
    for name, images in data.arrays.items():
        values = np.stack([np.asarray(images[i : i + 1])[0] for i in range(len(data))])
        values[other] = 77
        arrays[name] = values
    labels = {task: np.full_like(values, -1) for task, values in data.labels.items()}
    blind = StudyData(config, data.frame, data.modalities, data.tasks, arrays, data.present, labels, data.tables)
    assert any(not np.array_equal(arrays["ct"][i], np.asarray(data.arrays["ct"][i : i + 1])[0]) for i in other)
    one, record = learnt(config, data, tmp_path / "seeing")
    two, again = learnt(config, blind, tmp_path / "blind")
    assert record["losses"] == again["losses"]
    assert moved(one, two) == set()


def test_trunks_of_images_move_and_what_needs_labels_does_not(
    config: StudyConfig, data: StudyData, tmp_path: Path
) -> None:
    names = moved(network(data), learnt(config, data, tmp_path)[0])
    for name in ("ct", "photo"):
        own = [own for own, _ in network(data).named_parameters() if own.startswith(f"trunks.{key(name)}.")]
        assert own
        assert set(own) <= names
    assert not [name for name in names if name.startswith(("heads", "tokens")) or key("clinical") in name]


def test_each_modality_is_encoded_without_its_companions(
    config: StudyConfig, data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(data)
    encode: Callable[..., dict[str, Tensor]] = model.encode  # type: ignore[assignment]
    seen: list[tuple[str, ...]] = []

    def watched(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(tuple(inputs))
        return encode(inputs)

    monkeypatch.setattr(model, "encode", watched)
    Pretraining(config, data, model, Accelerator(cpu=True)).run(tmp_path, QUIET)
    assert set(seen) == {("ct",), ("photo",)}
    assert len(seen) == 2 + 2 * 2 * 3  # a look at each, then epochs of three steps of each


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("robust_mail", {}),
        ("two_branch_resnet18", {}),
        ("late_fusion", {}),
        ("single_modality", {"modality": "photo"}),
    ],
)
def test_others_learn_too(
    config: StudyConfig, data: StudyData, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    settings = changed(config, precision="bf16", accumulate=2, pretrain={"epochs": 1, "projection": 8})
    model, record = learnt(settings, data, tmp_path, name=name, **options)
    assert set(record["images"]) == ({"photo"} if name == "single_modality" else {"ct", "photo"})
    assert moved(network(data, name, **options), model)


def test_the_unpaired_regime_and_reduced_precision(tmp_path: Path) -> None:
    config = small_config(tmp_path, regime="unpaired", n=60, precision="bf16", epochs=1, pretrain={"epochs": 1})
    result = train(config, tmp_path / "run", progress=False)
    record = json.loads((tmp_path / "run" / "pretraining.json").read_text("utf-8"))
    assert record["images"] == {"ct": 36, "photo": 18}
    assert all(math.isfinite(loss) for loss in record["losses"][0].values())
    assert len(result.history) == 1


@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("pretrain:nt_xent", 8),  # in its second epoch
        ("checkpoint:write_tensors", 1),  # learnt, but not yet kept
        ("trainer:batch_losses", 1),
        ("trainer:batch_losses", 5),
    ],
)
def test_a_killed_run_ends_as_one_that_was_not(
    config: StudyConfig, folder: Path, whole: Path, tmp_path: Path, moment: str, count: int
) -> None:
    run = tmp_path / "run"
    assert train_until(config, run, folder / "cache", moment, count) == -signal.SIGKILL
    # Once it is over it never comes again: a process that began it would be killed.
    again = "pretrain:nt_xent" if moment.startswith("trainer") else None
    assert train_until(config, run, folder / "cache", again) == 0
    ours, theirs = (load_file(path / "bundle" / "model.safetensors") for path in (run, whole))
    assert [name for name in theirs if ours[name].tobytes() != theirs[name].tobytes()] == []
    records = [json.loads((path / "pretraining.json").read_text("utf-8")) for path in (run, whole)]
    assert records[0]["losses"] == records[1]["losses"]
    assert [line["val"] for line in read_history(run)] == [line["val"] for line in read_history(whole)]
    assert not (run / "checkpoint").exists()


def test_training_starts_from_what_was_learnt(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    runs = {}
    for name, settings in (("with", config), ("without", changed(config, epochs=1))):
        values = settings.model_copy(
            update={"train": settings.train.model_copy(update={"epochs": 1, "learning_rate": 1e-12})}
        )
        if name == "with":  # the rate of the pre-training is its own
            values = changed(values, pretrain={"learning_rate": 0.003})
        else:
            values = values.model_copy(update={"train": values.train.model_copy(update={"pretrain": None})})
        run = train(values, tmp_path / name, data=data, progress=False).run
        runs[name] = load_file(run / "bundle" / "model.safetensors")
    stem = next(name for name in runs["with"] if "trunks" in name and "ct" in name and "stem" in name)
    head = next(name for name in runs["with"] if name.startswith("heads") and name.endswith("weight"))
    assert np.abs(runs["with"][stem] - runs["without"][stem]).max() > 1e-3
    assert np.abs(runs["with"][head] - runs["without"][head]).max() < 1e-6


def test_nothing_happens_unless_asked(
    config: StudyConfig, data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Pretraining", None)
    plain = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1, "pretrain": None})})
    run = train(plain, tmp_path / "run", data=data, progress=False).run
    assert not (run / "pretraining.json").exists()
    assert pretraining_seconds(run) == 0


def test_a_cell_of_the_benchmark_counts_its_seconds(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = run_network(changed(config, epochs=1), run, data, data, "balanced_accuracy", progress=False)
    spent = json.loads((run / "pretraining.json").read_text("utf-8"))["seconds"]
    assert spent > 0
    assert outcome.seconds == pytest.approx(spent + training_seconds(read_history(run)[0], "cpu"))


def test_exactly_the_named_networks_of_the_registry_can_be_asked_for_features() -> None:
    specs = {"ct": ModalitySpec("ct", size=(32, 32)), "mr": ModalitySpec("mr", size=(32, 32))}
    able = set()
    for name in list_models():
        options = {"modality": "ct"} if name == "single_modality" else {}
        if isinstance(create_model(name, specs, {"t": 2}, **options), Encoder):
            able.add(name)
    assert able == set(ENCODERS)


def test_networks_without_features_are_refused(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    other = config.model_copy(update={"model": ModelConfig(name="mbt", options={"width": "nano"})})
    with pytest.raises(ConfigError, match=r"'mbt' cannot be pre-trained.*two_branch_resnet18"):
        train(other, tmp_path / "run", data=data, progress=False)
    assert not (tmp_path / "run").exists()


def test_what_has_no_images_to_tell_apart_is_refused(config: StudyConfig, data: StudyData) -> None:
    accelerator = Accelerator(cpu=True)
    with pytest.raises(ConfigError, match="no image to pre-train on"):
        Pretraining(config, data, network(data, "single_modality", modality="clinical"), accelerator)
    with pytest.raises(ConfigError, match=r"modality ct: .* 8 in all; 6 are too few.*train\.accumulate"):
        Pretraining(changed(config, accumulate=4), data, network(data), accelerator)


def test_numbers_that_are_not_finite_end_it(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    wild = changed(config, warmup=0.0, gradient_clip=None, pretrain={"learning_rate": 1e30})
    with pytest.raises(RunError, match=r"diverged in epoch .*train\.pretrain\.learning_rate"):
        learnt(wild, data, tmp_path)
    assert not (tmp_path / "checkpoint").exists()
