"""Several processes attack the batches of one measurement, and one of them, or another, writes its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from linear_run import write_linear_run
from torch import Tensor

from factory import Command
from mailnet.bundle.share import Share
from mailnet.errors import RunError
from mailnet.robustness import kept
from mailnet.robustness.attack import shared
from mailnet.robustness.attack.measure import measure_robustness
from mailnet.robustness.attack.state import FOLDER, State

OPTIONS: dict[str, Any] = {
    "suite": "quick", "eps": [0.5 / 255], "studies": 9, "batch_size": 3, "tasks": ["stage"],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_run(tmp_path_factory.mktemp("shared"), studies=16)


def attacked(run: Path, out: Path, **options: Any) -> dict[str, Any]:
    return measure_robustness(run, out=out, cache=run.parent / "cache", **{**OPTIONS, **options})


def timeless(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card without when and how long."""
    for cell in card["cells"]:
        for step in [cell, *cell["standing"]["after"]]:
            step.pop("seconds", None)
    return {key: value for key, value in card.items() if key not in ("created", "seconds")}


def test_shares_attack_batches_and_the_card_is_that_of_one_process(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    ends = [attacked(run, tmp_path, share=Share(index, 2), say=said.append) for index in (1, 0, 1)]
    expected = {"suites": ["quick"], "batches": 3, "card": None}
    assert ends == [
        {"share": "1/2", "studies": 3, "there": 1, "made": 1, "ready": False, **expected},
        {"share": "0/2", "studies": 6, "there": 3, "made": 2, "ready": True, **expected},
        {"share": "1/2", "studies": 3, "there": 3, "made": 0, "ready": True, **expected},
    ]
    what = "suite quick, linf, 0.5/255, 9 studies"
    # Nothing was stopped: a share that finds another's work goes on with nothing.
    assert said == [
        f"Share 1/2: {what}; 0 of its 1 batches are done",
        f"Share 0/2: {what}; 0 of its 2 batches are done",
        f"Share 1/2: {what}; 1 of its 1 batches are done",
    ]
    with pytest.MonkeyPatch.context() as patch:  # nothing is left to be attacked
        patch.setattr(shared, "attack_batch", None)
        card = attacked(run, tmp_path, say=said.append)
    assert said[-1] == f"Going on with the measurement that was begun: {what}; 3 of 3 batches are done"
    assert timeless(card) == timeless(attacked(run, tmp_path / "whole"))
    late = attacked(run, tmp_path, share=Share(0, 2))
    assert (late["made"], late["there"], late["card"]) == (0, 3, str(tmp_path / "robustness.json"))
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize("at", ["within a batch", "after the last batch"])
def test_the_card_may_be_written_while_a_share_is_at_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    within, cards = at == "within a batch", list[dict[str, Any]]()
    name = "keep" if within else "finish"
    method = getattr(State, name)

    def overtaken(state: State, *arguments: Any) -> None:
        first = state.guest and not cards
        if first and within:
            cards.append(attacked(run, tmp_path))
        method(state, *arguments)
        if first and not within:  # the share's own last batch is kept before the other command begins
            cards.append(attacked(run, tmp_path))

    monkeypatch.setattr(State, name, overtaken)
    end = attacked(run, tmp_path, share=Share(1, 2))
    assert (end["there"], end["ready"], end["card"]) == (3, True, str(tmp_path / "robustness.json"))
    assert end["made"] == (0 if within else 1)
    assert not (tmp_path / FOLDER).exists()  # nothing is left behind that nobody would go on with
    assert json.loads((tmp_path / "robustness.json").read_text())["fingerprint"] == cards[0]["fingerprint"]
    assert timeless(cards[0]) == timeless(attacked(run, tmp_path / "whole"))


def test_a_share_whose_state_is_deleted_says_so(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = State.keep_tensors

    def deleted(state: State, name: str, tensors: Mapping[str, Tensor]) -> None:
        state.remove()
        keep(state, name, tensors)

    monkeypatch.setattr(State, "keep_tensors", deleted)
    with pytest.raises(RunError, match=r"removed while it was at work.*again, unless"):
        attacked(run, tmp_path, share=Share(0, 2))
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize("guest", [True, False])
def test_a_folder_that_is_removed_under_a_file_ends_a_share_and_fails_any_other(
    guest: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path, {"a": 1}, guest=guest)

    def removed(path: Path, _: Mapping[str, Tensor]) -> None:
        State.remove(state)
        raise RunError("cannot be written (No such file or directory)", file=path)

    monkeypatch.setattr(kept, "write_tensors", removed)
    with pytest.raises(RunError, match="removed while it was at work" if guest else "cannot be written"):
        state.finish(0, {})


def test_the_command_says_what_it_did_and_what_writes_the_card(
    mailnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILNET_CACHE", str(tmp_path / "cache"))
    run = write_linear_run(tmp_path / "my run", studies=12)
    attack = ("attack", run, "--suite", "quick", "--eps", "1/255", "--task", "stage", "--batch-size", 6)
    status, out, _ = mailnet(*attack, "--share", "0/2", "--json")
    first = json.loads(out)
    assert (status, first["share"], first["ready"], first["there"]) == (0, "0/2", False, 1)
    written = f"mailnet attack '{run}' --suite quick --eps 1/255 --task stage --batch-size 6"
    assert first["next"] == written
    status, out, err = mailnet(*attack, "--share=1/2")
    assert (status, out) == (0, "")
    assert "Share 1/2: 6 studies, 1 batch attacked now; 2 of all 2 batches are done" in err
    assert err.splitlines()[-1] == f"This writes the result card: {written}"
    assert mailnet(*attack)[0] == 0
    status, out, err = mailnet(*attack, "--share", "1/2", "--json")
    assert (json.loads(out)["card"], json.loads(out)["next"]) == (str(run / "robustness.json"), None)
    assert "The result card is written" in mailnet(*attack, "--share", "1/2")[2]
