from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from factory import write_study, write_table
from mailnet.data.config import StudyConfig, load_config, parse_config
from mailnet.data.manifest import load_manifest, read_manifest
from mailnet.data.readers import read_image
from mailnet.data.tables import read_table
from mailnet.errors import DataError, MailnetError

Make = Callable[..., StudyConfig]


def problems(config: StudyConfig) -> list[MailnetError]:
    return read_manifest(config)[1]


def only(config: StudyConfig) -> MailnetError:
    found = problems(config)
    assert len(found) == 1, [str(problem) for problem in found]
    with pytest.raises(DataError) as caught:
        load_manifest(config)
    assert str(caught.value) == str(found[0])
    return found[0]


def cell(row: int, column: str, value: str) -> Callable[[list[dict[str, str]]], None]:
    return lambda rows: rows[row].__setitem__(column, value)


def test_a_paired_study_has_the_columns_of_the_contract(study: Make) -> None:
    frame = load_manifest(study()).frame
    assert list(frame.index) == list(range(60))
    assert frame["id"].tolist()[:2] == ["s000", "s001"]
    assert frame["group"].tolist()[:3] == ["p000", "p000", "p001"]
    assert set(frame["split"]) == {"train", "val", "test"}
    assert Path(frame["path:ct"][0]).is_file()
    assert frame["raw:age"].dtype == np.float64
    assert frame["raw:age"].isna()[8]
    assert frame["subgroup:site"].tolist()[:2] == ["north", "south"]
    assert frame["label:finding"].tolist()[:4] == [0, 1, 2, 0]


def test_an_unpaired_study_has_one_modality_a_row(study: Make) -> None:
    frame = load_manifest(study(regime="unpaired")).frame
    assert (frame[["has:ct", "has:photo", "has:clinical"]].sum(axis=1) == 1).all()
    assert frame["label:grade"][0] == -1


def test_rows_are_numbered_from_one_where_no_id_is_given(study: Make) -> None:
    assert load_manifest(study(id=None)).frame["id"].tolist()[:2] == ["row 1", "row 2"]


@pytest.mark.parametrize("classes", [[0, 1], ["0", "1"], [0.0, 1.0], {"no": 0, "yes": ["1", 2]}])
def test_numbers_are_labels_however_they_are_written(study: Make, classes: Any) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for i, row in enumerate(rows):
            row["grade"] = ("0", "1.0")[i // 3 % 2]

    frame = load_manifest(study(change, tasks={"grade": {"classes": classes}})).frame
    assert frame["label:grade"].tolist()[:4] == [0, 0, 0, 1]


def test_multilabel_columns_may_be_empty(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for i, row in enumerate(rows):
            row |= {"oedema": str(i % 2), "mass": "" if i == 0 else "True"}

    task = {"kind": "multilabel", "column": None, "classes": {"wet": "oedema", "mass": "mass"}}
    frame = load_manifest(study(change, tasks={"signs": task})).frame
    assert frame["label:signs:wet"].tolist()[:3] == [0, 1, 0]
    assert np.isnan(frame["label:signs:mass"][0])
    assert frame["label:signs:mass"][1] == 1


@pytest.mark.parametrize("row", ["Smith, Ann,a.png,1", "b.png,1\nSmith, Ann,a.png,1"])
def test_a_csv_with_a_comma_too_many_is_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "studies.csv").write_text(f"patient,ct,label\n{row}\n")
    with pytest.raises(DataError, match=r"studies\.csv: (has rows of more cells|line 2 ends after 2 of 3)"):
        read_table(str(tmp_path / "studies.csv"))


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    path = write_study(tmp_path, manifest="studies.parquet")
    table = pd.read_csv(tmp_path / "studies.csv")
    table.to_parquet(tmp_path / "studies.parquet")
    config = load_config(path)
    plain = load_manifest(config.model_copy(update={"manifest": load_config(path, ["manifest=studies.csv"]).manifest}))
    pd.testing.assert_frame_equal(load_manifest(config).frame, plain.frame)


def test_absent_cells_of_parquet(tmp_path: Path) -> None:
    path = write_study(tmp_path, manifest="studies.parquet")
    table = pd.read_csv(tmp_path / "studies.csv")
    table["age"] = table["age"].round().astype("Int64")
    table["grade"] = table["grade"].mask(table.index == 0, None)
    table["ct"] = table["ct"].mask(table.index == 1, pd.NA)
    table.to_parquet(tmp_path / "studies.parquet")
    frame = load_manifest(load_config(path)).frame
    assert np.isnan(frame["raw:age"][8])
    assert frame["label:grade"][0] == -1
    assert not frame["has:ct"][1]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_a_mark_and_other_separators(tmp_path: Path, separator: str) -> None:
    config = load_config(write_study(tmp_path))
    file = tmp_path / "studies.csv"
    file.write_text("\ufeff" + file.read_text(encoding="utf-8").replace(",", separator), encoding="utf-8")
    assert load_manifest(config).frame["id"][0] == "s000"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r"))  # as old spreadsheets end their lines
    assert load_manifest(config).frame["id"][0] == "s000"


def test_a_zip_holds_table_and_images(tmp_path: Path) -> None:
    path = write_study(tmp_path, manifest="set.zip!in/studies.csv")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "studies.csv", "in/studies.csv")
        for image in (tmp_path / "images").iterdir():
            archive.write(image, f"in/images/{image.name}")
            image.unlink()
    location = load_manifest(load_config(path)).frame["path:ct"][0]
    assert location == f"{tmp_path}/set.zip!in/images/ct000.png"
    assert read_image(location).shape == (32, 32)


