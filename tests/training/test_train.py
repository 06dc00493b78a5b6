from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_study import same_in_parts, small_config

from mailnet.data.config import StudyConfig, load_config
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.nn.batch import Batch
from mailnet.training import TrainResult, train
from mailnet.training.losses import class_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def config(folder: Path) -> StudyConfig:
    return small_config(folder)


@pytest.fixture(scope="module")
def data(config: StudyConfig, folder: Path) -> StudyData:
    return load_study(config, cache=folder / "cache")


@pytest.fixture(scope="module")
def result(config: StudyConfig, data: StudyData, folder: Path) -> TrainResult:
    return train(config, folder / "run", data=data, progress=False)


def changed(config: StudyConfig, **settings: object) -> StudyConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=settings)})


def test_run_folder_holds_everything(result: TrainResult, config: StudyConfig) -> None:
    run = result.run
    names = {"study.yaml", "data.json", "seen.json", "run.json", "metrics.jsonl", "bundle"}
    assert {path.name for path in run.iterdir()} == names
    assert load_config(run / "study.yaml") == config
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert lines == result.history
    assert [line["epoch"] for line in lines] == [1, 2]
    for line in lines:
        assert line["train"]["loss"] > 0
        assert set(line["val"]["tasks"]) == {"finding", "grade"}
        scores = [task["balanced_accuracy"] for task in line["val"]["tasks"].values()]
        assert line["val"]["balanced_accuracy"] == pytest.approx(np.mean(scores))
    record = json.loads((run / "run.json").read_text("utf-8"))
    assert record["status"] == "finished"
    assert record["best"] == result.best
    assert record["parameters"] > 1000
    assert record["precision"] == "fp32"
    assert record["noise"] is None


