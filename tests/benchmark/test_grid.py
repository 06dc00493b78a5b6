"""The grid from end to end on made-up studies: what is run, what is not, and what stands in a cell."""

from __future__ import annotations

import errno
import importlib
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from small_suite import write_suite

import mailnet.benchmark.plan as plan_module
from mailnet import locks
from mailnet.benchmark import GridResult, grid, load_suite, run_suite, write_tables
from mailnet.benchmark.cells import Cell
from mailnet.benchmark.network import training_seconds
from mailnet.cli import main
from mailnet.evaluation import evaluate
from mailnet.locks import claim

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mailnet.benchmark", "mailnet.nn.mail", "torch._dynamo", "pyarrow.pandas_compat"])


def run(suite: Path, out: Path, **options: Any) -> GridResult:
    """Run a suite with its images decoded beside it."""
    return run_suite(load_suite(suite), out, cache=suite.parent / "cache", **options)


def cells(out: Path) -> dict[str, dict[str, Any]]:
    """Every cell's values, by study/network/seed."""
    found = sorted((out / "cells").glob("*/*/seed-*.json"))
    return {
        str(file.relative_to(out / "cells").with_suffix("")): json.loads(file.read_text(encoding="utf-8"))
        for file in found
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite and, in ``out``, all of its cells; tests copy what they change."""
    folder = tmp_path_factory.mktemp("finished")
    boost = {"columns": "boosting", "options": {"min_samples_leaf": 3}}
    result = run(write_suite(folder, networks={"boost": boost}), folder / "out")
    assert result.counts == {"done": 12}
    assert result.complete
    return folder


def test_a_cell_holds_what_tables_need_and_nothing_of_a_patient(finished: Path) -> None:
    found = cells(finished / "out")
    assert len(found) == 12
    cell = found["two/mail/seed-1"]
    assert (cell["study"], cell["network"], cell["seed"], cell["epochs"]) == ("two", "mail", 1, 2)
    assert len(cell["history"]["train_loss"]) == len(cell["history"]["monitor"]) == 2
    assert cell["seconds"] == pytest.approx(sum(cell["history"]["seconds"]), abs=0.02)
    assert cell["parameters"] > 1000
    assert cell["macs"] > 1000
    task = cell["tasks"]["grade"]
    assert (task["n"], task["groups"]) == (12, 6)
    assert set(task["metrics"]) == {"accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "ece", "nll"}
    assert {key: len(values) for key, values in task["redraws"].items()} == {
        "balanced_accuracy": 20,
        "macro_auroc": 20,
        "macro_f1": 20,
    }
    assert set(cell["only"]) == {"ct", "photo", "clinical"}
    assert found["apart/mail/seed-0"]["only"] == {}
    # The same patients are drawn for every network and seed of a study.
    assert len({each["tasks"]["grade"]["drawn"] for name, each in found.items() if name.startswith("two/")}) == 1
    for name, each in found.items():
        text = json.dumps(each)
        for identity in ("s000", "s024", "p012", "ct024", "photo02", ".png", str(finished), "studies.csv"):
            assert identity not in text, (name, identity)
    assert not (finished / "out" / "runs").exists()


def test_a_cell_says_what_an_evaluation_of_its_run_says(finished: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"studies": ["two"], "networks": ["mail"], "seeds": [1], "keep_runs": True}
    run(finished / "suite.yaml", tmp_path, **options)
    (runs,) = (tmp_path / "runs" / "two" / "mail").iterdir()
    evaluated = evaluate(runs, cache=finished / "cache")
    cell = cells(tmp_path)["two/mail/seed-1"]
    for task, found in cell["tasks"].items():
        for metric, value in found["metrics"].items():
            assert value == pytest.approx(evaluated["tasks"][task]["metrics"][metric]), (task, metric)
        for modality, values in cell["only"].items():
            only = evaluated["modalities"]["only"][modality][task]["metrics"]["balanced_accuracy"]["value"]
            assert values[task] == pytest.approx(only)
    # Trained in another folder, the same settings give the same numbers.
    before = cells(finished / "out")["two/mail/seed-1"]
    assert before["tasks"] == cell["tasks"]
    assert before["history"]["train_loss"] == cell["history"]["train_loss"]


def test_boosting_answers_what_the_table_can(finished: Path) -> None:
    found = cells(finished / "out")
    assert set(found["apart/boost/seed-0"]["tasks"]) == {"risk"}
    paired = found["two/boost/seed-0"]
    assert set(paired["tasks"]) == {"finding", "grade"}
    assert paired["tasks"]["grade"]["metrics"]["balanced_accuracy"]["value"] > 0.9  # age says it
    assert (paired["parameters"], paired["macs"], paired["epochs"]) == (None, None, None)


def test_cells_that_are_there_are_not_run_again(finished: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (finished / "out" / "cells").rglob("*.json")}
    assert run(finished / "suite.yaml", finished / "out", rerun=True).counts == {"done": 12}
    assert before == {file: file.stat().st_mtime_ns for file in (finished / "out" / "cells").rglob("*.json")}


def test_tables_need_no_data_and_no_place(finished: Path, tmp_path: Path) -> None:
    first = write_tables(load_suite(finished / "suite.yaml"), finished / "out").read_text(encoding="utf-8")
    for name in ("suite.yaml", "paired/study.yaml", "unpaired/study.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(finished / name, tmp_path / name)
    shutil.copytree(finished / "out" / "cells", tmp_path / "elsewhere" / "cells")
    again = write_tables(load_suite(tmp_path / "suite.yaml"), tmp_path / "elsewhere")
    assert again.read_text(encoding="utf-8") == first
    for file in sorted((finished / "out" / "plots").iterdir()):
        assert "mathdefault" not in file.read_text()  # numbers at the axes, not the formulas of numbers
        assert (tmp_path / "elsewhere" / "plots" / file.name).read_bytes() == file.read_bytes()
    assert "every task of every study: boost." in first
    summary = json.loads((tmp_path / "elsewhere" / "tables.json").read_text(encoding="utf-8"))
    values = [cells(finished / "out")[f"two/wide/seed-{k}"]["tasks"]["grade"]["metrics"] for k in (0, 1)]
    mean = sum(each["balanced_accuracy"]["value"] for each in values) / 2
    assert summary["studies"]["two"]["tasks"]["grade"]["wide"]["balanced_accuracy"]["mean"] == pytest.approx(mean)
    assert summary["ranks"]["networks"] in (["mail", "wide"], ["wide", "mail"])
    compared = {(each["study"], each["task"]) for each in summary["differences"] if each["network"] == "boost"}
    assert compared == {("two", "finding"), ("two", "grade"), ("two", "mean of tasks"), ("apart", "risk")}


def test_a_stale_cell_is_named_and_left_out_until_it_is_made_again(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    wanted: dict[str, Any] = {"networks": ["wide"], "studies": ["two"]}
    suite = write_suite(folder, networks={"wide": {"set": {"train.weight_decay": 0.01}}})
    (folder / "out" / "cells" / "two" / "mail" / "seed-1.json").unlink()
    result = run(suite, folder / "out", **wanted)
    assert (result.counts, result.complete) == ({"stale": 2}, True)
    text = write_tables(load_suite(suite), folder / "out").read_text(encoding="utf-8")
    assert "two, apart, wide, seed 0, 1: left out, of other settings" in text
    assert "two, mail, seed 1: missing." in text
    summary = json.loads((folder / "out" / "tables.json").read_text(encoding="utf-8"))
    assert "wide" not in summary["studies"]["two"]["networks"]
    for file in (folder / "out" / "cells").glob("*/*/seed-1.json"):
        file.unlink()
    (folder / "out" / "cells" / "two" / "mail" / "seed-0.json").unlink()
    (folder / "out" / "cells" / "apart" / "mail" / "seed-0.json").unlink()
    missing = write_tables(load_suite(suite), folder / "out").read_text(encoding="utf-8")
    assert "- two, apart, mail, seed 0: missing.\n- two, apart, wide, seed 0: left out" in missing
    assert "Seed 1: no cell yet." in missing
    assert run(suite, folder / "out", rerun=True, **wanted).counts == {"done": 2}


def test_a_network_that_fails_does_not_stop_the_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"name": "mail", "options": {"widths": "wide", "width": None}}
    suite = write_suite(tmp_path, networks={"mail": bad}, seeds=[0])
    (tmp_path / "unpaired" / "images" / "ct000.png").unlink()  # and this study cannot be loaded
    command = ["benchmark", str(suite), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--json"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert ended.value.code == 1
    assert result["cells"] == {"error": 1, "done": 1, "missing": 2}
    assert "the network 'mail' cannot be made" in result["errors"]["two / mail / seed 0"]
    assert "apart cannot be loaded" in printed.err
    assert "error" in cells(tmp_path / "out")["two/mail/seed-0"]
    assert "two, mail, seed 0: failed" in (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")


def test_seconds_become_epochs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "time_epoch", lambda config, run, data: 0.5)
    suite = write_suite(tmp_path, budget={"seconds": 1.6})
    wanted: dict[str, Any] = {"studies": ["two"], "networks": ["mail"]}
    run(suite, tmp_path / "out", seeds=[0], **wanted)
    monkeypatch.setattr(plan_module, "time_epoch", lambda config, run, data: pytest.fail("timed again"))
    run(suite, tmp_path / "out", **wanted)
    assert {name: cell["epochs"] for name, cell in cells(tmp_path / "out").items()} == {
        "two/mail/seed-0": 3,
        "two/mail/seed-1": 3,
    }


def test_an_epoch_is_timed_and_the_slow_get_fewer(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, budget={"epochs": 500, "at_most_seconds": 0.3}, seeds=[0])
    run(suite, tmp_path / "out", networks=["mail"])
    text = write_tables(load_suite(suite), tmp_path / "out").read_text(encoding="utf-8")
    for study in ("two", "apart"):
        cell = cells(tmp_path / "out")[f"{study}/mail/seed-0"]
        timed = json.loads((tmp_path / "out" / "cells" / study / "mail" / "budget.json").read_text(encoding="utf-8"))
        assert cell["epochs"] == max(1, round(0.3 / timed["seconds_per_epoch"])) < 500
        assert len(cell["history"]["seconds"]) == cell["epochs"]
        assert f"{cell['epochs']} of 500" in text
    assert not (tmp_path / "out" / "runs").exists()


def test_what_else_the_machine_does_takes_no_epochs_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    disturbed = {"seconds": 30.0, "cpu_seconds": 20.0}
    assert training_seconds(disturbed, "cpu") == 10
    assert training_seconds(disturbed, "cuda:0") == 30  # where the processor waits for the accelerator
    assert training_seconds({"seconds": 9.0, "cpu_seconds": 20.0}, "cpu") == 9
    assert training_seconds({"seconds": 9.0}, "cpu") == 9  # a run of before


def test_tuning_takes_what_validates_best(tmp_path: Path) -> None:
    rates = [1e-7, 1e-2, 2e-7]
    suite = write_suite(
        tmp_path,
        networks={
            "boost": {"columns": "boosting", "trials": [{"max_depth": 1}, {"min_samples_leaf": 3}, {"max_iter": 5}]}
        },
        tuning={"trials": [{"train.learning_rate": rate} for rate in rates], "seed": 7, "share": 0.75},
        budget={"epochs": 8},
        seeds=[0],
    )
    run(suite, tmp_path / "out", studies=["two"], networks=["mail", "boost"])
    for network in ("mail", "boost"):
        tuning = json.loads((tmp_path / "out" / "cells" / "two" / network / "tuning.json").read_text(encoding="utf-8"))
        ranks = [(trial["value"], -trial["loss"]) for trial in tuning["trials"]]
        assert len(ranks) == 3
        assert ranks[tuning["chosen"]] == max(ranks)
        assert cells(tmp_path / "out")[f"two/{network}/seed-0"]["tuned"] == tuning["trials"][tuning["chosen"]]["set"]
        assert tuning["chosen"] == 1
        if network == "mail":
            assert [trial["epochs"] for trial in tuning["trials"]] == [6, 6, 6]
    assert cells(tmp_path / "out")["two/mail/seed-0"]["epochs"] == 8


def test_a_killed_grid_goes_on_from_its_checkpoint(finished: Path, tmp_path: Path) -> None:
    suite = finished / "suite.yaml"
    # When the first epoch is written down: a checkpoint has it, since one is saved every zero minutes.
    changed = write_suite(tmp_path, set={"train.checkpoint_minutes": 0}, seeds=[0])
    process = CONTEXT.Process(target=_killed, args=(changed, tmp_path / "out", "write_history"))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert cells(tmp_path / "out") == {}
    (checkpoint,) = (tmp_path / "out" / "runs" / "two" / "mail").glob("*/checkpoint/latest.json")
    assert checkpoint.is_file()

    trainer = importlib.import_module("mailnet.training.trainer")
    original = trainer.epoch_steps
    begun: list[int] = []

    def noted(data: Any, settings: Any, epoch: int) -> Any:
        begun.append(epoch)
        return original(data, settings, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "epoch_steps", noted)
        run(changed, tmp_path / "out", studies=["two"], networks=["mail"])
    assert begun == [1]  # the first epoch was not trained again
    cell, whole = cells(tmp_path / "out")["two/mail/seed-0"], cells(suite.parent / "out")["two/mail/seed-0"]
    assert cell["tasks"] == whole["tasks"]
    assert cell["history"]["train_loss"] == whole["history"]["train_loss"]


def test_processes_share_the_cells(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, tuning={"trials": [{"train.learning_rate": 0.01}, {"train.learning_rate": 0.001}]})
    assert run(suite, tmp_path / "out", studies=["two"], jobs=2).counts == {"done": 4}
    assert all(cell["trials"] == 2 for cell in cells(tmp_path / "out").values())


def test_a_claim_is_one_processs_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "cell.lock"
    holder = CONTEXT.Process(target=_hold, args=(lock, tmp_path / "held"))
    holder.start()
    while not (tmp_path / "held").exists():
        assert holder.is_alive()
    with claim(lock) as mine:
        assert not mine
    assert int(lock.read_text(encoding="utf-8")) == holder.pid
    holder.kill()
    holder.join()
    with claim(lock) as mine:
        assert mine
        with claim(lock) as twice:
            assert not twice


def test_a_cell_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, seeds=[0])
    with claim(tmp_path / "out" / "locks" / "two" / "mail" / "seed-0.lock"):
        result = run(suite, tmp_path / "out", studies=["two"])
    assert result.cells == {Cell("two", "mail", 0): "missing", Cell("two", "wide", 0): "done"}


def test_where_the_disk_knows_no_locks_one_process_works_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_lock", refuse)
    worked: list[grid.Job] = []
    monkeypatch.setattr(grid, "_work", worked.append)  # in this process; several would all train the same cell
    run(write_suite(tmp_path), tmp_path / "out", studies=["two"], jobs=2)
    assert [len(job.cells) for job in worked] == [4]
    assert capsys.readouterr().err.count(f"The disk of {tmp_path / 'out'} knows no locks") == 1


def _killed(suite: Path, out: Path, name: str) -> None:
    trainer = importlib.import_module("mailnet.training.trainer")
    setattr(trainer, name, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
    run(suite, out, studies=["two"], networks=["mail"])


def _hold(lock: Path, held: Path) -> None:
    with claim(lock):
        held.touch()
        signal.pause()
