from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mailnet.data.config import TabularConfig
from mailnet.data.table import TableState
from mailnet.errors import DataError

ROWS = pd.DataFrame({"age": [40.0, 50.0, np.nan, 90.0], "dose": [1.0, 2, 3, 6], "site": ["a", "b", "a", ""]})


def fit(rows: pd.DataFrame = ROWS, **values: Any) -> TableState:
    config = {"kind": "tabular", "numeric": ["age", "dose"], "categorical": ["site"], **values}
    return TableState.fit("clinical", TabularConfig(**config), rows)


def test_features_have_names() -> None:
    assert fit().features == ["age", "age missing", "dose", "site=a", "site=b", "site=unknown"]


def test_numbers_are_imputed_flagged_and_scaled() -> None:
    seen = fit().transform(ROWS)
    assert seen.dtype == np.float32
    ages = np.array([40, 50, 50, 90.0])
    std = np.std([40, 50, 90])
    np.testing.assert_allclose(seen[:, 0], (ages - 60) / std, rtol=1e-6)
    assert seen[:, 1].tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(seen[:, 2].std(), 1, rtol=1e-6)


def test_categories_unseen_in_training_are_unknown() -> None:
    rows = ROWS.assign(site=["b", "c", "", "a"])
    assert fit().transform(rows)[:, 3:].tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]


def test_numbers_are_categories_however_they_are_written() -> None:
    state = fit(ROWS.assign(site=["1", "2", "1", "2"]))
    assert state.transform(ROWS.assign(site=[1, 2.0, "01", np.nan]))[:, 3:].argmax(axis=1).tolist() == [0, 1, 0, 2]


def test_values_far_from_training_are_clipped() -> None:
    assert fit().transform(ROWS.assign(dose=[1e9, -1e9, 1, 1]))[:2, 2].tolist() == [10, -10]


def test_a_constant_column_is_harmless() -> None:
    assert fit(ROWS.assign(dose=5.0)).transform(ROWS.assign(dose=5.0))[:, 2].tolist() == [0] * 4


def test_the_state_is_json_and_comes_back() -> None:
    state = fit()
    again = TableState.from_dict(json.loads(json.dumps(state.to_dict())))
    assert again == state
    np.testing.assert_array_equal(again.transform(ROWS), state.transform(ROWS))


def test_a_missing_value_without_flag_is_imputed() -> None:
    state = fit(ROWS.assign(age=[40.0, 50, 60, 90]))
    assert "age missing" not in state.features
    assert np.isfinite(state.transform(ROWS)).all()


def test_required_values() -> None:
    state = fit(ROWS.assign(age=[40.0, 50, 60, 90]), required=["age"])
    with pytest.raises(DataError, match="study s3, modality clinical: 'age' is required"):
        state.transform(ROWS, ["s1", "s2", "s3", "s4"])


def test_text_for_a_number_and_an_absent_column() -> None:
    with pytest.raises(DataError, match="study b, modality clinical: 'age' is 'old'"):
        fit().transform(ROWS.astype({"age": object}).assign(age=[1, "old", 2, 3]), ["a", "b", "c", "d"])
    with pytest.raises(DataError, match="the column 'dose' is absent"):
        fit().transform(ROWS[["age", "site"]])


def test_identifiers_are_no_categories() -> None:
    rows = pd.DataFrame({"age": np.arange(300.0), "dose": 1.0, "site": [f"patient {i}" for i in range(300)]})
    with pytest.raises(DataError, match="has 300 values"):
        fit(rows)


def test_a_column_without_any_value() -> None:
    with pytest.raises(DataError, match="'age' has no value in any training study"):
        fit(ROWS.assign(age=np.nan))
