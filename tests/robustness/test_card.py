"""The measurement of a run against what is known in closed form of a linear network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from linear_run import SECRET, attacked_studies, best_attack, write_linear_run

from mailnet.bundle import load
from mailnet.errors import ConfigError, DataError, RunError
from mailnet.robustness.attack.measure import measure_robustness
from mailnet.robustness.attack.score import correct

LEVELS = (0.5 / 255, 1.5 / 255, 3 / 255)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_run(tmp_path_factory.mktemp("linear"), lacking=4)


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_run(tmp_path_factory.mktemp("unpaired"), unpaired=True)


@pytest.fixture(scope="module")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_run(tmp_path_factory.mktemp("random"), noise=0.3)


def measured(run: Path, **options: Any) -> dict[str, Any]:
    return measure_robustness(run, **{"cache": run.parent / "cache", "suite": "quick", "eps": LEVELS, **options})


def robust(cell: dict[str, Any], task: str) -> float:
    return float(cell["figures"][task]["robust"]["accuracy"]["value"])


def test_what_is_left_of_a_linear_network_is_exact(run: Path) -> None:
    card = measured(run, each_modality=True)
    found = {(cell["tasks"][0], *cell["eps"].items()): cell for cell in card["cells"]}
    assert len(found) == len(card["cells"]) == 2 * (3 + 2)
    for cell in card["cells"]:
        (task,) = cell["tasks"]
        expected = best_attack(run, task, cell["eps"])
        assert robust(cell, task) == pytest.approx(expected.mean(), abs=1e-6), cell["eps"]
        assert cell["n"] == len(expected) == 24
        assert cell["n_held"] == (20 if cell["held"] == ["mri"] else 24)
    together = [robust(cell, "stage") for cell in card["cells"] if cell["tasks"] == ["stage"] and len(cell["eps"]) == 2]
    assert together == sorted(together, reverse=True)
    assert 0 < together[1] < together[0]  # the levels tell studies apart


def test_each_modality_may_have_a_radius_of_its_own(run: Path) -> None:
    eps = {"ct": 3 / 255, "mri": 0.5 / 255}
    (cell,) = measured(run, eps=[eps], tasks=["grade"])["cells"]
    assert robust(cell, "grade") == pytest.approx(best_attack(run, "grade", eps).mean(), abs=1e-6)
    (cell,) = measured(run, eps=[{"mri": 3 / 255}], tasks=["grade"])["cells"]
    assert cell["held"] == ["mri"]
    assert robust(cell, "grade") == pytest.approx(best_attack(run, "grade", {"mri": 3 / 255}).mean(), abs=1e-6)


def test_a_table_is_the_attackers_only_where_it_is_given(run: Path) -> None:
    (cell,) = measured(run, eps=[1.5 / 255], tables={"clinic": 0.9}, tasks=["stage"])["cells"]
    eps = {"ct": 1.5 / 255, "mri": 1.5 / 255, "clinic": 0.9}
    assert cell["eps"] == pytest.approx(eps)
    with_table, without = (best_attack(run, "stage", {name: eps[name] for name in held}).mean()
                           for held in (("ct", "mri", "clinic"), ("ct", "mri")))  # fmt: skip
    assert robust(cell, "stage") == pytest.approx(with_table, abs=1e-6)
    assert with_table < without


def test_all_tasks_at_once_are_an_attacker_more(run: Path) -> None:
    card = measured(run, eps=[1.5 / 255], together=True)
    assert [cell["tasks"] for cell in card["cells"]] == [["stage"], ["grade"], ["stage", "grade"]]
    joint = card["cells"][2]
    for alone, task in zip(card["cells"], ("stage", "grade"), strict=False):
        assert robust(alone, task) <= robust(joint, task)
    assert joint["standing"]["after"][-1]["standing"] >= robust(joint, "grade")
    shown = [(example["row"], example["task"]) for example in card["examples"]["shown"]]
    assert len(shown) == len(set(shown))  # none is shown again as the joint attacker left it
    assert {task for _, task in shown} == {"stage", "grade"}


def test_studies_of_one_label_need_one_attacker_for_all_tasks(unpaired: Path) -> None:
    card = measured(unpaired)
    assert [cell["tasks"] for cell in card["cells"]] == [["stage", "grade"]] * 3
    for cell in card["cells"]:
        for task, held in (("stage", "ct"), ("grade", "mri")):
            expected = best_attack(unpaired, task, {held: cell["eps"][held]})
            known = attacked_studies(unpaired).labels[task] >= 0
            assert robust(cell, task) == pytest.approx(expected[known].mean(), abs=1e-6)
            assert cell["figures"][task]["n"] == known.sum() == 12
    with pytest.raises(ConfigError, match="attacker can change nothing"):
        measured(unpaired, modalities=["ct"], tasks=["grade"])


def test_the_card_says_what_was_done(run: Path) -> None:
    card = measured(run, studies=10, eps=[1.5 / 255], redraws=True)
    assert json.loads((run / "robustness.json").read_text()) == card
    assert not (run / "robustness.progress").exists()
    assert (card["n"], card["of"], card["suite"], card["random"], card["alignment"]) == (10, 24, "quick", False, None)
    assert card["model"]["name"] == "linear_of_tests"
    assert len(card["model"]["weights"]) == 64
    assert card["threat"]["norm"] == "linf"
    assert card["unreliable"]
    assert "first look" in card["reasons"][0]
    figures = card["cells"][0]["figures"]["stage"]
    assert figures["ways"] is None
    assert figures["robust"]["accuracy"]["low"] <= figures["robust"]["accuracy"]["value"]
    assert len(figures["redraws"]["robust"]) == 20
    assert [step["attack"] for step in card["cells"][0]["standing"]["after"]] == ["apgd_ce", "apgd_t"]
    fewer = measured(run, studies=5, eps=[1.5 / 255], tasks=["stage"])
    assert fewer["n"] == 5


def test_another_study_and_another_split_may_be_attacked(run: Path, tmp_path: Path) -> None:
    card = measured(run, study=run / "study.yaml", split="all", eps=[0.5 / 255], tasks=["stage"], out=tmp_path / "all")
    assert (card["external"], card["n"], card["split"]) == (True, 33, "all")
    card = measured(run, split="val", eps=[0.5 / 255], tasks=["stage"], out=tmp_path / "val")
    assert (card["external"], card["n"], card["split"]) == (False, 3, "val")


def test_examples_lie_beside_the_card_and_give_nothing_away(run: Path) -> None:
    card = measured(run, eps=LEVELS, tasks=["stage"])
    assert SECRET not in (run / "robustness.json").read_text()
    shown = card["examples"]["shown"]
    assert 0 < len(shown) <= 4
    with np.load(run / card["examples"]["file"], allow_pickle=False) as arrays:
        for k, example in enumerate(shown):
            assert np.argmax(example["before"]) == example["truth"] != np.argmax(example["after"])
            for m, name in enumerate(example["modalities"]):
                clean, change = arrays[f"clean_{k}_{m}"], arrays[f"change_{k}_{m}"]
                assert (clean.shape, clean.dtype, change.dtype) == ((1, 8, 8), np.uint8, np.float16)
                assert 0 < np.abs(change).max() <= card["cells"][example["cell"]]["eps"][name] * 1.001


def test_a_random_network_is_found_and_met_in_every_way(random_run: Path) -> None:
    with pytest.raises(ConfigError, match="follows single draws of a random network"):
        measured(random_run, suite="standard")
    card = measured(random_run, eps=[1.5 / 255], tasks=["stage"], max_draws=4, repeats=6)
    assert card["random"]
    assert (card["alignment"]["draws"], card["alignment"]["capped"], card["repeats"]) == (4, False, 6)
    assert [(cell["noise"], cell["draws"], cell["suite"]) for cell in card["cells"]] == [
        ("sample", 4, "quick"), ("off", 1, "quick"), ("known seed", 10, "quick")]  # fmt: skip
    sample, off, known = (cell["figures"]["stage"] for cell in card["cells"])
    assert set(sample["ways"]) == {"mean", "majority", "worst"}
    for point in ("clean", "robust"):
        assert sample["ways"]["worst"][point]["accuracy"]["value"] <= sample[point]["accuracy"]["value"]
    assert off["robust"]["accuracy"]["value"] == pytest.approx(
        best_attack(random_run, "stage", {"ct": 1.5 / 255, "mri": 1.5 / 255}).mean(), abs=1e-6
    )
    # An attacker who knows the seed meets the very model that is deployed.
    data = attacked_studies(random_run)
    deployed = load(random_run, "cpu").predict_data(data, np.arange(len(data)))["stage"]
    right = correct(data.tasks["stage"], torch.from_numpy(deployed).log(), torch.from_numpy(data.labels["stage"]))
    assert known["clean"]["accuracy"]["value"] == pytest.approx(float(right.double().mean()), abs=1e-6)
    short = measured(random_run, eps=[1.5 / 255], tasks=["stage"], max_draws=4, repeats=2, modes=False)
    assert [cell["noise"] for cell in short["cells"]] == ["sample"]


def test_a_suite_that_does_not_fit_is_run_for_those_who_know(random_run: Path, run: Path) -> None:
    card = measured(random_run, suite="published", eps=[1.5 / 255], tasks=["stage"], repeats=2, modes=False)
    assert card["cells"][0]["draws"] == 1
    assert card["unreliable"]
    assert "for comparison only" in card["reasons"][0]
    card = measured(run, suite="rand", eps=[0.5], tasks=["grade"], i_know=True, studies=4)
    assert "is for random networks" in card["reasons"][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": [0.0]}, "eps must be positive, got 0"),
        ({"eps": [-0.1]}, "eps must be positive, got -0.1"),
        ({"eps": [4.0]}, "more than 1, by which two images"),
        ({"eps": [9.0], "norm": "l2"}, "more than 8, by which two images"),
        ({"norm": "l7"}, "no norm 'l7'"),
        ({"modalities": ["pet"]}, "no modality 'pet'"),
        ({"modalities": ["clinic"]}, "is a table"),
        ({"eps": [{"pet": 0.1}]}, "no modality 'pet'"),
        ({"tables": {"ct": 0.1}}, "modality ct: is no table"),
        ({"tables": {"clinic": -1.0}}, "radius must be positive"),
        ({"modalities": []}, "holds nothing"),
        ({"tasks": ["sex"]}, "no task 'sex'"),
        ({"suite": "best"}, "unknown suite 'best'"),
        ({"suite": "rand"}, "is for random networks"),
        ({"studies": 0}, "studies must be at least 1"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"max_draws": 0}, "max_draws must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"split": "tests"}, "'tests' is no split"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_remedy(run: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        measured(run, **options)
    assert raised.value.remedy


def test_what_is_no_run_is_refused(run: Path, unpaired: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError):
        measure_robustness(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunError, match="holds another run"):
        measured(run, out=tmp_path)
    with pytest.raises(ConfigError, match="--out"):
        measured(run, study=run / "study.yaml")
    table = unpaired.parent / "data" / "studies.csv"
    text = table.read_text()
    try:
        table.write_text(text.replace(",low", ",").replace(",high", ","))
        with pytest.raises(DataError, match="no study of the split 'test' has a label"):
            measured(unpaired)
    finally:
        table.write_text(text)


def test_a_network_that_returns_probabilities_is_refused(tmp_path: Path) -> None:
    run = write_linear_run(tmp_path, studies=6, softmax=True)
    with pytest.raises(ValueError, match="returns probabilities, not logits"):
        measured(run)
