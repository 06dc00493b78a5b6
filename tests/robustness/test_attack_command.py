"""``mailnet attack`` as a user gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from linear_run import best_attack, write_linear_run

from factory import Command, write_study
from mailnet.cli.attack import notes, read_levels, read_tables
from mailnet.errors import ConfigError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILNET_CACHE", str(tmp_path / "cache"))


def test_a_trained_network_is_attacked_and_reported(mailnet: Command, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", n=60, size=16, train={"epochs": 1}, evaluation={"bootstrap": 20})
    run = tmp_path / "run"
    assert mailnet("train", study, "--out", run)[0] == 0
    status, out, err = mailnet("attack", run, "--suite", "quick", "--eps", "1/255", "--eps", "4/255", "--studies", 3,
                               "--task", "finding")  # fmt: skip
    assert status == 0, err
    for words in ("finding (test studies, linf)", "1/255", "4/255", "all modalities", "robust accuracy"):  # fmt: skip
        assert words in out, words
    assert "UNRELIABLE: the suite 'quick' is for a first look" in err
    card = json.loads((run / "robustness.json").read_text())
    first, second = (cell["figures"]["finding"]["robust"]["accuracy"]["value"] for cell in card["cells"])
    assert first >= second
    status, out, err = mailnet("report", run)
    assert status == 0, err
    page = Path(out.strip()).read_text()
    assert 'id="robustness"' in page
    assert "4/255" in page


def test_all_options_reach_the_measurement(mailnet: Command, tmp_path: Path) -> None:
    run = write_linear_run(tmp_path / "linear", studies=12)
    status, out, err = mailnet(
        "attack", run, "--suite", "quick", "--eps", "ct=1/255", "--eps", "mri=0.5/255", "--task", "grade",
        "--table", "clinic=0.4", "--straight-through", "--seed", 3, "--batch-size", 5, "--json",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 0, err
    card = json.loads(out)
    assert json.loads((tmp_path / "out" / "robustness.json").read_text()) == card
    (cell,) = card["cells"]
    assert cell["eps"] == pytest.approx({"ct": 1 / 255, "mri": 0.5 / 255, "clinic": 0.4})
    assert (card["seed"], list(card["tasks"]), card["threat"]["straight_through"]) == (3, ["grade"], True)
    exact = best_attack(run, "grade", cell["eps"]).mean()
    assert cell["figures"]["grade"]["robust"]["accuracy"]["value"] == pytest.approx(exact, abs=1e-6)
    assert not (run / "robustness.json").exists()


def test_a_search_in_low_precision_is_judged_in_full(mailnet: Command, tmp_path: Path) -> None:
    run = write_linear_run(tmp_path / "linear", studies=12)
    given = ("attack", run, "--suite", "quick", "--eps", "1/255", "--task", "grade", "--json")
    status, out, err = mailnet(*given, "--precision", "bf16")
    assert status == 0, err
    card = json.loads(out)
    (cell,) = card["cells"]
    exact = best_attack(run, "grade", cell["eps"]).mean()
    assert cell["figures"]["grade"]["robust"]["accuracy"]["value"] >= exact - 1e-6
    assert card["precision"] == "bf16"
    status, out, err = mailnet(*given[:-1], "--precision", "bf16")
    assert status == 0, err
    assert "The search was in bfloat16" in out + err
    status, out, err = mailnet(*given)
    assert status == 0, err
    assert json.loads(out)["precision"] == "fp32"  # and not the card that is there
    status, _, err = mailnet(*given, "--precision", "fp16")
    assert status == 2
    assert "precision must be fp32 or bf16, got 'fp16'" in err


def test_an_audit_is_on_the_card(mailnet: Command, tmp_path: Path) -> None:
    run = write_linear_run(tmp_path / "linear", studies=24)
    status, _, err = mailnet("attack", run, "--suite", "quick", "--eps", "1/255", "--task", "grade", "--audit",
                             "--source", write_linear_run(tmp_path / "other", studies=4))  # fmt: skip
    assert status == 0, err
    card = json.loads((run / "robustness.json").read_text())
    audit = card["audit"]["grade"]
    failed = [check["name"] for check in audit["checks"] if check["passed"] is False]
    assert audit["failed"] == failed
    assert [source["name"] for source in card["sources"]] == [card["model"]["name"]]
    carried = next(check for check in audit["checks"] if check["name"] == "white_box_beats_transfer")
    assert "other_networks" in str(carried["figure"])
    assert any("the audit of grade failed" in reason for reason in card["reasons"]) == bool(failed)
    assert "Audit of grade:" in err
    few = write_linear_run(tmp_path / "few", studies=5)
    status, _, err = mailnet("attack", few, "--suite", "quick", "--eps", "1/255", "--task", "grade", "--audit")
    assert status == 0, err
    assert "Audit of grade: not possible, an audit needs 10 studies" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--eps", "four"), "'four' is no radius"),
        (("--eps", "4/0"), "'4/0' is no radius"),
        (("--eps", "4/255", "--eps", "ct=1/255"), "with a modality's name and without"),
        (("--eps", "4"), "more than 1, by which two images"),
        (("--table", "clinic"), "--table clinic has no radius"),
        (("--table", "ct=0.1"), "modality ct: is no table"),
        (("--modality", "mri", "--eps", "ct=1/255"), "a radius is given of ct, but only mri may be changed"),
        (("--modality", "pet"), "no modality 'pet'"),
        (("--suite", "rand"), "is for random networks"),
    ],
)
def test_bad_input_is_one_clear_error(mailnet: Command, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    run = write_linear_run(tmp_path / "linear", studies=4)
    status, _, err = mailnet("attack", run, *arguments)
    assert status == 2
    assert words in err
    assert "Traceback" not in err
    assert not (run / "robustness.json").exists()


def test_levels_and_tables_are_read() -> None:
    assert read_levels([]) is None
    assert read_levels(["4/255", "0.5"]) == [4 / 255, 0.5]
    assert read_levels(["ct=0.1", "ct=0.2", "mri=0.3"]) == [{"ct": 0.1, "mri": 0.3}, {"ct": 0.2, "mri": 0.3}]
    assert read_tables(["clinic=1/2"]) == {"clinic": 0.5}
    with pytest.raises(ConfigError, match="2 and 3 levels"):
        read_levels(["ct=0.1", "ct=0.2", "mri=0.1", "mri=0.2", "mri=0.3"])


NOTHING: dict[str, Any] = {"audit": None, "reasons": [], "threat": {"tables": {}}}


def test_all_tasks_at_once_have_a_table_of_their_own(mailnet: Command, tmp_path: Path) -> None:
    run = write_linear_run(tmp_path / "linear", studies=12)
    status, out, err = mailnet(
        "attack", run, "--suite", "quick", "--eps", "1/255", "--together", "--table", "clinic=0.1"
    )
    assert status == 0, err
    assert "all tasks at once (test studies, linf)" in out
    assert "any answer right" in out
    assert "clinic by up to 0.1 standard deviations" in err
    card = json.loads((run / "robustness.json").read_text())
    alone, both = [cell for cell in card["cells"] if len(cell["tasks"]) == 1], card["cells"][-1]
    assert [cell["at_once"] for cell in alone] == [None, None]
    found = both["at_once"]
    assert found["robust"]["accuracy"]["low"] <= found["robust"]["accuracy"]["value"]
    assert found["robust"]["accuracy"]["value"] == pytest.approx(both["standing"]["after"][-1]["standing"])
    assert found["clean"]["accuracy"]["value"] == pytest.approx(both["standing"]["start"])
    for task in card["tasks"]:  # who is after all must break more than who is after one
        assert found["robust"]["accuracy"]["value"] >= both["figures"][task]["robust"]["accuracy"]["value"]


def test_too_few_draws_are_said() -> None:
    found: dict[str, Any] = {"cosine": 0.03, "draws": 50, "reached": 0.78, "wanted": 138, "aim": 0.9, "capped": True}
    (line,) = notes(NOTHING | {"alignment": found})
    assert "The aim takes 138 draws" in line
    (line,) = notes(NOTHING | {"alignment": found | {"capped": False}})
    assert "The aim takes" not in line
