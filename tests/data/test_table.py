from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mailnet.data.columns import TEXT
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


def test_text_of_any_kind_gives_the_same_categories() -> None:
    cells = ["a", " a", "True", "1", "1.0", "", "b", "01", None, "a"]
    columns = [pd.Series(cells, dtype=kind) for kind in (object, TEXT)]
    config = TabularConfig(kind="tabular", categorical=["c"])
    states = [TableState.fit("t", config, pd.DataFrame({"c": column})) for column in columns]
    assert states[0].categorical[0].values == ("1", "a", "b", "true")
    assert states[0] == states[1]
    found = [states[0].transform(pd.DataFrame({"c": column})) for column in columns]
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].argmax(1).tolist() == [1, 1, 3, 0, 0, 4, 2, 0, 4, 1]
    needed = TabularConfig(kind="tabular", categorical=["c"], required=["c"])
    for column in columns:
        state = TableState.fit("t", needed, pd.DataFrame({"c": column}))
        with pytest.raises(DataError, match="required") as caught:
            state.transform(pd.DataFrame({"c": column}), [f"s{i}" for i in range(len(cells))])
        assert caught.value.study == "s5"


def test_identifiers_are_no_categories() -> None:
    rows = pd.DataFrame({"age": np.arange(300.0), "dose": 1.0, "site": [f"patient {i}" for i in range(300)]})
    with pytest.raises(DataError, match="has 300 values"):
        fit(rows)


def test_a_column_without_any_value() -> None:
    with pytest.raises(DataError, match="'age' has no value in any training study"):
        fit(ROWS.assign(age=np.nan))


def omics(rows: int = 40, columns: int = 6) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(5, 1, (rows, columns)) * np.arange(1, columns + 1)
    return pd.DataFrame(np.abs(values), columns=[f"gene_{k}" for k in range(columns)])


def fit_omics(rows: pd.DataFrame, **values: Any) -> TableState:
    return TableState.fit("rna", TabularConfig(**{"kind": "tabular", "numeric": ["gene_*"], **values}), rows)


def test_a_pattern_stands_for_the_columns_that_vary() -> None:
    rows = omics().assign(gene_1=7.0, gene_3=np.nan, other=1.0)
    state = fit_omics(rows)
    assert state.columns == state.features == ["gene_0", "gene_2", "gene_4", "gene_5"]
    np.testing.assert_allclose(state.transform(rows[state.columns]).std(axis=0), 1, rtol=1e-5)


def test_a_column_that_is_named_stays_even_within_a_pattern() -> None:
    rows = omics().assign(gene_1=0.1)
    assert fit_omics(rows, numeric=["gene_*", "gene_1"]).columns == [f"gene_{k}" for k in range(6)]
    with pytest.raises(DataError, match="'gene_1' has no value in any training study"):
        fit_omics(rows.assign(gene_1=np.nan), numeric=["gene_*", "gene_1"])


def test_missing_values_of_a_pattern_share_one_flag() -> None:
    rows = omics(4, 4)
    rows.iloc[1, :2] = np.nan
    rows.loc[2, "gene_3"] = np.nan
    state = fit_omics(rows, numeric=["gene_*", "gene_3"])
    assert state.features == ["gene_0", "gene_1", "gene_2", "gene_* missing", "gene_3", "gene_3 missing"]
    seen = state.transform(rows)
    np.testing.assert_allclose(seen[:, 3], [0, 2 / 3, 0, 0], rtol=1e-6)
    assert seen[:, 5].tolist() == [0, 0, 1, 0]
    median = np.median(rows["gene_0"].dropna())
    np.testing.assert_allclose(seen[1, 0], (median - rows["gene_0"].mean()) / rows["gene_0"].std(ddof=0), rtol=1e-5)


def test_keep_takes_what_varies_most_after_the_logarithm() -> None:
    rows = omics()
    assert fit_omics(rows, keep=2).columns == ["gene_4", "gene_5"]
    spread = np.log1p(rows).var().nlargest(2).index
    assert set(fit_omics(rows, keep=2, log=True).columns) == set(spread)
    assert fit_omics(rows, keep=2).transform(rows[["gene_5", "gene_4"]]).shape == (40, 2)


def test_the_logarithm_comes_before_the_statistics() -> None:
    rows = omics()
    state = fit_omics(rows, log=True)
    logs = np.log1p(rows.to_numpy())
    np.testing.assert_allclose(state.transform(rows), (logs - logs.mean(0)) / logs.std(0), rtol=1e-4, atol=1e-5)


def test_the_logarithm_of_a_negative_value() -> None:
    with pytest.raises(DataError, match=r"modality rna: 'gene_2' is '-3\.0', negative"):
        fit_omics(omics().replace({"gene_2": {omics().loc[5, "gene_2"]: -3.0}}), log=True)
    with pytest.raises(DataError, match="study b, modality rna: 'gene_0' is '-1'"):
        fit_omics(omics(), log=True).transform(omics(2).astype(object).assign(gene_0=["1", "-1"]), ["a", "b"])


def test_patterns_of_categories() -> None:
    rows = pd.DataFrame(
        {"mut_a": ["0", "1", "", "0"], "mut_b": ["0"] * 4, "mut_c": [""] * 4, "mut_d": ["1", "", "", ""]}
    )
    state = fit_omics(rows, numeric=[], categorical=["mut_*"], required=["mut_*"])
    assert state.columns == ["mut_a", "mut_d"]
    with pytest.raises(DataError, match="'mut_a' is required"):
        state.transform(rows)


def test_a_pattern_without_any_column_that_varies() -> None:
    with pytest.raises(DataError, match="no column has different values in the training studies"):
        fit_omics(omics() * 0)


def test_many_absent_columns_are_counted() -> None:
    with pytest.raises(DataError, match=r"19 columns are absent. Needed: 'gene_1', .* and 9 more"):
        fit_omics(omics(columns=20)).transform(omics(columns=1))


def test_a_state_of_the_first_kind_is_read() -> None:
    state = fit()
    names = ("name", "mean", "std", "median", "flag", "required")
    columns = zip(
        *(getattr(state.numeric, n) for n in ("names", "mean", "std", "median", "flag", "required")), strict=True
    )
    old = [{k: v if k != "flag" else bool(v) for k, v in zip(names, column, strict=True)} for column in columns]
    assert TableState.from_dict(json.loads(json.dumps(state.to_dict() | {"numeric": old}))) == state


def test_text_and_numbers_give_the_same_features() -> None:
    rows = omics().mask(np.random.default_rng(1).random((40, 6)) < 0.2)
    state = fit_omics(rows, log=True)
    text = rows.map(lambda value: "" if np.isnan(value) else repr(value))
    np.testing.assert_array_equal(state.transform(text), state.transform(rows))


def test_twenty_thousand_columns_are_quick() -> None:
    rows = omics(200, 20_000)
    start = time.process_time()
    state = fit_omics(rows, log=True)
    state.transform(rows)
    assert time.process_time() - start < 5  # 0.4 s on one core when written


def test_a_pattern_without_any_column() -> None:
    with pytest.raises(DataError, match=r"modality rna: no column is 'gen_\*'"):
        fit_omics(omics(), numeric=["gene_0", "gen_*"])
