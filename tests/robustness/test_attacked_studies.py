"""A measurement whose studies are not as usual: few labels, few images, a source of noise that gives none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from linear_run import LinearOfTests, best_attack, write_linear_run
from torch import Tensor

from mailnet.data.config import load_config
from mailnet.data.study import StudyData
from mailnet.errors import ConfigError
from mailnet.report.robustness import render_robustness
from mailnet.robustness.attack.measure import measure_robustness
from mailnet.robustness.attack.studies import choose_rows, one_of_each_kind
from mailnet.specs import TaskSpec


def measured(run: Path, **options: Any) -> dict[str, Any]:
    return measure_robustness(run, cache=run.parent / "cache", suite="quick", eps=[1.5 / 255], repeats=2, **options)


def studies(rare: int) -> StudyData:
    """Twenty studies with a label of one task, of which the last few also have one of another."""
    known, few = np.zeros(20, np.int64), np.full(20, -1)
    few[-rare:] = 1
    found = SimpleNamespace(
        tasks={name: TaskSpec(name, ("no", "yes")) for name in ("common", "rare")},
        labels={"common": known, "rare": few},
        present={"ct": np.ones(20, bool), "mri": np.arange(20) < 10},
        modalities={"ct": None, "mri": None},
    )
    return cast("StudyData", found)


def test_a_task_of_which_no_label_was_drawn_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="none of the 3 studies that were drawn has a label of it") as raised:
        choose_rows(studies(1), ["common", "rare"], ["ct"], 3, 1, "test")
    assert raised.value.task == "rare"
    assert len(choose_rows(studies(1), ["common", "rare"], ["ct"], None, 0, "test")) == 20
    assert len(choose_rows(studies(18), ["common", "rare"], ["ct"], 3, 1, "test")) == 3


def test_a_kind_of_studies_is_seen_by_its_first_batch_not_by_what_was_left_over() -> None:
    batches = [np.arange(0, 8), np.arange(8, 10), np.arange(10, 18), np.arange(18, 20)]
    assert sorted(len(part) for part in one_of_each_kind(studies(1), batches)) == [8, 8]


def test_draws_are_chosen_on_studies_that_the_attacker_can_change(tmp_path: Path) -> None:
    run = write_linear_run(tmp_path, lacking=20, noise=1.0)
    card = measured(run, modalities=["mri"], tasks=["stage"], max_draws=2, modes=False)
    assert card["alignment"]["studies"] == card["cells"][0]["n_held"] == 4


def test_the_attacker_whose_gradients_agree_least_decides_how_many_draws(tmp_path: Path) -> None:
    run = write_linear_run(tmp_path, noise=4.0)
    both, stage, grade = (measured(run, tasks=tasks, max_draws=2, modes=False)["alignment"]["cosine"]
                          for tasks in (["stage", "grade"], ["stage"], ["grade"]))  # fmt: skip
    assert abs(stage - grade) > 0.02
    assert both == pytest.approx(min(stage, grade), abs=0.02)


def test_a_source_that_gives_no_noise_is_met_and_shown_as_a_network_without(tmp_path: Path) -> None:
    run = write_linear_run(tmp_path, noise=1e-30)
    card = measured(run, tasks=["stage"])
    assert not card["random"]
    assert [cell["noise"] for cell in card["cells"]] == [None]
    assert "1.5/255" in str(render_robustness(run, load_config(run / "study.yaml")))


def test_numbers_from_no_source_of_ours_are_drawn_anew_for_the_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_linear_run(tmp_path)
    plain = LinearOfTests._once

    def noisy(self: LinearOfTests, inputs: dict[str, Tensor], present: dict[str, Tensor] | None) -> dict[str, Tensor]:
        return {task: logits + torch.randn(logits.shape) for task, logits in plain(self, inputs, present).items()}

    monkeypatch.setattr(LinearOfTests, "_once", noisy)
    card, again = (measured(run, tasks=["stage"], max_draws=1, out=tmp_path / name) for name in ("one", "two"))
    assert card["random"]
    figures = card["cells"][0]["figures"]["stage"]
    assert figures["ways"]["worst"]["clean"]["accuracy"]["value"] < figures["clean"]["accuracy"]["value"]
    assert figures == again["cells"][0]["figures"]["stage"]


def test_gradients_pass_through_clips_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_linear_run(tmp_path)
    exact = best_attack(run, "grade", {"ct": 1.5 / 255, "mri": 1.5 / 255}).mean()
    plain = LinearOfTests._once

    def clipped(self: LinearOfTests, inputs: dict[str, Tensor], present: dict[str, Tensor] | None) -> dict[str, Tensor]:
        found = plain(self, inputs, present)
        margin = (found["grade"][:, 1] - found["grade"][:, 0]).clamp(-0.01, 0.01)  # the same answers, no gradient
        return found | {"grade": torch.stack([-margin, margin], 1)}

    monkeypatch.setattr(LinearOfTests, "_once", clipped)
    flat, through = (measured(run, tasks=["grade"], straight_through=on) for on in (False, True))
    left = [card["cells"][0]["figures"]["grade"]["robust"]["accuracy"]["value"] for card in (flat, through)]
    assert left[0] > left[1] == pytest.approx(exact, abs=1e-6)
    assert [card["threat"]["straight_through"] for card in (flat, through)] == [False, True]
    audit = measured(run, tasks=["grade"], straight_through=True, audit=True)["audit"]["grade"]
    (check,) = (check for check in audit["checks"] if check["name"] == "clips_hide_nothing")
    assert check["passed"] is None
    assert "as was asked for" in check["meaning"]
