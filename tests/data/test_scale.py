"""Tables of very many rows or columns: memory, and the same answers as row by row."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mailnet.data import paths
from mailnet.data.cells import NAMED
from mailnet.data.columns import TEXT, in_one_piece, text_of
from mailnet.data.config import StudyConfig, parse_config
from mailnet.data.locations import Locator
from mailnet.data.manifest import load_manifest, read_manifest
from mailnet.data.paths import locate_all, relative_all
from mailnet.errors import DataError

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "manifest.py"


def test_memory_is_bounded() -> None:
    command = [sys.executable, str(BENCHMARK), "--rows", "150000", "--format", "csv"]
    (result,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert result["problems"] == 0
    # 1 GiB for a million rows is 150 MiB for these; an object a cell would take twice as much.
    assert result["peak_mib"] < 150
    assert result["splits"]["train"] == pytest.approx(105_000, rel=0.01)


def study(folder: Path, **keys: object) -> StudyConfig:
    values = {
        "name": "many",
        "data_root": str(folder),
        "manifest": "a.csv",
        "modalities": {"ct": None, "table": {"kind": "tabular", "numeric": ["age"], "categorical": ["sex"]}},
        "tasks": {"t": {"classes": ["a", "b"]}},
    }
    return parse_config(values | keys)


def test_no_column_holds_objects(tmp_path: Path) -> None:
    pd.DataFrame({"ct": [f"{i}.png" for i in range(40)], "age": 1.5, "sex": "f", "t": ["a", "b"] * 20}).to_csv(
        tmp_path / "a.csv"
    )
    frame = read_manifest(study(tmp_path, subgroups=["sex"]))[0].frame
    assert [name for name in frame if frame[name].dtype == object] == []
    assert {name for name in frame if frame[name].dtype == TEXT} == {
        "id", "group", "unit", "split", "path:ct", "raw:sex", "subgroup:sex",
    }  # fmt: skip


def test_text_read_in_pieces_lies_in_one(tmp_path: Path) -> None:
    """Of several, Arrow joins all whenever some rows are taken: an epoch would take the square of its rows."""
    names = [text_of(f"{part}{i}" for i in range(10)) for part in "abcd"]
    table = pd.DataFrame({"id": pd.concat(names, ignore_index=True), "age": np.arange(40.0)})
    table["sex"], table["t"] = ["f", "m"] * 20, ["a", "b"] * 20
    assert pieces(table["id"]) == 4
    modalities = {"table": {"kind": "tabular", "numeric": ["age"], "categorical": ["sex"]}}
    config = study(tmp_path, id="id", group="id", manifest=[], modalities=modalities)
    frame = load_manifest(config, table=table).frame
    assert frame["id"].tolist() == table["id"].tolist()
    assert {name: pieces(frame[name]) for name in frame if frame[name].dtype == TEXT} == dict.fromkeys(
        ["id", "group", "unit", "split", "raw:sex"], 1
    )
    assert in_one_piece(table)["id"].equals(table["id"])


def pieces(column: pd.Series) -> int:
    held = pa.array(column.array)
    return held.num_chunks if isinstance(held, pa.ChunkedArray) else 1


def test_a_problem_of_all_rows_is_not_said_of_all(tmp_path: Path) -> None:
    pd.DataFrame({"ct": ["../x.png"] * 500, "age": "old", "sex": "", "t": "c"}).to_csv(tmp_path / "a.csv")
    texts = [str(problem) for problem in read_manifest(study(tmp_path))[1]]
    assert sum("leaves the data root" in text for text in texts) == NAMED
    assert any(f"{500 - NAMED} more paths cannot be used" in text for text in texts)
    assert sum("'old', not a number (so have 499 other studies)" in text for text in texts) == 1


@pytest.mark.parametrize("shared", [1, 1000])
def test_paths_are_located_as_one_by_one(tmp_path: Path, shared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_SHARED", shared)
    root = tmp_path / "root"
    (root / "in" / "deep").mkdir(parents=True)
    (root / "in" / "a.png").write_bytes(b"")
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "out").mkdir()
    (root / "in" / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "in" / "fine.png").symlink_to(root / "in" / "a.png")
    (root / "in" / "outside").symlink_to(tmp_path / "out")
    (root / "in" / "deep" / "inside").symlink_to(root / "in")
    texts = [
        "", "a.png", "b.png", "in/a.png", "in/link.png", "in/fine.png", "in/outside/x.png", "in/outside/more/x.png",
        "in/deep/inside/link.png", "in/deep/inside/a.png", "in/deep", "in/outside", "nowhere/a.png", "a.png/b.png",
        "./a.png", "in//a.png", "in/", ".hidden/a.png", "in/.a.png", "..", "../secret.png", "in/../../secret.png",
        "in/..a.png", "/etc/passwd", str(root / "in" / "a.png"), "in\\a.png", "set.zip!a/b.png", "set.zip!../b.png",
        "v.nii!slice/3", "v.nii!largest/in/a.png", "v.nii!largest/../secret.png", "ä ö.png", "a\nb.png", "in/a!b.png",
    ]  # fmt: skip
    locator = Locator(root)
    for folder in (
        root,
        root / "in",
        f"{root}/set.zip!",
        f"{root}/set.zip!sub",
        f"{root}/x.npz!",
        f"{root}/in/outside",
    ):
        wanted = []
        for text in texts:
            try:
                wanted.append(locator.locate(text, str(folder)) if text else "")
            except DataError:
                wanted.append("")
        folders = pd.Categorical([str(folder)] * len(texts))
        located = locate_all(text_of(texts), folders, locator)
        assert located.tolist() == wanted
        assert relative_all(located, locator).tolist() == [locator.relative(path) for path in wanted]


def test_each_row_has_its_own_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").write_text("ct,age,sex,t\nx.png,1,f,a\ny.png,,,b\n")
    frame = read_manifest(study(tmp_path, manifest=["one/a.csv", "two/a.csv"]))[0].frame
    assert frame["path:ct"].tolist() == [f"{tmp_path}/{f}/{n}.png" for f in ("one", "two") for n in "xy"]
    assert frame["unit"].tolist() == ["one/x.png", "one/y.png", "two/x.png", "two/y.png"]


@pytest.mark.parametrize("name", ["g.csv", "g.parquet", "t.tsv"])
def test_thousands_of_columns(tmp_path: Path, name: str) -> None:
    random = np.random.default_rng(0)
    ids = [f"p{i:03d}" for i in range(100)]
    values = random.normal(5, 2, (100, 4000)).round(4)
    pd.DataFrame({"patient": ids, "t": ["a", "b"] * 50}).to_csv(tmp_path / "a.csv", index=False)
    order = random.permutation(100)
    wide = pd.DataFrame(values[order], columns=[f"gene_{g}" for g in range(4000)])
    wide.insert(0, "patient", [ids[i] for i in order])
    if name == "g.csv":
        wide.to_csv(tmp_path / name, index=False)
    elif name == "g.parquet":
        wide.to_parquet(tmp_path / name)
    else:
        wide.set_index("patient").T.to_csv(tmp_path / name, sep="\t", index_label="gene")
    join = {"table": name, "on": "patient", "transpose": name == "t.tsv"}
    omics = {"kind": "tabular", "numeric": ["gene_*"]}
    config = study(tmp_path, manifest={"table": "a.csv", "join": join}, id="patient", modalities={"omics": omics})
    start = time.process_time()
    manifest, problems = read_manifest(config)
    assert time.process_time() - start < 8
    assert problems == []
    frame = manifest.frame[[f"raw:gene_{g}" for g in range(4000)]]
    np.testing.assert_array_equal(frame.to_numpy(), values)
