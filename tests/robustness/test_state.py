"""A measurement that is killed again and again ends where one that is left alone does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from linear_run import SECRET, write_linear_run

from mailnet.errors import RunError
from mailnet.robustness.attack.measure import measure_robustness
from mailnet.robustness.attack.run_suite import Progress
from mailnet.robustness.attack.state import FOLDER, State

OPTIONS: dict[str, Any] = {
    "suite": "quick", "eps": [0.5 / 255], "studies": 9, "batch_size": 6, "max_draws": 3, "repeats": 3,
    "tasks": ["stage"], "each_modality": True, "modes": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_run(tmp_path_factory.mktemp("killed"), noise=0.3, studies=16)


def measured(run: Path, out: Path, **options: Any) -> dict[str, Any]:
    card = measure_robustness(run, out=out, cache=run.parent / "cache", **{**OPTIONS, **options})
    for cell in card["cells"]:
        for step in [cell, *cell["standing"]["after"]]:
            del step["seconds"]
    return {key: value for key, value in card.items() if key not in ("created", "seconds")}


def test_killed_after_every_attack_it_ends_the_same(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(run, tmp_path / "whole")
    keep, kept = State.keep, []

    def keep_and_die(state: State, number: int, cell: int, progress: Progress) -> None:
        keep(state, number, cell, progress)
        kept.append((number, cell, progress.done))
        raise KeyboardInterrupt

    said: list[str] = []
    card = None
    monkeypatch.setattr(State, "keep", keep_and_die)
    while card is None:
        try:
            card = measured(run, tmp_path / "killed", say=said.append)
        except KeyboardInterrupt:
            written = [*(tmp_path / "killed" / FOLDER).glob("*/*")]
            assert written
            assert not any(SECRET.encode() in path.read_bytes() or SECRET in path.name for path in written)
    assert card == whole
    assert len(kept) == len(set(kept)) == 2 * 3 * 2  # batches, cells, attacks: none is made twice
    begun = "Going on with the measurement that was begun: suite quick, linf, 0.5/255, 9 studies; "
    assert set(said) == {f"{begun}{done} of 2 batches are done, the others are attacked now" for done in (0, 1)}
    assert not (tmp_path / "killed" / FOLDER).exists()


def test_measurements_of_several_settings_are_each_gone_on_with(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(state: State, number: int, found: object) -> None:
        raise KeyboardInterrupt

    small = {"eps": [0.5 / 255], "each_modality": False, "studies": 6}
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(State, "finish", die)
        for seed in (0, 1):
            with pytest.raises(KeyboardInterrupt):
                measured(run, tmp_path, **small, seed=seed, say=said.append)
    assert len(said) == 1
    assert "1 of them, can be gone on with too; if they are no longer wanted, delete" in said[0]
    first = measured(run, tmp_path, **small, say=said.append)
    assert said[1].startswith("Going on with the measurement that was begun: suite quick")
    assert first == measured(run, tmp_path / "alone", **small)
    assert len([*(tmp_path / FOLDER).iterdir()]) == 1
    second = measured(run, tmp_path, **small, seed=1, say=said.append)
    assert (second["seed"], len(said), "Going on" in said[3]) == (1, 4, True)
    assert not (tmp_path / FOLDER).exists()


def test_a_damaged_state_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    state = State(tmp_path, {"seed": 0})
    assert (state.batch(0), state.resumed) == (None, False)
    (state.folder / "batch-00000.safetensors").write_bytes(b"damaged")
    again = State(tmp_path, {"seed": 0})
    assert again.resumed
    with pytest.raises(RunError, match="Delete the folder"):
        again.batch(0)
    other = State(tmp_path, {"seed": 1})
    assert (other.resumed, other.batch(0)) == (False, None)


def test_a_finished_measurement_is_not_made_again(tmp_path: Path) -> None:
    run = write_linear_run(tmp_path / "run", studies=12)
    said: list[str] = []
    first = measure_robustness(run, suite="quick", eps=[1 / 255], say=said.append)
    assert not said
    again = measure_robustness(run, suite="quick", eps=[1 / 255], say=said.append)
    assert again == first
    assert "Measured before" in said[0]
    assert not (run / "robustness.progress").exists()
    other = measure_robustness(run, suite="quick", eps=[2 / 255], say=said.append)
    assert other["fingerprint"] != first["fingerprint"]
    assert len(said) == 1
