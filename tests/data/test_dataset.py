from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mailnet.data.config import StudyConfig
from mailnet.data.dataset import StudyDataset, epoch_rows, iterate
from mailnet.data.preprocess import to_unit
from mailnet.data.study import load_study

Make = Callable[..., StudyConfig]


def test_a_batch_holds_the_rows_that_were_asked(study: Make) -> None:
    data = load_study(study(lambda rows: rows[5].update(ct="", grade="")))
    batch = StudyDataset(data).batch(np.array([7, 5, 2]))
    assert batch.ids == ["s007", "s005", "s002"]
    assert batch.inputs["photo"].dtype == torch.float32
    np.testing.assert_array_equal(batch.inputs["photo"], to_unit(data.arrays["photo"][[7, 5, 2]]))
    assert batch.present["ct"].tolist() == [True, False, True]
    assert batch.inputs["ct"][1].abs().max() == 0
    assert batch.targets["finding"].tolist() == [1, 2, 2]
    assert batch.targets["grade"].tolist() == [0, -1, 0]
    assert len(batch) == 3


def test_a_modality_that_nobody_has_is_left_out(study: Make) -> None:
    data = load_study(study(regime="unpaired"))
    batch = StudyDataset(data).batch(np.array([0, 1]))
    assert list(batch.inputs) == ["ct"]
    assert batch.present["photo"].tolist() == [False, False]
    assert batch.targets["grade"].tolist() == [-1, -1]


def test_deep_images_are_in_zero_to_one(study: Make) -> None:
    data = load_study(study(modalities={"ct": {"range": [0, 300]}}))
    assert data.arrays["ct"].dtype == np.uint16
    seen = StudyDataset(data).batch(np.arange(8)).inputs["ct"]
    np.testing.assert_array_equal(seen, to_unit(data.arrays["ct"][:8]))


def test_companions_bring_their_modality_and_their_tasks(study: Make) -> None:
    data = load_study(study(regime="unpaired"))
    ct, photo, clinical = (np.flatnonzero(data.present[name]) for name in data.modalities)
    rows = np.array([[ct[4], photo[3], clinical[0]], [ct[1], -1, clinical[4]], [-1, photo[0], -1]])
    batch = StudyDataset(data).batch(rows)
    np.testing.assert_array_equal(batch.inputs["ct"][0], to_unit(data.arrays["ct"][ct[4]]))
    np.testing.assert_array_equal(batch.inputs["photo"][0], to_unit(data.arrays["photo"][photo[3]]))
    assert batch.inputs["photo"][1].abs().max() == 0
    assert batch.present["photo"].tolist() == [True, False, True]
    assert batch.targets["finding"].tolist() == [1, 1, -1]
    assert batch.targets["grade"].tolist() == [1, -1, 0]
    assert batch.targets["risk"].tolist() == [0, 1, -1]
    assert batch.ids == ["ct004 + photo003 + cl000", "ct001 + cl004", "photo000"]
    with pytest.raises(ValueError, match=r"\(B, 3\)"):
        StudyDataset(data).batch(rows[:, :2])


def test_a_paired_epoch_is_a_shuffle_of_seed_and_epoch(study: Make) -> None:
    data = load_study(study())
    first = epoch_rows(data, "train", seed=0, epoch=0)
    assert sorted(first) == data.rows("train").tolist()
    assert first.tolist() != data.rows("train").tolist()
    assert epoch_rows(data, "train", seed=0, epoch=0).tolist() == first.tolist()
    assert epoch_rows(data, "train", seed=0, epoch=1).tolist() != first.tolist()
    assert epoch_rows(data, "train", seed=1, epoch=0).tolist() != first.tolist()


def test_balanced_sampling_draws_classes_evenly(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for i, row in enumerate(rows):
            row["grade"] = "high" if i % 6 == 5 else "" if i == 0 else "low"

    data = load_study(study(change, tasks={"finding": None}))
    rows = epoch_rows(data, "train", seed=0, epoch=0, balance="sampler")
    count = Counter(data.labels["grade"][rows].tolist())
    assert count == {0: 18, 1: 18}
    assert set(Counter(rows[data.labels["grade"][rows] == 1].tolist()).values()) == {3}


def test_balanced_sampling_of_two_tasks_is_over_their_combinations(study: Make) -> None:
    data = load_study(study(lambda rows: [row for i, row in enumerate(rows) if i % 6 or i < 6]))
    rows = epoch_rows(data, "train", seed=3, epoch=2, balance="sampler")
    pairs = Counter(zip(data.labels["finding"][rows], data.labels["grade"][rows], strict=True))
    assert len(pairs) == 6
    assert max(pairs.values()) - min(pairs.values()) <= 1


def test_an_unpaired_epoch_is_as_long_as_its_largest_modality(study: Make) -> None:
    data = load_study(study(regime="unpaired"))
    rows = epoch_rows(data, "train", seed=0, epoch=0)
    assert rows.shape == (36, 3)
    for column, name in zip(rows.T, data.modalities, strict=True):
        own = [row for row in data.rows("train") if data.present[name][row]]
        assert set(Counter(column.tolist()).values()) == {36 // len(own)}
        assert set(column.tolist()) == set(own)
    again = epoch_rows(data, "train", seed=0, epoch=1)
    assert {tuple(row) for row in rows} != {tuple(row) for row in again}


def test_a_modality_without_rows_has_no_companions(study: Make) -> None:
    data = load_study(study(regime="unpaired"))
    data.present["photo"][:] = False
    assert set(epoch_rows(data, "train", seed=0, epoch=0)[:, 1]) == {-1}


def test_batches_come_in_order(study: Make) -> None:
    dataset = StudyDataset(load_study(study()))
    order = np.arange(20).reshape(5, 4)
    seen = [batch.ids[0] for batch in iterate(dataset, list(order))]
    assert seen == ["s000", "s004", "s008", "s012", "s016"]


def test_an_error_in_the_background_is_raised_in_front(study: Make) -> None:
    dataset = StudyDataset(load_study(study()))
    with pytest.raises(IndexError):
        list(iterate(dataset, [np.array([0]), np.array([1000])]))


def test_leaving_early_ends_the_thread(study: Make) -> None:
    dataset = StudyDataset(load_study(study()))
    batches = iterate(dataset, [np.array([0])] * 50)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
