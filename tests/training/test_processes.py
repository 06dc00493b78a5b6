"""Several processes train one run: one that is killed ends the others, and the same command goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from gloo import train_together
from safetensors.numpy import load_file
from small_study import small_config
from test_resume import assert_same

from mailnet.data.config import load_config
from mailnet.errors import ConfigError
from mailnet.training.run import read_history


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Arguments of ``mailnet train``, and the run that two processes make of them without a stop."""
    folder = tmp_path_factory.mktemp("processes")
    config = small_config(folder, n=30, batch_size=6, checkpoint_minutes=0, device="auto", modality_dropout=0.6)
    assert config.train.device == "auto"  # a machine without a GPU trains together too
    arguments = [str(folder / "study.yaml"), "--cache", str(folder / "cache")]
    found = train_together([*arguments, "--out", str(folder / "whole")], folder / "logs")
    assert [code for code, _ in found] == [0, 0], found
    assert "2 process(es)" in found[0][1]
    return arguments, folder / "whole"


def test_only_the_first_speaks(study: tuple[list[str], Path]) -> None:
    log = study[1].parent / "logs"
    assert (log / "0.txt").read_text("utf-8").splitlines()[-1].startswith("Next: mailnet report")
    assert "whole" not in (log / "1.txt").read_text("utf-8")


@pytest.mark.parametrize(("dies", "moment", "count"), [
    (0, "trainer:batch_losses", 5),  # inside the second epoch, after its first checkpoint
    (1, "trainer:batch_losses", 5),
    (0, "checkpoint:write_tensors", 2),  # in the midst of the first checkpoint
    (0, "engine:load_study", 1),  # while the other waits for its turn
])  # fmt: skip
def test_one_is_killed_the_other_ends_and_both_go_on(
    study: tuple[list[str], Path], dies: int, moment: str, count: int, tmp_path: Path
) -> None:
    arguments, whole = study
    command = [*arguments, "--out", str(tmp_path / "run")]
    found = train_together(command, tmp_path / "killed", dies=dies, moment=moment, count=count)
    assert found[dies][0] == -signal.SIGKILL
    code, said = found[1 - dies]
    assert code == 2, said
    assert "another process of this training has ended" in said
    assert "Traceback" not in said
    again = train_together(command, tmp_path / "again")
    assert [code for code, _ in again] == [0, 0], again
    assert_same(tmp_path / "run", whole)


def test_a_run_of_two_goes_on_with_one(study: tuple[list[str], Path], tmp_path: Path) -> None:
    arguments, whole = study
    command = [*arguments, "--out", str(tmp_path / "run")]
    train_together(command, tmp_path / "killed", dies=1, moment="trainer:batch_losses", count=5)
    [(code, said)] = train_together(command, tmp_path / "again", processes=1)
    assert code == 0, said
    assert "began with 2 process(es) and goes on with 1" in said
    ours, theirs = read_history(tmp_path / "run"), read_history(whole)
    assert ours[0]["val"] == theirs[0]["val"]  # the first epoch was made by two
    assert ours[1]["train"]["loss"] == pytest.approx(theirs[1]["train"]["loss"], rel=0.5)
    weights = load_file(tmp_path / "run" / "bundle" / "model.safetensors")
    assert weights.keys() == load_file(whole / "bundle" / "model.safetensors").keys()


@pytest.fixture(scope="module")
def sharded(study: tuple[list[str], Path]) -> Path:
    """The run that two processes make with parts of the network each."""
    run = study[1].parent / "sharded"
    found = train_together([*study[0], "--out", str(run), "--set", "train.shard=true"], run.parent / "logs-sharded")
    assert [code for code, _ in found] == [0, 0], found
    return run


def test_two_with_parts_of_a_network_train_as_two_with_all_of_it(study: tuple[list[str], Path], sharded: Path) -> None:
    for ours, theirs in zip(read_history(sharded), read_history(study[1]), strict=True):
        assert ours["train"]["tasks"] == pytest.approx(theirs["train"]["tasks"], rel=1e-4)
        assert ours["val"]["loss"] == pytest.approx(theirs["val"]["loss"], rel=1e-4)
    weights, others = (load_file(run / "bundle" / "model.safetensors") for run in (sharded, study[1]))
    assert weights.keys() == others.keys()
    for name, values in weights.items():
        assert values == pytest.approx(others[name], abs=1e-4)


def test_a_killed_run_in_parts_goes_on_in_parts_or_whole(
    study: tuple[list[str], Path], sharded: Path, tmp_path: Path
) -> None:
    command = [*study[0], "--out", str(tmp_path / "run")]
    parts = [*command, "--set", "train.shard=true"]
    train_together(parts, tmp_path / "killed", dies=1, moment="trainer:batch_losses", count=3)
    train_together(command, tmp_path / "whole", dies=0, moment="trainer:batch_losses", count=3)
    found = train_together(parts, tmp_path / "again")
    assert [code for code, _ in found] == [0, 0], found
    assert "going on after epoch 1, batch 1" in found[0][1]
    ours, theirs = (read_history(run)[-1] for run in (tmp_path / "run", sharded))
    assert ours["val"]["loss"] == pytest.approx(theirs["val"]["loss"], rel=1e-4)
    assert ours["train"]["tasks"] == pytest.approx(theirs["train"]["tasks"], rel=1e-4)


def test_parts_are_of_plain_training(study: tuple[list[str], Path]) -> None:
    with pytest.raises(ConfigError, match="plain training"):
        load_config(study[0][0], ["train.shard=true", "train.defense.name=pgd_at"])
    assert "shard" not in load_config(study[0][0]).model_dump()["train"]
