"""A measurement whose studies are not as usual: few labels, few images, a source of noise that gives none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from linear_run import write_linear_run

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
