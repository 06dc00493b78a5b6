from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from mailnet.data.config import SplitConfig
from mailnet.data.splits import split_rows

CONFIG = SplitConfig()
Labels = list[tuple[tuple[str, int], ...]]


def example(n: int = 600, seed: int = 0) -> tuple[list[str], Labels]:
    random = np.random.default_rng(seed)
    groups = [f"p{g}" for g in random.integers(0, n // 2, n)]
    return groups, [(("a", int(random.integers(3))), ("b", int(random.random() < 0.1))) for _ in range(n)]


def test_a_group_is_never_on_two_sides() -> None:
    groups, labels = example()
    pairs = set(zip(groups, split_rows(groups, labels, CONFIG), strict=True))
    assert len(pairs) == len(set(groups))


def test_fractions_are_met_for_every_label_and_combination() -> None:
    groups = [f"p{i}" for i in range(1000)]
    labels: Labels = [(("a", i % 2), ("b", int(i % 10 == 0))) for i in range(1000)]
    splits = split_rows(groups, labels, CONFIG)
    for chosen in ({(("a", 0), ("b", 1))}, {(("a", 1), ("b", 0))}, set(labels)):
        rows = [split for split, label in zip(splits, labels, strict=True) if label in chosen]
        count = Counter(rows)
        assert count["train"] == pytest.approx(0.7 * len(rows), abs=2)
        assert count["val"] == pytest.approx(0.1 * len(rows), abs=2)


def test_the_order_of_the_rows_does_not_matter() -> None:
    groups, labels = example()
    splits = split_rows(groups, labels, CONFIG)
    order = np.random.default_rng(1).permutation(len(groups))
    again = split_rows([groups[i] for i in order], [labels[i] for i in order], CONFIG)
    assert again == [splits[i] for i in order]


def test_the_seed_matters() -> None:
    groups, labels = example()
    assert split_rows(groups, labels, CONFIG) != split_rows(groups, labels, SplitConfig(seed=1))


def test_the_hash_seed_of_python_does_not() -> None:
    program = (
        "from mailnet.data.splits import split_rows; from mailnet.data.config import SplitConfig;"
        "rows = range(90);"
        "print(split_rows([f'p{i}' for i in rows], [(('a', i % 3), ('b', i % 2)) for i in rows], SplitConfig()))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("count", "reached"), [(1, {"train"}), (3, {"train", "val", "test"}), (5, {"train", "val", "test"})]
)
def test_rare_labels(count: int, reached: set[str]) -> None:
    groups = [f"p{i}" for i in range(200)]
    labels: Labels = [(("a", int(i < count)),) for i in range(200)]
    splits = split_rows(groups, labels, CONFIG)
    assert set(splits[:count]) == reached
    assert Counter(splits)["train"] == pytest.approx(140, abs=4)


def test_two_of_a_kind_reach_training() -> None:
    labels: Labels = [(("a", int(i < 2)),) for i in range(50)]
    assert "train" in split_rows([f"p{i}" for i in range(50)], labels, CONFIG)[:2]


def test_no_test_split_where_none_is_wanted() -> None:
    groups, labels = example()
    assert set(split_rows(groups, labels, SplitConfig(train=0.8, val=0.2, test=0))) == {"train", "val"}


def made_up(seed: int) -> tuple[list[str], list[tuple[tuple[str, str], ...]], SplitConfig]:
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 900))
    groups = [f"p{g}" for g in random.integers(0, max(1, n // int(random.integers(1, 4))), n)]
    rates = random.random(int(random.integers(1, 5)))
    labels = []
    for _ in range(n):
        row = tuple((f"t{k}", str(random.integers(2 + k))) for k, rate in enumerate(rates) if random.random() < rate)
        labels.append(row or (("", "unlabelled"),))
    val, test = float(random.choice([0.0, 0.1, 0.25])), float(random.choice([0.0, 0.2]))
    return groups, labels, SplitConfig(train=1 - val - test, val=val, test=test, seed=seed)


@pytest.mark.parametrize(
    ("seed", "digest"),
    enumerate(
        [
            "e830e42550be1674",
            "065efd57732f0bd2",
            "44b83ae9ae0360e0",
            "986d7c771bff4b3a",
            "12569dfde71accc7",
            "b22ac90222b9430b",
            "a208a41ef6cfad6f",
            "0878cb481775f9ec",
            "b6c587739337dc28",
            "c8a0b343dae7cb0e",
            "b7f0846033c920d0",
            "266df8fcc8d159cc",
        ]
    ),
)
def test_divisions_stay_what_they_were(seed: int, digest: str) -> None:
    # Of the first version: a study that is divided by fractions must not be divided anew by a later one.
    splits = " ".join(split_rows(*made_up(seed)))
    assert hashlib.sha256(splits.encode()).hexdigest()[:16] == digest
