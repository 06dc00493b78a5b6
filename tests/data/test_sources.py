from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest

from mailnet.data import tables
from mailnet.data.columns import TEXT, as_text
from mailnet.data.config import StudyConfig, parse_config
from mailnet.data.manifest import read_manifest
from mailnet.data.sources import FOLDER, read_sources
from mailnet.data.tables import read_table
from mailnet.errors import ConfigError, DataError


def config(folder: Path, source: Any, **changes: Any) -> StudyConfig:
    values = {
        "name": "made-up",
        "data_root": str(folder),
        "manifest": source,
        "modalities": {"ct": None},
        "tasks": {"t": {"classes": ["a", "b"]}},
    }
    return parse_config(values | changes)


def rows(folder: Path, **source: Any) -> list[dict[str, str]]:
    table = read_sources(config(folder, {"table": "a.csv"} | source))
    return [dict(row) for row in table.drop(columns=FOLDER).apply(as_text).to_dict("records")]


def refused(folder: Path, **source: Any) -> str:
    with pytest.raises(DataError) as caught:
        rows(folder, **source)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text("id,ct,age\n001,1.png,5\n02,2.png,6\nx,3.png,n/a\n")
    (tmp_path / "b.csv").write_text("code,dose,age\n1,0.50,50\nx,,7\n9,8,9\n")
    return tmp_path


def test_a_join_finds_its_rows_by_value_and_keeps_text(folder: Path) -> None:
    found = rows(folder, join={"table": "b.csv", "on": "id", "key": "code", "prefix": "b_"})
    assert found == [
        {"id": "001", "ct": "1.png", "age": "5", "b_dose": "0.50", "b_age": "50"},
        {"id": "02", "ct": "2.png", "age": "6", "b_dose": "", "b_age": ""},
        {"id": "x", "ct": "3.png", "age": "n/a", "b_dose": "", "b_age": "7"},
    ]


def test_what_is_missing_is_missing_in_joined_tables_too(folder: Path) -> None:
    found = rows(folder, missing=["n/a", 50], join={"table": "b.csv", "on": "id", "key": "code", "prefix": "b_"})
    assert [row["age"] for row in found] == ["5", "6", ""]
    assert [row["b_age"] for row in found] == ["", "", "7"]


def test_columns_of_one_name_name_both_tables(folder: Path) -> None:
    text = refused(folder, join={"table": "b.csv", "on": "id", "key": "code"})
    assert "'a.csv' and 'b.csv' both have the column 'age'" in text
    assert "'prefix'" in text


def test_a_key_twice_is_an_error(folder: Path) -> None:
    (folder / "b.csv").write_text("code,dose\n1,0\n01,1\n,5\n,6\n")
    text = refused(folder, join={"table": "b.csv", "on": "id", "key": "code"})
    assert "b.csv: has 1 keys more than once, '01' among them" in text


def test_empty_keys_join_nothing(folder: Path) -> None:
    (folder / "a.csv").write_text("id,ct\n,1.png\n1,2.png\n")
    (folder / "b.csv").write_text("id,dose\n,5\n,6\n1,7\n")
    assert [row["dose"] for row in rows(folder, join={"table": "b.csv", "on": "id"})] == ["", "7"]


def test_a_join_that_finds_nobody_says_what_it_compared(folder: Path) -> None:
    (folder / "b.csv").write_text("id,dose\nTCGA-1,5\n")
    text = refused(folder, join={"table": "b.csv", "on": "id"})
    assert "no 'id' of 'a.csv', such as '1', is a key of 'b.csv', such as 'TCGA-1'" in text


@pytest.mark.parametrize(
    ("join", "text"),
    [
        ({"table": "b.csv", "on": "code"}, "'join.on' names the column 'code'"),
        ({"table": "b.csv", "on": "id"}, "'join' names the column 'id', which the table does not have"),
        ({"table": "c.csv", "on": "id"}, "does not exist"),
        ({"table": ".", "on": "id"}, "is a folder, no table"),
        ({"table": "../b.csv", "on": "id"}, "leaves the data root"),
    ],
)
def test_joins_that_do_not_fit(folder: Path, join: dict[str, str], text: str) -> None:
    assert text in refused(folder, join=join)


@pytest.mark.parametrize("cells", ["1.5,2\n-3,\n", "1.50,high\n007,\n"])
def test_a_table_with_a_column_a_patient(folder: Path, cells: str) -> None:
    first, second = cells.splitlines()
    (folder / "g.tsv").write_text(f"gene,1,2,x\nA,{first},9\nB,{second},8\n".replace(",", "\t"))
    found = rows(folder, join={"table": "g.tsv", "on": "id", "transpose": True, "prefix": "gene_"})
    assert [row["gene_A"] for row in found] == [*first.split(","), "9"]
    assert [row["gene_B"] for row in found] == [*second.split(","), "8"]