def test_a_random_network_trains_and_its_mode_is_recorded(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    model = config.model.model_copy(update={"name": "robust_mail"})
    random = changed(config.model_copy(update={"model": model}), epochs=1)
    runs = [train(random, tmp_path / name, data=data, progress=False).run for name in ("one", "two")]
    assert json.loads((runs[0] / "run.json").read_text("utf-8"))["noise"] == "sample"
    weights = [(run / "bundle" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]  # its numbers too follow from the seed


def test_seen_json_knows_the_patients_again_and_names_none(result: TrainResult, data: StudyData) -> None:
    seen = json.loads((result.run / "seen.json").read_text("utf-8"))
    groups = data.frame["group"].to_numpy()
    assert {split: len(known) for split, known in seen.items()} == {
        split: len(set(groups[data.rows(split)])) for split in ("train", "val")
    }
    assert not set(groups) & {digest for known in seen.values() for digest in known}


def test_data_json_counts_and_names_no_study(result: TrainResult, data: StudyData) -> None:
    text = (result.run / "data.json").read_text("utf-8")
    counts = json.loads(text)
    assert counts["studies"] == {"train": 36, "val": 12, "test": 12}
    assert counts["tasks"]["finding"]["val"] == {"none": 4, "left": 4, "right": 4}
    assert counts["modalities"]["photo"]["studies"]["train"] == 36
    for column in ("id", "group"):
        assert not any(re.search(rf"\b{name}\b", text) for name in data.frame[column])


def test_finished_run_is_returned(result: TrainResult, config: StudyConfig) -> None:
    assert train(config, result.run, progress=False) == result  # nothing of the data is needed


def test_global_random_numbers_are_left_alone(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(changed(config, epochs=1), tmp_path / "run", data=data, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_run_of_another_configuration_is_refused(result: TrainResult, config: StudyConfig) -> None:
    with pytest.raises(RunError, match=r"train\.epochs is 2 there and 7 now.*another run folder"):
        train(changed(config, epochs=7), result.run)


def test_run_of_a_newer_mailnet_is_refused(config: StudyConfig, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"format": 99, "mailnet": "9.0"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"mailnet 9\.0.*Update mailnet"):
        train(config, tmp_path)


def test_run_may_be_forbidden_to_go_on(result: TrainResult, config: StudyConfig) -> None:
    with pytest.raises(RunError, match="holds a run already"):
        train(config, result.run, resume=False)


def test_changed_data_are_refused(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "data.json").write_text('{"studies": {}}', encoding="utf-8")
    with pytest.raises(RunError, match="not those that the run began with"):
        train(config, tmp_path / "run", data=data, progress=False)


def test_empty_split_is_refused(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    frame = data.frame[data.frame["split"] != "val"].reset_index(drop=True)
    without = StudyData(config, frame, data.modalities, data.tasks, data.arrays, data.present, data.labels)
    with pytest.raises(DataError, match="'val' has no study"):
        train(config, tmp_path / "run", data=without, progress=False)


@pytest.mark.parametrize("split", ["train", "val"])
def test_split_without_labels_is_refused(split: Any, config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    labels = {task: values.copy() for task, values in data.labels.items()}
    for values in labels.values():
        values[data.rows(split)] = -1
    without = StudyData(config, data.frame, data.modalities, data.tasks, data.arrays, data.present, labels, data.tables)
    with pytest.raises(DataError, match=f"no study of the split '{split}' has a label"):
        train(config, tmp_path / "run", data=without, progress=False)


def test_options_that_the_network_refuses(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    model = config.model.model_copy(update={"options": {"depht": 3}})
    with pytest.raises(ConfigError, match=r"cannot be made.*depht"):
        train(config.model_copy(update={"model": model}), tmp_path / "run", data=data, progress=False)
    assert not (tmp_path / "run").exists()


def test_batches_too_small_for_their_parts(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batches of 12 studies cannot be divided"):
        train(changed(config, accumulate=13), tmp_path / "run", data=data, progress=False)


def test_device_that_is_not_there(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    for name, message in (("cuda:77", "not on this machine"), ("toaster", "no device")):
        with pytest.raises(ConfigError, match=message):
            train(changed(config, device=name), tmp_path / "run", data=data, progress=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 1e30},
        {"learning_rate": 1e30, "batch_size": 6, "checkpoint_minutes": 0.0},  # seen before a checkpoint is written
        {"learning_rate": 1e38, "batch_size": 64, "epochs": 1, "ema": None},  # the loss was finite, the last step broke
    ],
)
def test_divergence_is_an_error(
    settings: dict[str, object], config: StudyConfig, data: StudyData, tmp_path: Path
) -> None:
    wild = changed(config, gradient_clip=None, warmup=0.0, **settings)
    with pytest.raises(RunError, match=r"diverged.*learning_rate"):
        train(wild, tmp_path / "run", data=data, progress=False)
    assert not (tmp_path / "run" / "bundle").exists()


@pytest.mark.parametrize("batch_size", [1, 1000])
def test_batches_of_one_study_and_of_more_than_there_are(
    batch_size: int, config: StudyConfig, data: StudyData, tmp_path: Path
) -> None:
    done = train(changed(config, epochs=1, batch_size=batch_size), tmp_path / "run", data=data, progress=False)
    assert np.isfinite(done.best["loss"])


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"ema": None, "balance": "weights", "monitor": "loss"},
        {"balance": "sampler", "optimizer": "adam", "schedule": "plateau", "gradient_clip": None},
    ],
)
def test_other_settings(settings: dict[str, object], config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    done = train(changed(config, epochs=1, **settings), tmp_path / "run", data=data, progress=False)
    assert np.isfinite(done.best["loss"])


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_parts_train_the_same(balance: str, config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    tables = [same_in_parts(config, data, balance=balance, accumulate=parts) for parts in (1, 5)]
    whole, parts = (
        train(table.config, tmp_path / str(i), data=table, progress=False).history for i, table in enumerate(tables)
    )
    for one, other in zip(whole, parts, strict=True):
        assert one["train"]["tasks"] == pytest.approx(other["train"]["tasks"], rel=1e-4)
        assert one["val"]["loss"] == pytest.approx(other["val"]["loss"], rel=1e-5)


def test_hiding_augmentation_and_the_network_draw_unlike_numbers(
    config: StudyConfig, data: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def hide(batch: Batch, chance: float, generator: torch.Generator) -> Batch:
        seeds.extend([torch.initial_seed(), generator.initial_seed()])
        return batch

    def augment(batch: Batch, presets: object, generator: torch.Generator) -> Batch:
        seeds.append(generator.initial_seed())
        return batch

    monkeypatch.setattr("mailnet.training.trainer.hide_modalities", hide)
    monkeypatch.setattr("mailnet.training.trainer.augment_batch", augment)
    train(changed(config, epochs=1), tmp_path / "run", data=data, progress=False)
    assert len(seeds) == len(set(seeds)) == 9


def test_early_stop_waits_as_long_as_asked(config: StudyConfig, data: StudyData, tmp_path: Path) -> None:
    # No weight can improve at this learning rate; once batch statistics have settled, an epoch is the best by chance.
    still = changed(config, epochs=90, patience=1, learning_rate=1e-12, ema=None, monitor="accuracy", augment=False)
    done = train(still, tmp_path / "run", data=data, progress=False)
    assert len(done.history) == done.best["epoch"] + 1 < 90


def test_it_learns(folder: Path, tmp_path: Path) -> None:
    config = small_config(tmp_path, n=90, epochs=6, ema=0.9, batch_size=9)
    done = train(config, tmp_path / "run", cache=folder / "cache", progress=False)
    assert done.best["value"] > 0.75


def test_class_weights_give_each_class_the_same_total(data: StudyData) -> None:
    labels = np.array([0, 0, 0, 1, -1, 2, 2, 2, 2])
    frame = data.frame.iloc[:9].assign(split="train").reset_index(drop=True)
    uneven = StudyData(data.config, frame, {}, {"finding": data.tasks["finding"]}, {}, {}, {"finding": labels})
    weights = class_weights(uneven)["finding"].numpy()
    totals = weights * np.array([3, 1, 4])
    np.testing.assert_allclose(totals, totals[0])
    assert float((weights * np.array([3, 1, 4])).sum() / 8) == pytest.approx(1)
