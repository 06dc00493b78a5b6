"""The commands as a user gives them; each test is one sitting at the terminal."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from factory import Command, read_table, write_study, write_table
from mailnet import __version__
from mailnet.cli.starting import loading


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILNET_CACHE", str(tmp_path / "cache"))


def test_from_a_table_to_a_report(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", train={"epochs": 1})
    run = tmp_path / "run"

    status, out, _ = mailnet("check", study)
    assert (status, "0 problems, 0 leaks" in out) == (0, True)

    status, out, _ = mailnet("train", study, "--out", run, "--set", "evaluation.bootstrap=20", "--json")
    assert status == 0
    assert json.loads(out)["run"] == str(run)
    status, _, err = mailnet("train", study, "--out", run, "--set", "evaluation.bootstrap=20")
    assert (status, "finished before; nothing was trained" in err) == (0, True)

    status, out, _ = mailnet("report", run)
    assert (status, out.strip()) == (0, str(run / "report.html"))
    assert (run / "evaluation.json").is_file()

    status, out, _ = mailnet("evaluate", run, "--split", "val", "--out", tmp_path / "val")
    assert status == 0
    for words in ("finding (val studies)", "all modalities", "ct alone", "without clinical", "balanced accuracy"):
        assert words in out

    status, out, _ = mailnet("predict", run, study.parent / "studies.csv")
    assert status == 0
    assert out.startswith("id,finding,finding:none")
    status, _, err = mailnet("predict", run, study.parent / "studies.csv", "--out", tmp_path / "p.parquet")
    assert (status, len(pd.read_parquet(tmp_path / "p.parquet")), "60 studies" in err) == (0, 60, True)

    status, out, _ = mailnet("info", run, "--json")
    assert (status, json.loads(out)["tasks"]["grade"]["classes"]) == (0, ["low", "high"])


def test_info_of_the_installation(mailnet: Command, tmp_path: Path) -> None:
    status, out, _ = mailnet("info", "--json")
    assert (status, json.loads(out)["cache"]) == (0, {"folder": str(tmp_path / "cache"), "bytes": 0})
    assert "mail" in json.loads(out)["models"]


def test_demo_on_a_study_of_ones_own(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", train={"epochs": 1})
    options = ("--study", study, "--out", tmp_path / "demo", "--set", "evaluation.bootstrap=0")
    status, out, _ = mailnet("demo", *options)
    assert status == 0
    assert f"Report: {tmp_path / 'demo' / 'run' / 'report.html'}" in out


def test_demo_is_of_the_phantom_or_of_a_study(mailnet: Command, tmp_path: Path) -> None:
    status, _, err = mailnet("demo", "--study", tmp_path / "study.yaml", "--studies", 60, "--out", tmp_path / "demo")
    assert (status, "Give one of them" in err) == (2, True)


def test_init_writes_what_check_accepts(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    status, out, _ = mailnet("init", study.parent / "studies.csv", "--out", tmp_path / "new")
    assert status == 0
    assert mailnet("check", out.strip())[0] == 0


def test_check_lists_every_problem_at_once(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    rows = read_table(study.parent / "studies.csv")
    (study.parent / rows[0]["ct"]).unlink()
    (study.parent / rows[1]["photo"]).write_bytes(b"\x89PNG")
    rows[2]["grade"] = "lov"
    write_table(study.parent / "studies.csv", rows)
    status, out, _ = mailnet("check", study)
    assert status == 2
    for words in ("ct000.png", "photo001.png", "Did you mean 'low'?", "3 problems"):
        assert words in out
    status, out, _ = mailnet("check", study, "--json")
    assert (status, len(json.loads(out)["problems"])) == (2, 3)


def test_check_says_what_leaks(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", train={"epochs": 1})
    table, run = study.parent / "studies.csv", tmp_path / "run"
    (study.parent / "images" / "ct018.png").write_bytes((study.parent / "images" / "ct000.png").read_bytes())
    status, out, _ = mailnet("check", study)
    assert status == 1
    assert "Leak: modality ct: the very same picture is in two splits" in out
    assert "s000 (train) and s018 (val)" in out
    assert "0 problems, 1 leak" in out
    assert mailnet("train", study, "--out", run, "--set", "evaluation.bootstrap=0")[0] == 0
    status, out, err = mailnet("check", study, "--out", run / "check.json", "--json")
    assert (status, json.loads(out)["leaks"][0]["studies"], "check.json" in err) == (1, [["s000", "s018"]], True)
    assert "s018" not in (run / "check.json").read_text()
    assert mailnet("report", run)[0] == 0
    assert "the very same picture is in two splits" in (run / "report.html").read_text()
    assert mailnet("check", study, "--out", tmp_path / "page.html")[0] == 1
    assert "row 19 (val)" in (tmp_path / "page.html").read_text()
    assert mailnet("check", study, "--out", tmp_path / "page.pdf")[0] == 2
    rows = read_table(table)
    rows[18]["ct"] = "images/ct024.png"
    write_table(table, rows)
    assert mailnet("check", study)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "none.yaml"], "none.yaml"),
        (["evaluate", "none"], "none"),
        (["predict", "none", "none.csv"], "is no folder"),
        (["report", "none"], "none"),
        (["info", "none"], "neither a run"),
        (["init", "none.csv"], "none.csv"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_status_2(
    mailnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = mailnet(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("Error: ")
    assert words in err
    assert "Traceback" not in err
    status, out, _ = mailnet(*arguments, "--json")
    assert (status, words in json.loads(out)["error"].get("message", "") + str(json.loads(out))) == (2, True)
    assert "Traceback" in mailnet(*arguments, "--debug")[2]


def test_a_wrong_key_names_the_right_one(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    status, _, err = mailnet("train", study, "--set", "train.epoch=3")
    assert (status, "did you mean 'epochs'" in err) == (2, True)


def test_skip_bad_trains_without_the_bad_study(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", train={"epochs": 1})
    (study.parent / read_table(study.parent / "studies.csv")[0]["ct"]).write_bytes(b"no image")
    run = tmp_path / "run"
    status, _, err = mailnet("train", study, "--out", run)
    assert (status, "study s000, modality ct" in err) == (2, True)
    status, _, err = mailnet("train", study, "--out", run, "--skip-bad")
    assert (status, "1 studies that cannot be read or have no modality were left out" in err) == (0, True)
    (bad,) = json.loads((run / "data.json").read_text())["bad"]
    assert (bad["row"], bad["modality"], "study" in bad) == (1, "ct", False)


def test_skip_bad_evaluates_and_predicts_without_the_bad_study(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", n=30, train={"epochs": 1}, evaluation={"bootstrap": 0})
    table, run = study.parent / "studies.csv", tmp_path / "run"
    (study.parent / read_table(table)[24]["ct"]).write_bytes(b"no image")
    assert "report" in mailnet("train", study, "--out", run, "--skip-bad")[2].splitlines()[-1]
    assert mailnet("report", run)[0] == 2
    status, _, err = mailnet("report", run, "--skip-bad")
    assert (status, "1 studies that cannot be read or have no modality were left out" in err) == (0, True)
    assert "row 25" in (run / "report.html").read_text()
    status, out, err = mailnet("predict", run, study, "--skip-bad", "--json")
    found = json.loads(out)
    assert (status, len(found["predictions"]), found["bad"][0]["study"]) == (0, 29, "s024")
    assert "Left out: study s024" in err


def test_ctrl_c_says_how_to_go_on(mailnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mailnet.data.config.load_config", interrupt)
    status, _, err = mailnet("check", tmp_path / "study.yaml")
    assert (status, "goes on from what it has kept" in err) == (130, True)


def test_help_and_version_load_nothing() -> None:
    program = (
        "import sys\nfrom mailnet.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert "predict" in done.stdout


def test_predicting_loads_no_more_than_it_needs(mailnet: Command, tmp_path: Path) -> None:
    study, run = write_study(tmp_path / "study", n=30, train={"epochs": 1}), tmp_path / "run"
    assert mailnet("train", study, "--out", run)[0] == 0
    unneeded = ["accelerate", "sklearn", "scipy", "sympy", "matplotlib", "rich", "jinja2", "monai", "captum"]
    unneeded += ["onnxruntime", "pydicom", "nibabel", "tensorboard", "torch._dynamo", "torch.onnx"]
    program = (
        "import gc, sys\nfrom mailnet.cli import main\n"
        f"try: main(['predict', {str(run)!r}, {str(study)!r}, '--json'])\nexcept SystemExit: pass\n"
        f"print([name for name in {unneeded!r} if name in sys.modules])\n"
        "print('torch' in sys.modules, gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "True True"]


@pytest.mark.parametrize("searching", [True, False])
def test_nothing_is_searched_for_garbage_while_it_loads(searching: bool) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if searching else gc.disable()
        with loading():
            assert not gc.isenabled()
        assert gc.isenabled() == searching
    finally:
        gc.enable() if before else gc.disable()


def test_a_command_ends_without_a_search_for_garbage() -> None:
    program = (
        "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count() > 0, len(gc.get_objects(2))))\n"
        "from mailnet.cli import main\nmain(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True 0"


def test_version(mailnet: Command) -> None:
    assert mailnet("--version")[:2] == (0, f"{__version__}\n")


def test_predict_warns_of_a_modality_that_no_study_has(mailnet: Command, tmp_path: Path) -> None:
    study, run, new = write_study(tmp_path / "study", train={"epochs": 1}), tmp_path / "run", tmp_path / "study/new.csv"
    assert mailnet("train", study, "--out", run)[0] == 0
    pd.read_csv(study.parent / "studies.csv").rename(columns={"ct": "CT scan"}).to_csv(new, index=False)
    status, _, err = mailnet("predict", run, new)
    assert (status, "no study has ct" in err) == (0, True)
    assert "no study has" not in mailnet("predict", run, new, "--without", "ct")[2]
    assert "--json" in mailnet("predict", run, new, "--out", tmp_path / "new.json")[2]
