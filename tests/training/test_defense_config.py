"""``train.defense``: what it means, what is refused, and how the command line says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from factory import write_study
from mailnet.cli.app import app
from mailnet.data.config import StudyConfig, TrainConfig, dump_config, load_config, parse_config
from mailnet.data.config.defense import PRESETS
from mailnet.errors import ConfigError
from mailnet.training import TrainResult

STUDY: dict[str, Any] = {
    "name": "s",
    "manifest": "s.csv",
    "modalities": {"ct": {}, "mr": {"kind": "volume"}, "clinic": {"kind": "tabular", "numeric": ["age"]}},
    "tasks": {"t": {"classes": ["a", "b"]}},
}


def study(defense: Any, **train: Any) -> StudyConfig:
    return parse_config(STUDY | {"train": {"defense": defense, **train}})


def lengths(defense: dict[str, Any]) -> dict[str, float]:
    config = study(defense)
    assert config.train.defense is not None
    return config.train.defense.lengths(config.modalities)


def test_a_radius_is_of_all_images_or_of_those_named() -> None:
    assert lengths({"name": "pgd_at"}) == pytest.approx({"ct": 4 / 255, "mr": 4 / 255})
    assert lengths({"name": "mart", "eps": "8/255"}) == pytest.approx({"ct": 8 / 255, "mr": 8 / 255})
    assert lengths({"name": "free", "eps": {"mr": "2/255", "ct": 0.1}}) == pytest.approx({"ct": 0.1, "mr": 2 / 255})
    assert lengths({"name": "trades", "norm": "l2", "eps": {"mr": 3}}) == {"mr": 3}
    assert lengths({"name": "gaussian", "sigma": {"ct": 0.5}}) == {"ct": 0.5}
    assert lengths({"name": "gaussian"}) == {"ct": 0.25, "mr": 0.25}


def test_a_name_alone_is_the_defence_with_its_defaults(tmp_path: Path) -> None:
    assert study("trades").train == study({"name": "trades"}).train
    with pytest.raises(ConfigError, match=r"train\.defense\.name.*'pgd_at'"):
        study("trade")
    path = write_study(tmp_path)
    whole = load_config(path, ["train.defense.name=mart", "train.defense.beta=2"]).train
    assert load_config(path, ["train.defense=mart", "train.defense.beta=2"]).train == whole
    other = load_config(path, ["train.defense=mart", "train.defense.name=pgd_at"]).train.defense
    assert other is not None
    assert other.name == "pgd_at"


@pytest.mark.parametrize("name", PRESETS)
def test_a_defence_reads_back_as_the_same(name: str, tmp_path: Path) -> None:
    config = study({"name": name})
    (tmp_path / "study.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "study.yaml", data_root=".").train == config.train


def test_the_validation_attack_averages_as_many_draws_as_that_of_training() -> None:
    found = [study({"name": "pgd_at", **draws}).train.defense for draws in ({"draws": 8}, {"validation_draws": 2})]
    assert [(d.draws, d.validation_draws) for d in found if d is not None] == [(8, 8), (1, 2)]


def test_the_best_epoch_is_the_most_robust_one_unless_said_otherwise() -> None:
    assert TrainConfig().monitor == "balanced_accuracy"
    assert study({"name": "fast"}).train.monitor == "robust_balanced_accuracy"
    assert study({"name": "fast"}, preset="published").train.monitor == "robust_balanced_accuracy"
    assert study({"name": "fast"}, monitor="macro_auroc").train.monitor == "macro_auroc"
    assert study(None, preset="published").train.monitor == "loss"
    assert study({"name": "fast"}, preset="published").train.optimizer == "adam"


@pytest.mark.parametrize(
    ("defense", "text"),
    [
        ({"name": "pdg"}, "'train.defense.name': Input should be 'pgd_at', 'trades'"),
        ({"eps": 0.1}, "'train.defense.name' is missing"),
        ({"name": "pgd_at", "eps": 4}, "larger than 1, the range of an image; write 4/255"),
        ({"name": "pgd_at", "eps": {"ct": 1.5}}, "larger than 1"),
        ({"name": "pgd_at", "eps": 0}, "'train.defense.eps': must be positive, got 0"),
        ({"name": "pgd_at", "eps": {"ct": -0.1}}, "'train.defense.eps': must be positive, got -0.1"),
        ({"name": "pgd_at", "eps": "nan"}, "'train.defense.eps': is no number, nor a fraction"),
        ({"name": "pgd_at", "eps": ".inf"}, "is no number, nor a fraction"),
        ({"name": "pgd_at", "eps": float("inf")}, "must be positive"),
        ({"name": "pgd_at", "eps": "4/0"}, "fraction such as 4/255: '4/0'"),
        ({"name": "pgd_at", "eps": {}}, "'train.defense.eps': names no modality"),
        ({"name": "pgd_at", "eps": {"pet": 0.1}}, "no modality with 'pet'; there are ct, mr"),
        ({"name": "pgd_at", "eps": {"clinic": 0.1}}, "'train.defense.eps' names 'clinic', a table"),
        ({"name": "gaussian", "sigma": {"pet": 0.1}}, "'train.defense.sigma' names no modality with 'pet'"),
        ({"name": "pgd_at", "norm": "l2"}, "norm l2 needs 'eps'"),
        ({"name": "pgd_at", "norm": "l7"}, "'train.defense.norm': Input should be 'linf', 'l2' or 'l1'"),
        ({"name": "pgd_at", "beta": 6}, "'beta' is no key of pgd_at, which has .*steps"),
        ({"name": "fast", "steps": 3}, "'steps' is no key of fast"),
        ({"name": "free", "draws": 3}, "'draws' is no key of free"),
        ({"name": "gaussian", "eps": 0.1}, "'eps' is no key of gaussian"),
        ({"name": "trades", "bta": 6}, "'train.defense.bta' is not a key .did you mean 'beta'"),
        ({"name": "trades", "steps": 0}, "'train.defense.steps': Input should be greater than or equal to 1"),
        ({"name": "trades", "awp": 1}, "'train.defense.awp': Input should be less than 1"),
        (["pgd_at"], "'train.defense': keys and values are needed"),
    ],
)
def test_what_is_refused(defense: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        study(defense)


def test_a_robust_metric_needs_an_attack() -> None:
    with pytest.raises(ConfigError, match=r"monitor robust_accuracy needs 'train\.defense'"):
        study(None, monitor="robust_accuracy")


def test_a_study_of_tables_alone_has_nothing_to_attack() -> None:
    tables = {"clinic": STUDY["modalities"]["clinic"]}
    with pytest.raises(ConfigError, match="no image or volume"):
        parse_config(STUDY | {"modalities": tables, "train": {"defense": {"name": "pgd_at"}}})


def test_the_option_of_the_command_is_the_name_of_the_defence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[StudyConfig] = []

    def train(config: StudyConfig, run: Path, **options: Any) -> TrainResult:
        taken.append(config)
        return TrainResult(run)

    monkeypatch.setattr("mailnet.training.train", train)
    path = str(write_study(tmp_path))
    override = ["--set", "train.defense.beta=3", "--set", "train.defense.eps={photo: 2/255}"]
    assert CliRunner().invoke(app, ["train", path, "--defense", "trades", *override]).exit_code == 0
    assert CliRunner().invoke(app, ["train", path]).exit_code == 0
    found = taken[0].train.defense
    assert found is not None
    assert (found.name, found.beta, found.eps) == ("trades", 3, {"photo": pytest.approx(2 / 255)})
    assert taken[1].train.defense is None