def test_numbers_of_parquet_are_turned_as_numbers(folder: Path) -> None:
    genes = pd.DataFrame({"gene": ["A", "B"], "1": [1.5, 2.0], "2": [3, 4], "x": [np.nan, 5.25]})
    genes.to_parquet(folder / "g.parquet")
    table = read_sources(
        config(folder, {"table": "a.csv", "join": {"table": "g.parquet", "on": "id", "transpose": True}})
    )
    assert table["A"].dtype == np.float64
    assert table["B"].tolist() == [2.0, 4.0, 5.25]


def test_two_rows_of_one_name_cannot_become_columns(folder: Path) -> None:
    (folder / "g.csv").write_text("gene,1,2\nA,1,2\nA,3,4\n")
    assert "names 'A' twice in its first column" in refused(
        folder, join={"table": "g.csv", "on": "id", "transpose": True}
    )


def test_a_column_built_of_others(folder: Path) -> None:
    (folder / "a.csv").write_text("file,side,lost\na/1,L,0\na/2,R,1.0\n,L,0\n")
    build = {"pre": {"template": "{file}_{side}.jpg", "unless": {"lost": 1}}, "again": "x{pre}"}
    found = rows(folder, build=build)
    assert [row["pre"] for row in found] == ["a/1_L.jpg", "", ""]
    assert [row["again"] for row in found] == ["xa/1_L.jpg", "", ""]


def test_cells_that_are_not_empty_or_not_a_value(folder: Path) -> None:
    (folder / "a.csv").write_text("file,side,n\na,L,1\n,L,2\n  ,R,2.0\nd,,\n")
    pd.DataFrame({"file": ["a", None], "n": [1.0, np.nan]}).to_parquet(folder / "a.parquet")

    def kept(**where: Any) -> list[str]:
        return [row["n"] for row in rows(folder, where=where)]

    assert kept(file={"not": ""}) == ["1", ""]
    assert kept(file="") == ["2", "2.0"]
    assert kept(side={"not": ["", "R"]}) == ["1", "2"]
    assert kept(n={"not": 2}) == ["1", ""]
    assert kept(file={"not": ""}, n={"not": ""}) == ["1"]
    assert [row["file"] for row in rows(folder, table="a.parquet", where={"n": {"not": ""}})] == ["a"]
    assert [row["n"] for row in rows(folder, table="a.parquet", where={"file": {"not": ""}})] == ["1"]
    built = rows(folder, build={"left": {"template": "{n}.png", "unless": {"side": {"not": "L"}}}})
    assert [row["left"] for row in built] == ["1.png", "2.png", "", ""]
    assert "'where' names the column 'fiel'" in refused(folder, where={"fiel": {"not": ""}})


def test_templates_that_do_not_fit(folder: Path) -> None:
    assert "'build' names the column 'files'" in refused(folder, build={"pre": "{files}.jpg"})
    assert "makes the column 'ct', which there is" in refused(folder, build={"ct": "{id}.jpg"})
    with pytest.raises(ConfigError, match=r"names no column: write it in braces"):
        rows(folder, build={"pre": "file.jpg"})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a,b,c\n1,2,3\n4,5\n", "line 3 ends after 2 of 3 cells"),
        ("a,b,c\n1,2,3\n\n4,5,6\n7", "line 5 ends after 1 of 3 cells"),
        ("a,b,c\n1,2,3,4\n", "more cells than the 3 column names, the first in line 2"),
        (" \n1\n", "is empty"),
        ("a,b\nM\xfcller,1\n", "is not UTF-8"),
        ("a,M\xfcller\nx,1\n", "is not UTF-8"),
    ],
)
def test_broken_csv(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode("cp1252"))
    assert text in refused(tmp_path)


def test_cells_keep_their_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id, name ,"two\nlines"\n0012,"Smith, ""Ann""", a \nnan,NA,"1\n2"\n')
    assert rows(tmp_path) == [
        {"id": "0012", "name": 'Smith, "Ann"', "two\nlines": "a"},
        {"id": "nan", "name": "NA", "two\nlines": "1\n2"},
    ]


def test_packed_tables(folder: Path) -> None:
    (folder / "b.csv.gz").write_bytes(gzip.compress((folder / "b.csv").read_bytes()))
    assert read_table(str(folder / "b.csv.gz"))["dose"].tolist() == ["0.50", "", "8"]
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.write(folder / "b.csv.gz", "in/b.csv.gz")
    assert len(read_table(f"{folder / 'b.zip'}!in/b.csv.gz")) == 3
    (folder / "b.csv.gz").write_bytes(b"no gzip")
    assert "is not a gzip file" in refused(folder, table="b.csv.gz")


def test_a_packed_table_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_BYTES", 1000)
    (folder / "b.csv.gz").write_bytes(gzip.compress(b"a\n" * 1000))
    assert "unpacks to more than" in refused(folder, table="b.csv.gz")


