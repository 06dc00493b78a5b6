"""Subgroups of patients: words as they are, numbers in bands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mailnet.evaluation.evaluate import evaluate
from mailnet.evaluation.reliability import Wanted
from mailnet.evaluation.subgroups import banded, numbers_of, subgroups_of
from runs import MakeRun


@pytest.mark.parametrize(("scale", "width"), [(1.0, 20), (0.1, 2), (10.0, 200), (0.001, 0.02)])
def test_bands_have_a_round_width_and_hold_their_numbers(scale: float, width: float) -> None:
    numbers = np.append(np.arange(15.0, 90.0) * scale, np.nan)
    values, order = banded(numbers)
    cuts = np.arange(20, 81, 20) * scale
    assert order == [
        f"below {cuts[0]:g}",
        *(f"{low:g} to <{low + width:g}" for low in cuts[:-1]),
        f"{cuts[-1]:g} or more",
    ]
    for number, value in zip(numbers[:-1], values, strict=False):
        assert value == order[int((number >= cuts - 1e-9 * scale).sum())]
    assert values[-1] == ""


def test_bands_of_numbers_below_zero() -> None:
    values, order = banded(np.linspace(-9.5, 9.5, 39))
    assert order == ["below -5", "-5 to <0", "0 to <5", "5 or more"]
    assert [values[k] for k in (0, 9, 19, 38)] == ["below -5", "-5 to <0", "0 to <5", "5 or more"]


def test_few_values_and_one_value_beside_outliers() -> None:
    assert banded(np.arange(10.0))[1] == []
    assert banded(np.full(3, np.nan))[1] == []
    numbers = np.append(np.full(1000, 5.0), np.arange(20.0) * 10)
    values, order = banded(numbers)
    assert set(values) == set(order)
    assert len(order) > 1


def test_numbers_and_names() -> None:
    np.testing.assert_array_equal(numbers_of(np.array(["41.0", "", "-3"])), [41, np.nan, -3])
    np.testing.assert_array_equal(numbers_of(np.array(["0", "0.5", "1e2"])), [0, 0.5, 100])
    for name in ("unknown", "007", "-01", "nan", "inf", "H7"):
        assert np.isnan(numbers_of(np.array(["41", "7", name]))).all()


def test_a_number_that_is_no_input_is_measured_in_bands() -> None:
    ages = [str(age) for age in range(20, 80)] + [""]
    wards = [f"{k % 12:02d}" for k in range(61)]
    frame = pd.DataFrame(
        {"subgroup:age": ages, "subgroup:ward": wards, "subgroup:floor": [str(k % 9) for k in range(61)]}
    )
    data: Any = SimpleNamespace(frame=frame, config=SimpleNamespace(subgroups=["age", "ward", "floor"]))
    found = subgroups_of(data)
    assert found["age"].order == ["below 40", "40 to <60", "60 or more"]
    assert found["age"].values[[0, 20, -1]].tolist() == ["below 40", "40 to <60", ""]
    assert found["ward"].order == sorted(set(wards))
    assert found["floor"].order == [str(k) for k in range(9)]


def test_an_age_is_measured_in_bands(make_run: MakeRun, cache: Path) -> None:
    run = make_run(n=120, group=None, subgroups=["age", "site"], modalities={"photo": None}, options={"width": "nano"})
    result = evaluate(
        run, split="all", cache=cache, device="cpu", bootstrap=5, gaps=True, wanted=Wanted("temperature", (0.2,))
    )
    ages = list(result["subgroups"]["age"])
    bands = [name for name in ages if name != "(no value)"]
    assert bands[0].startswith("below ")
    assert bands[-1].endswith(" or more")
    assert 3 <= len(bands) <= 6
    counted = sum(of["grade"]["n"] for of in result["subgroups"]["age"].values())
    assert counted == result["tasks"]["grade"]["n"]
    assert result["data"]["subgroups"] == {"age": len(ages), "site": 2}
    sets = result["reliability"]["sets"]["grade"][0]
    assert list(sets["measured"]["subgroups"]["age"]) == bands
    gap = result["gaps"]["age"]["grade"]["ece"]
    assert {*gap["groups"], *gap["left_out"]} == set(bands)
    assert list(gap["groups"]) == [name for name in bands if name in gap["groups"]]
