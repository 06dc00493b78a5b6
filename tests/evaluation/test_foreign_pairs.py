"""Which pairs of images are kept to tell two patients in one study."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mailnet.bundle.foreign_images import Look
from mailnet.evaluation.foreign_pairs import Seen, fit_pairs

NAMES = ("left", "right", "third", "other")


def seen(count: int, seed: int) -> Seen:
    """Pictures of which the first three share what is the study's own; the last shares nothing."""
    rng = np.random.default_rng(seed)
    study = 4 * rng.normal(size=(count, 2))
    mixing = np.random.default_rng(9).normal(size=(3, 2, 6))
    pictures = [study @ one + rng.normal(size=(count, 6)) for one in mixing] + [rng.normal(size=(count, 6))]
    rows = np.arange(count)
    looks = {name: Look(np.zeros((count, 1)), picture) for name, picture in zip(NAMES, pictures, strict=True)}
    gone = {"left": rows[3:], "right": rows, "third": rows, "other": rows[:-7]}
    return {name: Look(of.statistics, of.picture[gone[name]]) for name, of in looks.items()}, gone


def fitted(rate: float = 0.15, **changes: Any) -> list[tuple[str, str]]:
    patients = changes.get("patients", np.arange(120).astype(str))
    pairs = fit_pairs(changes.get("names", NAMES), seen(300, 0), seen(120, 1), patients, rate, 4)
    assert all(0.5 <= pair.told <= 1 for pair in pairs)
    return [(pair.first, pair.second) for pair in pairs]


def test_pairs_join_what_goes_together_and_leave_the_rest() -> None:
    kept = fitted()
    assert len(kept) == 2
    assert {name for pair in kept for name in pair} == {"left", "right", "third"}
    assert fitted(names=("left", "other")) == []


def test_what_cannot_be_known_is_left_out() -> None:
    # Where all studies are of one patient there are no strangers, and with too few patients no alarm can sound.
    assert fitted(patients=np.full(120, "p")) == []
    assert fitted(rate=0.001) == []
    few = fit_pairs(NAMES, seen(20, 0), seen(120, 1), np.arange(120).astype(str), 0.15, 4)
    assert few == ()


@pytest.mark.parametrize("seed", [2, 3])
def test_its_alarm_sounds_at_the_rate(seed: int) -> None:
    (pair,) = fit_pairs(("left", "right"), seen(300, 0), seen(120, 1), np.arange(120).astype(str), 0.15, 2)
    looks, rows = seen(120, seed)
    a, b = looks["left"].picture, looks["right"].picture[rows["left"]]
    assert (pair.p_value(a, b) <= 0.05).mean() <= 0.12
    assert (pair.p_value(a, np.roll(b, 1, 0)) <= 0.05).mean() > 0.5
    assert pair.name == "left with right"
