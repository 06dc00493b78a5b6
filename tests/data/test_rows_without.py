"""Rows of a table that have no modality at all: said with what to type, left out by 'where' or with ``skip_bad``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from factory import read_table, write_study
from mailnet.data.config import StudyConfig, load_config, parse_config
from mailnet.data.config.study import _Loader
from mailnet.data.manifest import load_manifest, read_manifest
from mailnet.data.memory import read_studies
from mailnet.data.remedies import keep_filled, where_filled
from mailnet.data.sources import FOLDER, read_sources
from mailnet.data.study import load_study
from mailnet.errors import DataError

Make = Callable[..., StudyConfig]
Rows = list[dict[str, str]]
EMPTY = {"ct": "", "photo": "", "age": "", "site": ""}
SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def emptied(*numbers: int, **also: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        for number in numbers:
            rows[number].update(EMPTY | also)

    return change


def alone(folder: Path, **changes: Any) -> StudyConfig:
    """A study of the modality ``ct`` alone, whose cell is empty in rows 3 and 20."""
    path = write_study(folder, **changes)
    values = yaml.safe_load(path.read_text())
    del values["modalities"]["photo"], values["modalities"]["clinical"]
    path.write_text(yaml.safe_dump(values))
    lines = (folder / "studies.csv").read_text().splitlines()
    for number in (3, 20):
        lines[number] = lines[number].replace(f"images/ct{number - 1:03d}.png", "")
    (folder / "studies.csv").write_text("\n".join(lines))
    return load_config(path)


def test_the_remedy_is_what_one_types(tmp_path: Path) -> None:
    config = alone(tmp_path)
    with pytest.raises(DataError, match="2 problems in the data") as caught:
        load_study(config)
    typed = 'manifest: {table: studies.csv, where: {ct: {not: ""}}}'
    remedy = f"Fill a cell of one, leave the row out with {typed}, or leave it out with --skip-bad."
    assert f"study s002: has no modality at all. {remedy}" in str(caught.value)
    text = (tmp_path / "study.yaml").read_text().replace("manifest: studies.csv", typed)
    (tmp_path / "study.yaml").write_text(text)
    followed = load_study(load_config(tmp_path / "study.yaml"))
    assert followed.frame["id"].tolist() == [f"s{i:03d}" for i in range(60) if i not in (2, 19)]
    assert followed.bad == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.csv", 'manifest: {table: a.csv, where: {ct: {not: ""}}}'),
        ("set.zip!in/a.csv", 'manifest: {table: set.zip!in/a.csv, where: {ct: {not: ""}}}'),
        ("of 2024, new.csv", 'manifest: {table: "of 2024, new.csv", where: {ct: {not: ""}}}'),
        ({"table": "a.csv", "missing": ["-"]}, "where: {ct: {not: \"\"}} in 'manifest'"),
        ({"table": "a.csv", "columns": {"ct": "CT path"}}, 'where: {"CT path": {not: ""}} in \'manifest\''),
        (["a.csv", "b.csv"], "where: {ct: {not: \"\"}} in every source of 'manifest'"),
        (["a.csv", {"table": "b.csv", "columns": {"ct": "file"}}], None),
        ({"table": "a.csv", "columns": {"id": "id"}, "join": {"table": "b.csv", "on": "id"}}, None),
        ({"table": "a.csv", "join": {"table": "b.csv", "on": "id"}}, None),
        ({"table": "a.csv", "build": {"ct": "{id}.png"}}, None),
        ({"table": "a.csv", "pivot": {"index": "id", "columns": "view"}}, None),
    ],
)
def test_a_column_is_named_as_its_own_table_does(source: Any, expected: str | None) -> None:
    values = {"name": "x", "manifest": source, "modalities": {"ct": None}, "tasks": {"t": {"classes": ["a", "b"]}}}
    assert keep_filled(parse_config(values), "ct") == expected


@pytest.mark.parametrize("column", ["ct", "a-b.c", "true", "CT: path", "1", 'a "b"', "{x}", "no", "- a", "#"])
def test_what_is_typed_reads_back_as_the_column(column: str) -> None:
    assert yaml.load(where_filled(column), _Loader) == {"where": {column: {"not": ""}}}


def test_of_several_columns_no_where_is_told(study: Make) -> None:
    (problem,) = read_manifest(study(emptied(2)))[1]
    assert (problem.study, problem.remedy) == ("s002", "Fill a cell of one, or leave it out with --skip-bad")


def test_a_row_without_anything_is_no_second_problem_of_what_is_required(study: Make) -> None:
    def change(rows: Rows) -> None:
        for row in rows:
            row["age"] = row["age"] or "50"
        rows[2].update(EMPTY)

    (problem,) = read_manifest(study(change, modalities={"clinical": {"required": ["age"]}}))[1]
    assert problem.message == "has no modality at all"


@pytest.mark.parametrize("split", [None, SHARES])
def test_they_are_left_out_as_unreadable_images_are(study: Make, split: dict[str, float] | None) -> None:
    """Beside one of each kind: the same rows stay, on the same sides, and both are listed by row."""
    changes: dict[str, Any] = {} if split is None else {"split": split}
    whole = load_manifest(study(**changes)).frame
    config = study(emptied(2, 30), **changes)
    (config.root / "images" / "ct005.png").write_bytes(b"")
    data = load_study(config, skip_bad=True)
    assert data.bad_rows == [3, 6, 31]
    assert [error.study for error in data.bad] == ["s002", "s005", "s030"]
    assert [error.modality for error in data.bad] == [None, "ct", None]
    assert data.bad[0].as_dict() == {
        "message": "has no modality at all",
        "remedy": "Fill a cell of one of its modalities",
        "study": "s002",
    }
    kept = np.setdiff1d(np.arange(60), [2, 5, 30])
    for column in ("row", "id", "group", "unit", "split"):
        assert data.frame[column].tolist() == whole[column].iloc[kept].tolist()
    assert len(data) == 57
    assert all(len(array) == 57 for array in [*data.arrays.values(), *data.labels.values()])
    assert np.any([*data.present.values()], axis=0).all()


def test_only_those_of_the_splits_that_are_loaded_are_listed(study: Make) -> None:
    config = study(emptied(2, 26))
    assert load_study(config, skip_bad=True, splits=["test"]).bad_rows == [27]
    assert load_study(config, skip_bad=True, splits=["val"]).bad == []


def test_in_the_unpaired_regime_too(study: Make) -> None:
    def change(rows: Rows) -> None:
        rows[7]["ct"] = ""

    config = study(change, regime="unpaired")
    with pytest.raises(DataError, match="study ct007: has no modality at all"):
        load_study(config)
    data = load_study(config, skip_bad=True)
    assert (data.bad_rows, len(data)) == ([8], 119)


def test_leaving_them_out_may_not_empty_a_class(study: Make) -> None:
    config = study(emptied(0, finding="rare"), tasks={"finding": {"classes": ["none", "left", "right", "rare"]}})
    with pytest.raises(DataError, match="'rare' has no training example"):
        load_study(config, skip_bad=True)


def test_without_any_filled_cell_it_is_said_that_nobody_has_the_modality(tmp_path: Path) -> None:
    config = alone(tmp_path)
    rows = [row | {"ct": ""} for row in read_table(tmp_path / "studies.csv")]
    with pytest.raises(DataError, match="modality ct: no training study has it"):
        load_study(config, skip_bad=True, table=read_studies(rows, config))


def test_studies_in_memory(tmp_path: Path) -> None:
    config = alone(tmp_path)
    rows: list[dict[str, Any]] = [
        {**row, "ct": np.full((32, 32), k, np.uint8)} for k, row in enumerate(read_table(tmp_path / "studies.csv"))
    ]
    del rows[4]["ct"]
    table = read_studies(rows, config)
    with pytest.raises(DataError, match=r"study s004: has no modality at all\. Give it one, or leave it out\.$"):
        load_study(config, table=table)
    data = load_study(config, table=table, skip_bad=True)
    assert (data.bad_rows, len(data), data.arrays["ct"][3].max(), data.arrays["ct"][4].max()) == ([5], 59, 3, 5)


def test_empty_cells_of_a_pivot_name_both_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("case,view\n1,left\n,left\n")
    source = {"table": "a.csv", "pivot": {"index": "case", "columns": "view"}}
    values = {"name": "x", "modalities": {"ct": None}, "tasks": {"t": {"classes": ["a", "b"]}}}
    with pytest.raises(DataError, match="1 rows have no") as caught:
        read_sources(parse_config(values | {"data_root": str(tmp_path), "manifest": source}))
    typed = 'where: {case: {not: ""}, view: {not: ""}}'
    assert str(caught.value).endswith(f"leave the rows out with {typed}.")
    table = read_sources(
        parse_config(values | {"data_root": str(tmp_path), "manifest": source | yaml.safe_load(typed)})
    )
    assert table.drop(columns=FOLDER)["case"].tolist() == ["1"]
