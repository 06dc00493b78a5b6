"""Several runs made one: what it answers, what can be done with it, and which runs do not belong together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from factory import Command
from mailnet.attacks.problem import Problem
from mailnet.attacks.registry import get_attack
from mailnet.attacks.threat import Threat
from mailnet.bundle import load
from mailnet.data.config import load_config
from mailnet.data.dataset import StudyDataset
from mailnet.data.study import StudyData, load_study
from mailnet.errors import ConfigError, MailnetError, RunError
from mailnet.evaluation import evaluate
from mailnet.files import write_json
from mailnet.nn.counts import count_parameters
from mailnet.training.ensemble import make_ensemble

MakeRun = Callable[..., Path]
SEEN = {"train": ["1", "2", "3"], "val": ["4"]}


@pytest.fixture
def runs(make_run: MakeRun) -> list[Path]:
    """Two runs of one study whose networks differ in architecture, options and seed."""
    found = [make_run("one", size=16), make_run("two", model="late_fusion", seed=1, size=16)]
    for run in found:
        write_json(run / "seen.json", SEEN)
        write_json(run / "run.json", {"format": 1, "best": {"epoch": 2}, "device": "cpu", "defense": None})
        write_json(run / "data.json", {"studies": {"train": 36}})
    return found


def studies(run: Path, cache: Path) -> StudyData:
    """Return a run's test studies."""
    return load_study(load_config(run / "study.yaml"), cache=cache, tables=load(run, "cpu").tables, splits=["test"])


def test_its_answers_are_the_mean_of_its_members(runs: list[Path], cache: Path, tmp_path: Path) -> None:
    folder = make_ensemble(runs, tmp_path / "both")
    data = studies(folder, cache)
    rows = np.arange(len(data))
    predictor = load(folder, "cpu")
    found, drawn = predictor.predict_data(data, rows), predictor.draw(data, rows)
    each = [load(run, "cpu").predict_data(data, rows) for run in runs]
    assert predictor.draw_source == "members"
    for task in data.tasks:
        np.testing.assert_allclose(drawn[task], [one[task] for one in each], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[task], drawn[task].mean(0), rtol=0, atol=1e-6)
        assert np.abs(drawn[task][0] - drawn[task][1]).max() > 1e-3
    table = load(folder, "cpu").predict(folder / "study.yaml").to_frame().set_index("id").loc[data.frame["id"]]
    np.testing.assert_allclose(table["grade:high"], found["grade"][:, 1], atol=1e-5)


def test_it_is_evaluated_as_a_run_and_says_what_it_is(runs: list[Path], cache: Path, tmp_path: Path) -> None:
    folder = make_ensemble(runs, tmp_path / "both")
    result = evaluate(folder, cache=cache, device="cpu", bootstrap=0, uncertainty=7)
    assert (result["uncertainty"]["source"], result["uncertainty"]["draws"]) == ("members", 2)
    assert (result["model"]["name"], result["model"]["seed"], result["model"]["epoch"]) == ("ensemble", None, None)
    assert result["model"]["parameters"] == sum(count_parameters(load(run, "cpu").model).total for run in runs)
    record = json.loads((folder / "run.json").read_text())
    assert [(one["network"], one["seed"]) for one in record["members"]] == [("mail", 0), ("late_fusion", 1)]
    assert record["status"] == "finished"
    assert json.loads((folder / "seen.json").read_text()) == SEEN
    card = (folder / "bundle" / "README.md").read_text()
    assert "members=mail+late" in card
    assert "stem_kernel" not in card
    assert load_config(folder / "study.yaml").model.name == "ensemble"


def test_an_attack_on_it_goes_through_its_members(runs: list[Path], cache: Path, tmp_path: Path) -> None:
    folder = make_ensemble(runs, tmp_path / "both")
    model = load(folder, "cpu").model
    data = studies(folder, cache)
    problem = Problem(model, StudyDataset(data).batch(np.arange(6)), Threat("linf", {"ct": 0.1, "photo": 0.1}))
    before = problem.ask(problem.space.clean)
    attacked = get_attack("pgd")(problem, steps=3, generator=torch.Generator().manual_seed(0))
    after = problem.ask(attacked)
    assert before.gradient is not None
    assert bool(before.gradient.any(1).all())
    standing = ~before.broken  # the others are wrong as they are
    assert int(standing.sum()) > 1
    assert bool((after.loss > before.loss)[standing].all())


def test_random_members_are_led_by_one_source(make_run: MakeRun, cache: Path, tmp_path: Path) -> None:
    runs = [make_run("one", model="robust_mail", size=16), make_run("two", size=16)]
    for run in runs:
        write_json(run / "seen.json", SEEN)
    folder = make_ensemble(runs, tmp_path / "both")
    data = studies(folder, cache)
    predictor, rows = load(folder, "cpu"), np.arange(4)
    drawn = predictor.draw(data, rows)["finding"]
    assert predictor.noise is not None
    np.testing.assert_allclose(predictor.predict_data(data, rows)["finding"], drawn.mean(0), atol=1e-6)
    np.testing.assert_allclose(load(runs[0], "cpu").predict_data(data, rows)["finding"], drawn[0], atol=1e-5)


def _rewrite(path: Path, change: Callable[[Any], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    write_json(path, values)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "bundle/config.json",
            lambda v: v["preprocessing"]["ct"].update(resize="stretch"),
            "preprocessing.*ct: resize",
        ),
        ("bundle/config.json", lambda v: v["tables"]["clinical"].update(numeric=[]), "table"),
        ("bundle/config.json", lambda v: v.update(study="another"), r"study differs \(another and made-up\)"),
        ("bundle/config.json", lambda v: v["tasks"][1].update(classes=["high", "low"]), "tasks differs: grade"),
        ("seen.json", lambda v: v.update(val=["5"]), "2 patients .* test patients of the other"),
        ("seen.json", lambda v: v.update(val=["3"], train=["1", "2", "4"]), "2 patients are for training in one"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(
    runs: list[Path], tmp_path: Path, file: str, change: Callable[[Any], None], message: str
) -> None:
    _rewrite(runs[1] / file, change)
    with pytest.raises(MailnetError, match=message):
        make_ensemble(runs, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_what_is_no_set_of_runs_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two runs or more"):
        make_ensemble(runs[:1], tmp_path / "both")
    with pytest.raises(ConfigError, match="twice"):
        make_ensemble([runs[0], runs[0]], tmp_path / "both")
    with pytest.raises(RunError, match="holds a run already"):
        make_ensemble(runs, runs[0])
    (runs[1] / "seen.json").unlink()
    with pytest.raises(RunError, match=r"no seen\.json"):
        make_ensemble(runs, tmp_path / "both")


def test_augmentation_may_differ(runs: list[Path], tmp_path: Path) -> None:
    _rewrite(runs[1] / "bundle" / "config.json", lambda v: v["preprocessing"]["ct"].update(augment="none"))
    assert make_ensemble(runs, tmp_path / "both") == tmp_path / "both"


def test_from_the_command_line(runs: list[Path], tmp_path: Path, mailnet: Command) -> None:
    status, out, err = mailnet("ensemble", *runs, "--out", tmp_path / "both")
    assert status == 0, err
    assert out.strip() == str(tmp_path / "both")
    assert "--uncertainty" in err
    status, _, err = mailnet("ensemble", *runs, "--out", tmp_path / "both")
    assert status == 2
    assert "holds a run already" in err
