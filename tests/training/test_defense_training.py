"""Whole trainings with a defence: what they give, what they write, and that they go on after a stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_study import small_config
from test_resume import lasting

from mailnet.attacks import Problem, Threat, get_attack
from mailnet.bundle import load
from mailnet.data.config import ModelConfig, StudyConfig, parse_config
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, RunError
from mailnet.evaluation import evaluate
from mailnet.report import write_report
from mailnet.training import train, trainer
from mailnet.training.defense import chosen_studies
from mailnet.training.run import read_history

CHEAP = {"steps": 2, "step": 0.5, "validation_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("defense")


@pytest.fixture(scope="module")
def data(folder: Path) -> StudyData:
    return load_study(small_config(folder / "paired", n=30), cache=folder / "cache")


def defended(config: StudyConfig, defense: dict[str, Any] | None, **train_changes: Any) -> StudyConfig:
    """The configuration with a defence, its monitor chosen anew, and other changes of ``train``."""
    values = config.model_dump(mode="json")
    del values["train"]["monitor"]
    values["train"] |= {"defense": defense, **train_changes}
    return parse_config(values)


def fragile(config: StudyConfig, data: StudyData) -> StudyData:
    """Images with two signs of a grade: a faint one in all pixels, which 16/255 can undo, and a bright square."""
    label = data.labels["grade"]
    sign = np.where(label == 1, 1, -1)[:, None, None, None]
    images = np.random.default_rng(0).normal(110, 4, (len(label), 1, 16, 16))
    images += 6 * sign * (np.indices((16, 16)).sum(0) % 2 * 2 - 1)
    images[:, :, 4:12, 4:12] += 60 * sign
    return StudyData(
        config,
        data.frame,
        {"ct": data.modalities["ct"]},
        {"grade": data.tasks["grade"]},
        {"ct": images.clip(0, 255).astype(np.uint8)},
        {"ct": np.ones(len(label), dtype=bool)},
        {"grade": label},
        {},
    )


def test_adversarial_training_makes_a_network_robust(folder: Path, tmp_path: Path) -> None:
    config = small_config(folder / "more", n=60)
    loaded = load_study(config, cache=folder / "cache")
    values = config.model_dump(mode="json")
    values |= {"modalities": {"ct": values["modalities"]["ct"]}, "tasks": {"grade": values["tasks"]["grade"]}}
    narrow = parse_config(values)
    changes = {"epochs": 5, "batch_size": 9, "augment": False, "ema": None}
    robust, clean, best = {}, {}, {}
    for name, defense in (("plain", None), ("pgd_at", {"name": "pgd_at", "eps": "16/255", **CHEAP})):
        chosen = defended(narrow, defense, **changes)
        study = fragile(chosen, loaded)
        best[name] = train(chosen, tmp_path / name, data=study, progress=False).best
        network = load(tmp_path / name, device="cpu").model
        batch = StudyDataset(study).batch(study.rows("test"))
        problem = Problem(network, batch, Threat("linf", {"ct": 16 / 255}))
        attacked = get_attack("pgd")(problem, generator=torch.Generator().manual_seed(1))
        label = batch.targets["grade"]
        for found, inputs in ((clean, batch.inputs), (robust, problem.inputs(attacked))):
            found[name] = float((network(inputs)["grade"].argmax(1) == label).float().mean())
    assert min(clean.values()) >= 0.9
    assert robust["plain"] <= 0.6
    assert robust["pgd_at"] >= 0.9
    assert best["pgd_at"]["monitor"] == "robust_balanced_accuracy"
    assert best["pgd_at"]["value"] >= 0.9


def test_a_run_says_how_it_was_defended_and_how_robust_it_is(folder: Path, data: StudyData, tmp_path: Path) -> None:
    defense = {"name": "trades", "eps": {"photo": "8/255"}, "beta": 3, "awp": 0.01, **CHEAP}
    config = defended(data.config, defense, epochs=1)
    result = train(config, tmp_path / "run", data=data, progress=False)
    record = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert record["defense"]["name"] == "trades"
    assert record["defense"]["eps"] == {"photo": pytest.approx(8 / 255)}
    assert "sigma" not in record["defense"]
    found = read_history(tmp_path / "run")[0]["val"]
    for metric in ("balanced_accuracy", "accuracy", "macro_f1", "macro_auroc", "loss"):
        assert found[f"robust_{metric}"] is not None
        each = [task[f"robust_{metric}"] for task in found["tasks"].values()]
        assert found[f"robust_{metric}"] == pytest.approx(np.mean(each))
    assert found["robust_loss"] > found["loss"]
    assert result.best["monitor"] == "robust_balanced_accuracy"
    assert result.best["value"] == found["robust_balanced_accuracy"]
    again = train(config, tmp_path / "run", progress=False)
    assert again == result
    evaluate(tmp_path / "run", cache=folder / "cache", bootstrap=0)
    page = write_report(tmp_path / "run", cache=folder / "cache").read_text("utf-8")
    assert "the best by robust balanced accuracy, mean over the tasks," in page


@pytest.mark.parametrize(
    ("defense", "changes"),
    [
        ({"name": "pgd_at", "norm": "l2", "eps": 0.5, "warmup": 0.5, **CHEAP}, {"precision": "bf16", "ema": None}),
        ({"name": "mart", **CHEAP}, {"balance": "weights", "label_smoothing": 0.1, "accumulate": 3}),
        ({"name": "fast", "alignment": 0.2, "validation_steps": 1}, {"monitor": "robust_macro_auroc"}),
        ({"name": "free", "replays": 2, "validation_steps": 1}, {"monitor": "loss", "modality_dropout": 0.5}),
        ({"name": "gaussian", "sigma": {"ct": 0.1}}, {"balance": "sampler"}),
    ],
)
def test_other_defences_and_settings(
    defense: dict[str, Any], changes: dict[str, Any], data: StudyData, tmp_path: Path
) -> None:
    result = train(defended(data.config, defense, epochs=1, **changes), tmp_path / "run", data=data, progress=False)
    assert np.isfinite(result.best["loss"])
    assert np.isfinite(result.history[0]["val"]["robust_loss"])
    assert result.best["monitor"] == changes.get("monitor", "robust_balanced_accuracy")


def test_companions_of_the_unpaired_regime(folder: Path, tmp_path: Path) -> None:
    config = small_config(folder / "unpaired", regime="unpaired", n=60, batch_size=12)
    loaded = load_study(config, cache=folder / "cache")
    config = defended(config, {"name": "pgd_at", "eps": {"ct": 0.3}, **CHEAP}, epochs=1, accumulate=2)
    found = train(config, tmp_path / "run", data=loaded, progress=False).history[0]["val"]["tasks"]
    assert set(found) == {"finding", "grade", "risk"}
    # Studies that lack the attacked modality are answered as they were.
    assert found["finding"]["robust_loss"] > found["finding"]["loss"]
    for task in ("grade", "risk"):
        assert found[task]["robust_loss"] == pytest.approx(found[task]["loss"], rel=1e-5)


class Stopped(Exception):
    """What a test stops a training with."""


@pytest.mark.parametrize(
    ("defense", "network", "stop"),
    [
        ({"name": "free", "replays": 3, "validation_steps": 1}, "mail", 17),  # amid the replays of a batch
        ({"name": "trades", "awp": 0.01, "draws": 2, "steps": 1, "validation_steps": 1}, "robust_mail", 13),
        ({"name": "gaussian"}, "mail", 6),
    ],
)
def test_a_stopped_training_goes_on_bit_for_bit(
    defense: dict[str, Any],
    network: str,
    stop: int,
    data: StudyData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = defended(data.config, defense, epochs=2, batch_size=9, accumulate=2, checkpoint_minutes=0)
    options = {"widths": [8, 8], "width": None}
    config = config.model_copy(update={"model": ModelConfig(name=network, options=options)})
    train(config, tmp_path / "whole", data=data, progress=False)
    original, calls = trainer.batch_losses, 0

    def until(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise Stopped
        return original(*given)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "batch_losses", until)
        with pytest.raises(Stopped):
            train(config, tmp_path / "run", data=data, progress=False)
    latest = json.loads((tmp_path / "run" / "checkpoint" / "latest.json").read_text("utf-8"))["checkpoint"]
    assert latest in ("epoch-0-step-3", "epoch-1-step-0", "epoch-1-step-1")
    train(config, tmp_path / "run", data=data, progress=False)
    ours, theirs = (load_file(tmp_path / run / "bundle" / "model.safetensors") for run in ("run", "whole"))
    assert [name for name in theirs if ours[name].tobytes() != theirs[name].tobytes()] == []
    assert lasting(read_history(tmp_path / "run")) == lasting(read_history(tmp_path / "whole"))


def test_losses_are_means_over_all_steps_of_a_batch(data: StudyData, tmp_path: Path) -> None:
    still = {"learning_rate": 1e-12, "augment": False, "modality_dropout": 0.0, "epochs": 1}
    losses = []
    for replays in (1, 3):
        defense = {"name": "free", "eps": 1e-6, "replays": replays, "validation_steps": 1}
        config = defended(data.config, defense, **still)
        losses.append(train(config, tmp_path / str(replays), data=data, progress=False).history[0]["train"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("name", ["pgd_at", "free"])
def test_divergence_is_named_as_such(name: str, data: StudyData, tmp_path: Path) -> None:
    defense = {"name": name, "norm": "l2", "eps": 0.5}
    wild = {"learning_rate": 1e30, "gradient_clip": None, "warmup": 0.0, "epochs": 1}
    with pytest.raises(RunError, match=r"diverged.*learning_rate"):
        train(defended(data.config, defense, **wild), tmp_path / "run", data=data, progress=False)


def test_a_run_is_not_continued_with_another_defence(data: StudyData, tmp_path: Path) -> None:
    config = defended(data.config, {"name": "gaussian"}, epochs=1)
    train(config, tmp_path / "run", data=data, progress=False)
    with pytest.raises(RunError, match=r"train\.defense\.sigma is 0\.25 there and 0\.5 now"):
        train(defended(data.config, {"name": "gaussian", "sigma": 0.5}, epochs=1), tmp_path / "run")


def test_draws_of_a_network_that_draws_nothing(data: StudyData, tmp_path: Path) -> None:
    config = defended(data.config, {"name": "pgd_at", "draws": 5})
    with pytest.raises(ConfigError, match=r"'mail' draws no random numbers.*train\.defense\.draws=1"):
        train(config, tmp_path / "run", data=data, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_share_of_the_validation_studies_is_attacked(data: StudyData, tmp_path: Path) -> None:
    rows = data.rows("val")
    assert chosen_studies(rows, None, 0) is rows
    assert chosen_studies(rows, 100, 0) is rows
    some = chosen_studies(rows, 4, 0)
    assert len(set(some.tolist())) == 4
    assert set(some.tolist()) <= set(rows.tolist())
    np.testing.assert_array_equal(some, chosen_studies(rows, 4, 0))
    defense = {"name": "pgd_at", **CHEAP, "validation_studies": 4}
    found = train(defended(data.config, defense, epochs=1), tmp_path / "run", data=data, progress=False).history
    assert found[0]["val"]["tasks"]["finding"]["robust_accuracy"] in (0, 0.25, 0.5, 0.75, 1)
