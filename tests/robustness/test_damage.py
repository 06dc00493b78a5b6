"""What natural damage is measured to do, against predictions made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from damaged_run import write_run

from factory import read_table, write_table
from mailnet.bundle import Predictor, load
from mailnet.cli import main
from mailnet.data.config import ImageConfig, VolumeConfig, load_config
from mailnet.data.preprocess import to_unit
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.metrics import measure
from mailnet.robustness.damage.damaged import Asked, predict_damaged, predict_swapped, swap_partners
from mailnet.robustness.damage.harm import Harm, Reader, Reading
from mailnet.robustness.damage.measure import measure_damage
from mailnet.robustness.damage.pictures import plane_of
from mailnet.robustness.kept import Kept

KINDS, SEVERITIES = ["blur", "gaussian_noise"], [1, 5]


def opened(run: Path) -> tuple[Predictor, StudyData]:
    predictor = load(run, "cpu")
    config = load_config(run / "study.yaml")
    return predictor, load_study(config, cache=run.parent / "cache", tables=predictor.tables, splits=["test"])


def measured(run: Path, **options: Any) -> dict[str, Any]:
    chosen = {"kinds": KINDS, "severities": SEVERITIES, "cache": run.parent / "cache", "device": "cpu"} | options
    return measure_damage(run, **chosen)


def counted(count: int, *, before: bool = False) -> None:
    assert count > 0
    assert not before


NOTHING_KEPT = Asked(None, "own", counted)


@pytest.mark.parametrize("model", ["mail", "robust_mail"])
def test_damage_is_of_the_named_modality_and_does_not_depend_on_what_else_is_asked(model: str, tmp_path: Path) -> None:
    predictor, data = opened(write_run(tmp_path, model=model, n=30))
    rows = np.arange(len(data))
    found = predict_damaged(predictor, data, "photo", rows, KINDS, SEVERITIES, 0, NOTHING_KEPT)
    assert list(found) == list(product(KINDS, SEVERITIES))
    alone = predict_damaged(predictor, data, "photo", rows, KINDS[1:], [5], 0, NOTHING_KEPT)
    other = predict_damaged(predictor, data, "photo", rows, KINDS[1:], [5], 1, NOTHING_KEPT)
    plain = predictor.predict_data(data, rows)
    for task, values in found["gaussian_noise", 5].items():
        assert np.array_equal(values, alone["gaussian_noise", 5][task])
        assert not np.allclose(values, other["gaussian_noise", 5][task])
        assert not np.allclose(values, plain[task])


def test_blur_is_the_prediction_of_blurred_images(tmp_path: Path) -> None:
    from mailnet.robustness.corruptions import corrupt

    predictor, data = opened(write_run(tmp_path, n=30))
    rows = np.arange(len(data))
    images = torch.from_numpy(to_unit(data.arrays["ct"][rows]))
    blurred = corrupt(images, "blur", 5, torch.Generator()).numpy()
    expected = predictor.predict_data(replace(data, arrays=data.arrays | {"ct": blurred}), rows)
    found = predict_damaged(predictor, data, "ct", rows, ["blur"], [5], 0, NOTHING_KEPT)["blur", 5]
    for task, values in found.items():
        assert values == pytest.approx(expected[task], abs=1e-5)


def test_every_study_gets_the_modality_of_another_patient() -> None:
    random = np.random.default_rng(0)
    for seed in range(50):
        groups = random.integers(0, random.integers(2, 12), random.integers(4, 40)).astype(str)
        partners = swap_partners(groups, seed)
        assert np.array_equal(partners, swap_partners(groups, seed))
        given = partners[partners >= 0]
        assert len(set(given.tolist())) == len(given)
        assert (groups[given] != groups[partners >= 0]).all()
        if np.unique(groups, return_counts=True)[1].max() * 2 <= len(groups):
            assert (partners >= 0).all()
    assert (swap_partners(np.array(["a", "a"]), 0) == -1).all()
    many = np.arange(100).astype(str)
    assert not np.array_equal(swap_partners(many, 0), swap_partners(many, 1))


@pytest.mark.parametrize("modality", ["ct", "clinical"])
def test_a_swap_is_the_prediction_of_exchanged_arrays(modality: str, tmp_path: Path) -> None:
    predictor, data = opened(write_run(tmp_path, n=30))
    rows = np.arange(len(data))
    partners = swap_partners(data.frame["unit"].to_numpy(str), 0)
    exchanged = data.arrays[modality][partners]
    if exchanged.dtype.kind == "u":
        exchanged = to_unit(exchanged)
    expected = predictor.predict_data(replace(data, arrays=data.arrays | {modality: exchanged}), rows)
    found = predict_swapped(predictor, data, modality, rows, partners)
    for task, values in found.items():
        assert values == pytest.approx(expected[task], abs=1e-5)


def test_readings_are_those_of_an_evaluation(tmp_path: Path) -> None:
    predictor, data = opened(write_run(tmp_path, n=60))
    rows = np.arange(len(data))
    found = predictor.predict_data(data, rows)["finding"]
    groups = data.frame["group"].to_numpy(str)
    expected = measure(found, data.labels["finding"], data.tasks["finding"], groups=groups, bootstrap=20)["metrics"]
    read = Reader(data, data.config.evaluation).read("finding", found, rows).metrics()
    assert read == {key: expected[key] for key in ("balanced_accuracy", "macro_auroc", "ece")}


def test_errors_are_averaged_and_divided_as_defined() -> None:
    def reading(*accuracy: float) -> Reading:
        values = {"balanced_accuracy": accuracy[0], "macro_auroc": 0.5, "ece": 0.1}
        return Reading(9, values, {"balanced_accuracy": np.array(accuracy)})

    harm = Harm(
        reading(0.9, 0.8), {("a", 1): reading(0.8, 0.7), ("a", 5): reading(0.6, 0.5), ("b", 1): reading(0.5, 0.5)}
    )
    found = harm.as_dict()
    assert found["kinds"]["a"]["error"]["value"] == pytest.approx(0.3)
    assert found["mean_corruption_error"]["value"] == pytest.approx((0.3 + 0.5) / 2)
    assert found["mean_loss"]["value"] == pytest.approx(0.3)
    assert found["kinds"]["a"]["severities"]["5"]["loss"]["value"] == pytest.approx(0.3)
    other = Harm(reading(0.9), {("a", 1): reading(0.9, 0.9), ("a", 5): reading(0.9, 0.9), ("b", 1): reading(0.0, 0.0)})
    against = harm.against(other)
    assert against["kinds"]["a"]["value"] == pytest.approx(3)
    assert against["mean_corruption_error"]["value"] == pytest.approx((3 + 0.5) / 2)
    perfect = Harm(reading(1.0), {key: reading(1.0, 1.0) for key in harm.damaged})
    assert harm.against(perfect)["mean_corruption_error"] is None


def test_the_whole_result(tmp_path: Path) -> None:
    run = write_run(tmp_path, n=60)
    study = tmp_path / "study"
    rows = read_table(study / "studies.csv")
    rows[24]["photo"] = ""
    write_table(study / "studies.csv", rows)
    result = measured(run, reference=run)
    assert json.loads((run / "corruptions.json").read_text()) == result
    assert list(result["modalities"]) == ["ct", "photo"]
    photo = result["modalities"]["photo"]["finding"]
    assert (photo["n"], result["modalities"]["ct"]["finding"]["n"]) == (11, 12)
    cells = [photo["kinds"][k]["severities"][str(s)]["balanced_accuracy"] for k, s in product(KINDS, SEVERITIES)]
    assert photo["mean_corruption_error"]["value"] == pytest.approx(1 - np.mean([cell["value"] for cell in cells]))
    assert photo["mean_corruption_error"]["low"] <= photo["mean_corruption_error"]["high"]
    against = result["reference"]["modalities"]["photo"]["finding"]["mean_corruption_error"]
    assert against == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert list(result["missing"]) == list(result["swapped"]) == ["ct", "photo", "clinical"]
    predictor, data = opened(run)
    having = np.flatnonzero(data.present["photo"])
    hidden = predictor.predict_data(data, having, without=["photo"])["grade"]
    expected = measure(hidden, data.labels["grade"][having], data.tasks["grade"], bootstrap=0)["metrics"]["ece"]
    assert result["missing"]["photo"]["grade"]["missing"]["ece"]["value"] == pytest.approx(expected["value"], abs=1e-6)
    swapped = result["swapped"]["clinical"]["grade"]
    assert 0.5 <= swapped["confidence_clean"] <= 1
    assert 0 <= swapped["same_answer"] <= 1
    text = (run / "corruptions.json").read_text()
    assert not any(study in text for study in data.frame["id"])
    with np.load(run / "corruptions.npz", allow_pickle=False) as pictures:
        assert {name: pictures[name].shape for name in pictures.files} == {
            "images_0": (3, 32, 32),
            "images_1": (3, 32, 32, 3),
        }


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, n=30)
    reference = write_run(tmp_path, "other", n=30, seed=1)
    options = {"reference": reference, "severities": [3], "bootstrap": 0}
    whole = measured(run, out=tmp_path / "whole", **options)
    keep, kept = Kept.keep_tensors, []

    def keep_and_die(self: Kept, name: str, tensors: Any) -> None:
        keep(self, name, tensors)
        kept.append(name)
        if len(kept) in (1, 9):
            raise KeyboardInterrupt

    said: list[str] = []
    found = None
    monkeypatch.setattr(Kept, "keep_tensors", keep_and_die)
    while found is None:
        try:
            found = measured(run, out=tmp_path / "killed", say=said.append, **options)
        except KeyboardInterrupt:
            continue
    different = ("created", "seconds")
    assert {k: v for k, v in found.items() if k not in different} == {
        k: v for k, v in whole.items() if k not in different
    }
    # Of two models all studies and two kinds of two modalities; of one of them three modalities, missing and swapped.
    assert len(kept) == len(set(kept)) == 2 * (1 + 2 * 2) + 2 * 3
    assert set(said) == {"Going on with the measurement that was stopped: 2 kinds of damage of ct and photo, 6 studies"}
    assert not (tmp_path / "killed" / "corruptions.progress").exists()
    again = measured(run, out=tmp_path / "killed", say=said.append, **options)
    assert again == found
    assert "Measured before" in said[-1]
    assert len(kept) == 2 * (1 + 2 * 2) + 2 * 3
    # Other intervals are another result.
    assert measured(run, out=tmp_path / "killed", **{**options, "bootstrap": 3})["settings"]["bootstrap"] == 3


def test_studies_of_one_modality_are_neither_missing_nor_swapped(tmp_path: Path) -> None:
    result = measured(write_run(tmp_path, regime="unpaired", n=60), kinds=["blur"], severities=[3], bootstrap=0)
    assert (result["missing"], result["swapped"]) == ({}, {})
    assert {name: list(tasks) for name, tasks in result["modalities"].items()} == {
        "ct": ["finding"],
        "photo": ["grade"],
    }


def test_wrong_questions_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, n=30)
    for options, words in (
        ({"kinds": ["fog"]}, "no kind of corruption 'fog'"),
        ({"severities": [6]}, "no severity 6"),
        ({"modalities": ["mri"]}, "no modality 'mri'.*ct, photo, clinical"),
        ({"modalities": ["clinical"]}, "is a table.*ct, photo"),
        ({"split": "holdout"}, "no split"),
    ):
        with pytest.raises(ConfigError, match=words):
            measured(run, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="other studies"):
        measured(run, reference=write_run(tmp_path / "elsewhere", n=60))
    rows = read_table(tmp_path / "study" / "studies.csv")
    blank = {"finding": "", "grade": ""}
    write_table(tmp_path / "study" / "studies.csv", [row | blank if row["split"] == "test" else row for row in rows])
    with pytest.raises(DataError, match="no study of the split 'test' has a label"):
        measured(run)
    write_table(tmp_path / "study" / "studies.csv", rows[:24])
    with pytest.raises(DataError, match="'test' is empty"):
        measured(run)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("{}")
    with pytest.raises(RunError, match="another run"):
        measured(run, out=tmp_path / "other")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, n=30)
    options = [str(run), "--kind", "jpeg", "--severity", "2", "--modality", "ct", "--cache", str(tmp_path / "cache")]
    for extra, words in (([], "mean corruption error"), (["--json"], '"mean_corruption_error"')):
        with pytest.raises(SystemExit) as ended:
            main(["corrupt", *options, *extra])
        out, err = capsys.readouterr()
        assert (ended.value.code or 0, words in out) == (0, True)
        assert extra or f"Written: {run / 'corruptions.json'}" in err
    assert list(json.loads(out)["modalities"]) == ["ct"]


def test_pictures_show_the_middle_of_volumes_and_of_neighbouring_planes() -> None:
    volume = torch.rand(1, 1, 9, 300, 150)
    sections = {
        "ct": VolumeConfig(kind="volume", size=[9, 300, 150], spacing=[3, 1, 1]),
        "mr": ImageConfig(kind="image", size=20, slice="middle", neighbours=1),
    }
    data: Any = SimpleNamespace(config=SimpleNamespace(modalities=sections))
    shown = plane_of(volume, data, "ct")
    assert shown.shape == (128, 64)
    assert shown.mean() / 255 == pytest.approx(float(volume[0, 0, 4].mean()), abs=0.01)
    planes = torch.rand(1, 3, 20, 20)  # three neighbours, not three colours
    expected = (planes[0, 1] * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(plane_of(planes, data, "mr"), expected)