def test_medmnist_files_are_tables(tmp_path: Path) -> None:
    arrays = {}
    for split, count in (("train", 8), ("val", 4), ("test", 2)):
        arrays[f"{split}_images"] = np.arange(count * 64, dtype=np.uint8).reshape(count, 8, 8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None]
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    config = parse_config(
        {
            "name": "npz",
            "data_root": str(tmp_path),
            "manifest": "set.npz",
            "split": "split",
            "modalities": {"xray": {"column": "file", "size": 8}},
            "tasks": {"sick": {"column": "label", "classes": [0, 1]}},
        }
    )
    frame = load_manifest(config).frame
    assert frame["split"].value_counts().to_dict() == {"train": 8, "val": 4, "test": 2}
    np.testing.assert_array_equal(read_image(frame["path:xray"][9]), arrays["val_images"][1])


def test_where_pivot_columns_and_missing(tmp_path: Path) -> None:
    rows = [
        {
            "case": str(c),
            "view": view,
            "file": f"{c}{view}.png",
            "age": "not available",
            "label": str(c % 2),
            "use": "1.0",
        }
        for c in range(10)
        for view in ("left", "right", "top")
    ]
    rows.append({"case": "99", "view": "left", "file": "z.png", "age": "3", "label": "0", "use": "0"})
    write_table(tmp_path / "a.csv", rows)
    config = parse_config(
        {
            "name": "two views",
            "data_root": str(tmp_path),
            "manifest": {
                "table": "a.csv",
                "where": {"view": ["left", "right"], "use": 1},
                "missing": ["not available"],
                "pivot": {"index": "case", "columns": "view"},
                "columns": {
                    "case": "case",
                    "one": "file.left",
                    "two": "file.right",
                    "years": "age.left",
                    "sick": "label",
                },
            },
            "id": "case",
            "modalities": {"one": None, "two": None, "t": {"kind": "tabular", "numeric": ["years"]}},
            "tasks": {"sick": {"classes": [0, 1]}},
        }
    )
    manifest, found = read_manifest(config)
    assert [problem.message for problem in found] == ["no training study has it"]
    assert manifest.frame["id"].tolist() == [str(c) for c in range(10)]
    assert manifest.frame["path:two"][3] == f"{tmp_path}/3right.png"
    assert manifest.frame["label:sick"].tolist() == [0, 1] * 5
    assert manifest.frame["raw:years"].isna().all()


