from __future__ import annotations

import numpy as np
import pytest
from small_study import small_config

from mailnet.data.config import TrainConfig
from mailnet.data.study import StudyData, load_study
from mailnet.training.plan import check_division, epoch_steps, hidden_share, plan_epoch


@pytest.fixture(scope="module", params=["paired", "unpaired"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StudyData:
    folder = tmp_path_factory.mktemp(request.param)
    return load_study(small_config(folder, regime=request.param), cache=folder / "cache")


CONFIG = TrainConfig(batch_size=10, accumulate=2, seed=3)


def known(rows: np.ndarray) -> dict[str, float]:
    """Weights of labels: each study's number stands for it."""
    return {"odd": float((rows % 2 == 1).sum()), "number": float(rows[rows >= 0].sum()), "none": 0.0}


def members(rows: np.ndarray) -> list[int]:
    """Every study that is used, once for each use."""
    return sorted(rows[rows >= 0].tolist())


def test_steps_are_even_and_complete(data: StudyData) -> None:
    steps = epoch_steps(data, CONFIG, 0)
    sizes = [len(rows) for rows in steps]
    assert max(sizes) <= 10
    assert max(sizes) - min(sizes) <= 1
    assert set(members(np.concatenate(steps))) == set(data.rows("train").tolist())
    assert not all(np.array_equal(a, b) for a, b in zip(steps, epoch_steps(data, CONFIG, 1), strict=True))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_and_parts_share_every_step(data: StudyData, processes: int) -> None:
    steps = epoch_steps(data, CONFIG, 0)
    check_division(steps, CONFIG, processes)
    plans = [
        list(plan_epoch(steps, CONFIG, 0, labels=known, start=0, rank=rank, processes=processes, apart=0.5))
        for rank in range(processes)
    ]
    used = np.concatenate([part.rows.ravel() for plan in plans for part in plan])
    assert members(used) == members(np.concatenate(steps))
    seeds = [part.seed for plan in plans for part in plan]
    assert len(set(seeds)) == len(seeds)
    for plan in plans:
        assert [part.last for part in plan] == [False, True] * len(steps)
    for task, total in (("odd", 1.0), ("number", 1.0), ("none", 0.0)):  # the mean over processes of the sum over parts
        shares = np.array([[part.shares[task] for part in plan] for plan in plans]).reshape(processes, -1, 2)
        assert shares.sum(2).mean(0) == pytest.approx(np.full(len(steps), total))


def test_going_on_takes_the_same_parts(data: StudyData) -> None:
    steps = epoch_steps(data, CONFIG, 2)
    whole = list(plan_epoch(steps, CONFIG, 2, labels=known, start=0, rank=0, processes=1, apart=0.5))
    rest = list(plan_epoch(steps, CONFIG, 2, labels=known, start=1, rank=0, processes=1, apart=0.5))
    for one, other in zip(whole[CONFIG.accumulate :], rest, strict=True):
        assert np.array_equal(one.rows, other.rows)
        assert one.seed == other.seed


def test_replays_of_a_step_are_of_the_same_parts(data: StudyData) -> None:
    steps = epoch_steps(data, CONFIG, 2)
    place = {"rank": 0, "processes": 1}
    once = list(plan_epoch(steps, CONFIG, 2, labels=known, start=1, apart=0.5, **place))
    parts = list(plan_epoch(steps, CONFIG, 2, labels=known, start=3, apart=0.5, replays=3, **place))
    assert len(parts) == 3 * len(once)
    for number, part in enumerate(parts):
        step, within = divmod(number, 3 * CONFIG.accumulate)
        same = once[step * CONFIG.accumulate + within % CONFIG.accumulate]
        assert np.array_equal(part.rows, same.rows)
        assert (part.seed, part.shares, part.last) == (same.seed, same.shares, same.last)
        assert (part.replay, part.number) == divmod(within, CONFIG.accumulate)


def test_modality_dropout_has_a_default_a_regime() -> None:
    assert hidden_share(CONFIG, "paired") == 0.1
    assert hidden_share(CONFIG, "unpaired") == 0.5
    assert hidden_share(TrainConfig(modality_dropout=0.0), "unpaired") == 0.0