def write_sheet(path: Path, cells: list[list[Any]]) -> None:
    book = openpyxl.Workbook()
    for row in cells:
        book.worksheets[0].append(row)
    book.create_sheet("second").append(["other"])
    book.save(path)


def test_excel(folder: Path) -> None:
    write_sheet(folder / "a.xlsx", [["id", "ct", "age", None], ["0012", "1.png", 3.0], [], [7, None, 2.5], [True, "x"]])
    assert rows(folder, table="a.xlsx") == [
        {"id": "0012", "ct": "1.png", "age": "3"},
        {"id": "7", "ct": "", "age": "2.5"},
        {"id": "True", "ct": "x", "age": ""},
    ]


def test_excel_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sheet(folder / "a.xlsx", [["id"], [1, "comment"]])
    assert "has cells in a column without a name" in refused(folder, table="a.xlsx")
    write_sheet(folder / "a.xlsx", [["id", "id"], [1, 2]])
    assert "names columns twice: id" in refused(folder, table="a.xlsx")
    write_sheet(folder / "a.xlsx", [])
    assert "its first sheet is empty" in refused(folder, table="a.xlsx")
    write_sheet(folder / "a.xlsx", [["id"], [1], [2]])
    with monkeypatch.context() as patch:
        patch.setattr(tables, "MAX_ROWS", 2)
        assert "has more than 2 rows" in refused(folder, table="a.xlsx")
    monkeypatch.setattr(tables, "MAX_SHEET", 100)
    assert "would unpack to" in refused(folder, table="a.xlsx")
    (folder / "a.xlsx").write_bytes(b"PK no zip")
    assert "is not an Excel table" in refused(folder, table="a.xlsx")
    (folder / "a.xls").write_bytes(b"\xd0\xcf")
    assert "Save it as .xlsx" in refused(folder, table="a.xls")


def test_sources_of_other_columns_and_kinds(folder: Path) -> None:
    pd.DataFrame({"id": [5], "dose": [2.5]}).to_parquet(folder / "c.parquet")
    table = read_sources(config(folder, ["a.csv", "c.parquet"]))
    assert table["id"].tolist() == ["001", "02", "x", "5"]
    assert table["ct"].tolist() == ["1.png", "2.png", "3.png", ""]
    assert table["id"].dtype == TEXT
    assert np.isnan(table["dose"].iloc[0])


def test_identifiers_of_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"id": pd.array([2**60 + 1, None], dtype="Int64"), "day": pd.to_datetime(["2020-01-02", None])}
    )
    frame["dose"] = pd.Categorical(["low", None])
    frame.index = pd.Index([3, 4])
    frame.to_parquet(tmp_path / "a.parquet")
    found = rows(tmp_path, table="a.parquet")
    assert found[0] == {"id": str(2**60 + 1), "day": "2020-01-02 00:00:00", "dose": "low"}
    assert found[1] == {"id": "", "day": "", "dose": ""}


def genes(folder: Path) -> dict[str, Any]:
    (folder / "a.csv").write_text(
        "id,sex,gene_a,gene_b,Gene_c,t,split\n1,m,1.5,NA,x,a,train\n2,,,,x,b,train\n3,f,2,1e3,x,a,train\n"
    )
    return {"id": "id", "split": {"column": "split", "train": 1, "val": 0, "test": 0}}


def test_patterns_stand_for_columns(tmp_path: Path) -> None:
    keys = genes(tmp_path)
    omics = {"kind": "tabular", "numeric": ["gene_*"]}
    frame = read_manifest(config(tmp_path, "a.csv", modalities={"omics": omics}, **keys))[0].frame
    assert [name for name in frame if name.startswith("raw:")] == ["raw:gene_a", "raw:gene_b"]
    assert frame["has:omics"].tolist() == [True, False, True]
    np.testing.assert_array_equal(frame["raw:gene_b"], [np.nan, np.nan, 1000])
    assert frame["raw:gene_a"].dtype == np.float64


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"numeric": ["rna_*"]}, "modalities.omics: no column of the tables matches 'rna_*'"),
        ({"numeric": ["gene_*"], "categorical": ["gene_?"]}, "'gene_a' is both numeric and categorical"),
        ({"numeric": ["gene_*"], "required": ["gene_*"]}, "'gene_b' is required and has no value"),
        ({"numeric": ["Gene*", "gene_a"]}, "'Gene_c' is 'x', not a number (so have 2 other studies)"),
    ],
)
def test_patterns_that_do_not_fit(tmp_path: Path, table: dict[str, list[str]], text: str) -> None:
    keys = genes(tmp_path)
    problems = read_manifest(config(tmp_path, "a.csv", modalities={"omics": {"kind": "tabular"} | table}, **keys))[1]
    assert any(text in str(problem) for problem in problems), [str(problem) for problem in problems]