def test_a_column_that_differs_between_views_is_asked_for_by_view(tmp_path: Path) -> None:
    path = write_study(tmp_path, manifest={"table": "studies.csv", "pivot": {"index": "patient", "columns": "site"}})
    found = " ".join(str(problem) for problem in problems(load_config(path)))
    assert "Did you mean 'ct.north'?" in found


def test_a_pivot_with_two_rows_for_one_cell(tmp_path: Path) -> None:
    path = write_study(tmp_path, manifest={"table": "studies.csv", "pivot": {"index": "site", "columns": "split"}})
    with pytest.raises(DataError, match=r"study north, file studies\.csv: pivot: two rows have split 'train'"):
        read_manifest(load_config(path))


def test_an_unknown_label_names_study_task_and_the_nearest_class(study: Make) -> None:
    problem = only(study(cell(7, "finding", "lefft")))
    assert (problem.study, problem.task) == ("s007", "finding")
    assert "Did you mean 'left'?" in str(problem)


def test_an_unknown_label_is_reported_once(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for row in rows[:5]:
            row["grade"] = "medium"

    assert "so have 4 other studies" in only(study(change)).message


def test_an_unknown_column_names_the_nearest(study: Make) -> None:
    problem = only(study(tasks={"finding": {"column": "findin"}}))
    assert str(problem).endswith("Did you mean 'finding'?")
    assert "tasks.finding" in str(problem)


@pytest.mark.parametrize("text", ["../secret.png", "/etc/secret.png", "..\\secret.png", "images/../../secret.png"])
def test_a_path_outside_the_root_is_refused(study: Make, text: str) -> None:
    problem = only(study(cell(3, "ct", text)))
    assert (problem.study, problem.modality, problem.file) == ("s003", "ct", text)
    assert "leaves the data root" in problem.message
    assert "data_root" in str(problem.remedy)


def test_a_link_out_of_the_root_is_refused(study: Make, tmp_path: Path) -> None:
    config = study(cell(3, "ct", "images/link.png"))
    (tmp_path / "outside.png").write_bytes(b"")
    (config.root / "images" / "link.png").symlink_to(tmp_path / "outside.png")
    assert "leaves the data root" in only(config).message


def test_a_member_outside_its_archive_is_refused(study: Make) -> None:
    assert "leaves its archive" in only(study(cell(3, "ct", "set.zip!../../x.png"))).message


def test_a_table_outside_the_root_is_refused(study: Make) -> None:
    with pytest.raises(DataError, match="leaves the data root"):
        read_manifest(study(manifest="../other.csv"))


def test_a_group_in_two_splits(study: Make) -> None:
    problem = only(study(cell(0, "split", "test")))
    assert "group 'p000' is in the splits train and test" in problem.message


def test_an_empty_split(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["split"] = row["split"].replace("val", "train")

    assert only(study(change)).message == "the split 'val' is empty"


def test_a_study_without_test_split_says_so(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["split"] = row["split"].replace("test", "train")

    assert "set split.test to 0" in str(only(study(change)))
    split = {"column": "split", "train": 0.8, "val": 0.2, "test": 0}
    assert problems(study(change, split=split)) == []


def test_only_the_splits_that_are_used_must_hold_studies(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [row for row in rows if row["split"] == "test"]

    config = study(change)
    assert len(problems(config)) >= 2
    assert len(load_manifest(config, ["test"]).frame) == 12


def test_an_unknown_split(study: Make) -> None:
    problem = only(study(cell(0, "split", "trian")))
    assert "which is no split" in problem.message
    assert "Did you mean 'train'?" in str(problem)


def test_splits_by_values(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["split"] = {"train": "3", "val": "4.0", "test": "5"}[row["split"]]

    split = {"column": "split", "values": {"train": [1, 2, 3], "val": 4, "test": 5}}
    assert load_manifest(study(change, split=split)).frame["split"].value_counts().to_dict() == {
        "train": 36,
        "val": 12,
        "test": 12,
    }


def test_a_class_without_training_example(study: Make) -> None:
    problem = only(study(tasks={"finding": {"classes": ["none", "left", "right", "both"]}}))
    assert problem.task == "finding"
    assert "'both' has no training example" in problem.message


def test_a_required_number_that_is_missing(study: Make) -> None:
    clinical = {"required": ["age"]}
    found = problems(study(modalities={"clinical": clinical}))
    assert [problem.study for problem in found] == ["s008", "s017", "s026", "s035", "s044", "s053"]
    assert all(problem.modality == "clinical" and "'age' is required" in problem.message for problem in found)


def test_text_in_a_numeric_column(study: Make) -> None:
    problem = only(study(cell(1, "age", "about 50")))
    assert (problem.study, problem.modality) == ("s001", "clinical")
    assert "'age' is 'about 50', not a number" in problem.message


def test_a_study_without_any_modality(study: Make) -> None:
    problem = only(study(lambda rows: rows[2].update(ct="", photo="", age="", site="")))
    assert (problem.study, problem.message) == ("s002", "has no modality at all")


def test_a_row_of_two_modalities_in_the_unpaired_regime(study: Make) -> None:
    problem = only(study(cell(0, "photo", "images/photo000.png"), regime="unpaired"))
    assert "2 modalities in the unpaired regime: ct, photo" in problem.message
    assert "regime: paired" in str(problem.remedy)


def test_a_task_of_two_modalities_in_the_unpaired_regime(study: Make) -> None:
    problem = only(study(cell(0, "grade", "low"), regime="unpaired"))
    assert problem.task == "grade"
    assert "ct and photo" in problem.message


def test_an_identifier_used_twice(study: Make) -> None:
    assert only(study(cell(1, "study", "s000"))).message == "the identifier is used twice"


def test_many_problems_are_raised_together(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for row in rows[:20]:
            row["ct"] = "../x.png"
        rows[30]["finding"] = "?"

    with pytest.raises(DataError) as caught:
        load_manifest(study(change))
    text = str(caught.value)
    assert text.startswith("21 problems in the data:")
    assert text.count("\n") == 11
    assert "11 more" in text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not a CSV table"),
        (b"a,a\n1,2\n", "names columns twice: a"),
        (b"name\n\xff\xfe\n", "is not UTF-8"),
        (b"study,ct\n", "no row is left"),
        (None, "--data-root"),
    ],
)
def test_tables_that_cannot_be_read(study: Make, content: bytes | None, text: str) -> None:
    config = study()
    table = config.root / "studies.csv"
    table.unlink()
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(DataError, match=text):
        read_manifest(config)


def test_a_broken_parquet_table(study: Make) -> None:
    config = study(manifest="a.parquet")
    (config.root / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="is not a Parquet table"):
        read_manifest(config)


def test_unpaired_data_sets_may_number_their_patients_alike(study: Make) -> None:
    def change(rows: list[dict[str, str]]) -> None:
        for i, row in enumerate(rows):
            row["patient"] = str(i if row["ct"] else 0 if row["split"] == "test" else 1000 + i)

    frame = load_manifest(study(change, regime="unpaired", group="patient")).frame
    assert frame["group"][0] == "ct: 0"


def test_real_tables_read(data_folder: Path) -> None:
    config = parse_config(
        {
            "name": "ham",
            "data_root": str(data_folder),
            "manifest": "bench_nc/ham10000_image_clinical_mask128.zip!labels.csv",
            "group": "lesion_id",
            "split": "split",
            "modalities": {
                "skin": {"column": "file", "channels": 3},
                "clinic": {"kind": "tabular", "numeric": ["age"], "categorical": ["sex"]},
            },
            "tasks": {"malignant": {"kind": "binary", "classes": [0, 1]}},
        }
    )
    assert load_manifest(config).frame["split"].value_counts().to_dict() == {"train": 7007, "test": 2009, "val": 999}
