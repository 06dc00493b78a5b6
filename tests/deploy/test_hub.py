"""Models to and from the Hub: the files of a bundle alone, known names alone, and never unasked."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from fake_hub import COMMIT, REAL, FakeHub, serve_hub

import mailnet as package
from factory import Command
from mailnet.bundle.files import FILES
from mailnet.deploy.hub import plan_push, pull
from mailnet.errors import ConfigError, RunError
from runs import MakeRun

NAME = "clinic/lesions"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    return fake


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    """A run with everything of patients that may lie in one."""
    run = make_run(n=30)
    for name in ("predictions.parquet", "seen.json", "evaluation.json", "bundle/notes.txt", "bundle/predictions.csv"):
        (run / name).write_text("patient", encoding="utf-8")
    return run


def sent(run: Path) -> dict[str, bytes]:
    return {name: (run / "bundle" / name).read_bytes() for name in ("README.md", "config.json", "model.safetensors")}


def test_only_the_files_of_the_bundle_are_sent(run: Path, hub: FakeHub, mailnet: Command, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_secret\n", encoding="utf-8")
    status, out, err = mailnet("push", run, NAME, "--private", "--yes", "--token-file", tmp_path / "token")
    assert status == 0
    assert hub.repositories[NAME] == sent(run)
    assert hub.tokens == ["hf_secret"]
    assert "hf_secret" not in out + err
    assert hub.private[NAME]
    assert out.rstrip().endswith(f"/{NAME}/commit/main")
    for name, content in sent(run).items():
        assert name in out
        assert f"{len(content):,}" in out


def test_nothing_is_sent_unasked(run: Path, hub: FakeHub, mailnet: Command) -> None:
    for arguments in ((), ("--json",)):
        status, _, err = mailnet("push", run, NAME, *arguments)
        assert status == 2
        assert "--yes" in err
    assert hub.calls == []


def test_a_branch_and_json(run: Path, hub: FakeHub, mailnet: Command) -> None:
    status, out, _ = mailnet("push", run, NAME, "--yes", "--json", "--revision", "second")
    said = json.loads(out)
    assert status == 0
    assert (said["revision"], said["private"], hub.branches) == ("second", False, ["second"])
    assert said["files"] == {name: len(content) for name, content in sent(run).items()}


def test_nothing_of_a_former_model_stays(run: Path, hub: FakeHub, mailnet: Command) -> None:
    hub.create_repo(NAME, private=False, exist_ok=True)
    hub.repositories[NAME] |= {"calibration.json": b"{}", "export.json": b"{}", ".gitattributes": b"theirs"}
    assert mailnet("push", run, NAME, "--yes")[0] == 0
    assert hub.repositories[NAME] == {**sent(run), ".gitattributes": b"theirs"}


def test_a_public_repository_is_no_place_for_what_is_private(run: Path, hub: FakeHub, mailnet: Command) -> None:
    assert mailnet("push", run, NAME, "--yes")[0] == 0
    hub.repositories[NAME].clear()
    status, _, err = mailnet("push", run, NAME, "--yes", "--private")
    assert (status, hub.repositories[NAME]) == (2, {})
    assert "already and public; nothing was sent" in err


def test_it_says_what_the_repository_is_and_not_what_was_asked(run: Path, hub: FakeHub, mailnet: Command) -> None:
    hub.create_repo(NAME, private=True, exist_ok=True)
    status, out, _ = mailnet("push", run, NAME, "--yes", "--json")
    assert (status, json.loads(out)["private"]) == (0, True)


@pytest.mark.parametrize("content", ["", "hf one", "hf_se\x00cret", "hf_sécret", "hf_a\nhf_b"])
def test_a_file_without_a_token_is_not_shown(
    content: str, run: Path, hub: FakeHub, mailnet: Command, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    status, out, err = mailnet("push", run, NAME, "--yes", "--token-file", tmp_path / "token")
    assert (status, hub.calls) == (2, [])
    assert "holds no token" in err
    assert "hf_" not in out + err


def test_the_current_folder_may_be_filled(
    run: Path, hub: FakeHub, mailnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mailnet("push", run, NAME, "--yes")[0] == 0
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert mailnet("pull", NAME, "--out", ".")[0] == 0
    assert {path.name for path in (tmp_path / "here").iterdir()} == set(sent(run))


def test_what_is_no_model_is_not_sent(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no repository"):
        plan_push(run, "lesions")
    (run / "bundle/calibration.json").symlink_to(run / "seen.json")
    with pytest.raises(RunError, match="is a link"):
        plan_push(run, NAME)
    (run / "bundle/calibration.json").unlink()
    (run / "bundle/model.safetensors").rename(run / "bundle/weights.bin")
    with pytest.raises(RunError, match="no whole model"):
        plan_push(run, NAME)
    (run / "bundle/export.json").write_text('{"file": "model.pt2"}', encoding="utf-8")
    (run / "bundle/model.pt2").write_bytes(b"")
    with pytest.raises(RunError, match=r"no whole model.*export as ONNX"):
        plan_push(run / "bundle", NAME)
    (run / "bundle/model.onnx").write_bytes(b"graph")
    assert set(plan_push(run / "bundle", NAME)[1].files) == {"README.md", "config.json", "export.json", "model.onnx"}


def test_it_comes_back_as_it_was_and_without_code(run: Path, hub: FakeHub, mailnet: Command, tmp_path: Path) -> None:
    assert mailnet("push", run, NAME, "--yes")[0] == 0
    hub.repositories[NAME] |= {"modeling.py": b"evil", "pytorch_model.bin": b"evil", "../up.json": b"evil"}
    status, out, _ = mailnet("pull", NAME, "--out", tmp_path / "model", "--json")
    said = json.loads(out)
    assert status == 0
    assert said["revision"] == COMMIT
    assert said["left"] == ["../up.json", "modeling.py", "pytorch_model.bin"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == sent(run)
    assert package.from_pretrained(tmp_path / "model").tasks == package.load(run).tasks
    assert not list(tmp_path.glob(".*"))
    assert mailnet("pull", NAME, "--out", tmp_path / "model")[0] == 2


def test_two_that_fetch_into_one_folder_at_once_leave_a_whole_model(
    run: Path, hub: FakeHub, mailnet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mailnet("push", run, NAME, "--yes")[0] == 0
    download, fetched = hub.hf_hub_download, []

    def overtaken(*arguments: Any, **keywords: Any) -> str:
        if not fetched:
            fetched.append(arguments)
            assert pull(NAME, tmp_path / "model")[0].revision == COMMIT
        return str(download(*arguments, **keywords))

    monkeypatch.setattr(hub, "hf_hub_download", overtaken)
    with pytest.raises(ConfigError, match="holds something already"):
        pull(NAME, tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == sent(run)
    assert not list(tmp_path.glob(".*"))


def test_what_is_wrong_there_leaves_nothing_here(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    hub.create_repo(NAME, private=False, exist_ok=True)
    files = hub.repositories[NAME]
    wrong = [
        ({"config.json": b"{}"}, {}, "no whole model"),
        (sent(run), {"model.safetensors": 2**40}, "at most"),
        (sent(run), {"config.json": None}, "does not say how large"),
        (sent(run), {"config.json": 5}, "not what was announced"),
        (sent(run) | {"model.safetensors": b"short"}, {}, "cannot be read"),
        (sent(run) | {"config.json": b"[]"}, {}, "cannot be understood"),
    ]
    for content, announced, message in wrong:
        files.clear()
        files |= content
        hub.announced = dict(announced)
        with pytest.raises(RunError, match=message):
            pull(NAME, tmp_path / "model")
        assert not (tmp_path / "model").exists()
        assert not list(tmp_path.glob(".*"))


def test_a_failure_of_the_hub_is_one_line(run: Path, hub: FakeHub, mailnet: Command, tmp_path: Path) -> None:
    status, _, err = mailnet("pull", NAME, "--out", tmp_path / "model")
    assert status == 2
    assert f"{NAME}: the Hub did not do it (KeyError" in err
    assert "hf auth login" in err


def test_the_real_client_fetches_known_names_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_hub(NAME, {**sent(run), "modeling.py": b"evil"}) as (address, asked):
        monkeypatch.setattr(huggingface_hub, "HfApi", partial(REAL, endpoint=address))
        parcel, left = pull(NAME, tmp_path / "model", token="none")
    assert (parcel.revision, left) == (COMMIT, ["modeling.py"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == sent(run)
    assert {path.rpartition("/")[2] for path in asked if "/resolve/" in path} == set(sent(run)) <= set(FILES)


def test_from_pretrained_downloads_nothing(hub: FakeHub) -> None:
    with pytest.raises(RunError, match="mailnet pull clinic/lesions --out FOLDER"):
        package.from_pretrained(NAME)
    assert hub.tokens == []
