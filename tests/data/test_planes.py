from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailnet.data import planes
from mailnet.data.config import ImageConfig, parse_config
from mailnet.data.manifest import Manifest, read_manifest
from mailnet.errors import DataError, MailnetError

PLANES = {"a.nii": 3, "b.nii": 2, "c.nii": 3, "flat.png": 1}


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(location: str, section: ImageConfig) -> int:
        if Path(location).name not in PLANES:
            raise DataError("the file does not exist", file=location)
        return PLANES[Path(location).name]

    monkeypatch.setattr(planes, "count_planes", count)


def read(folder: Path, text: str, **changes: Any) -> tuple[Manifest, list[MailnetError]]:
    (folder / "a.csv").write_text(text)
    values: dict[str, Any] = {
        "name": "planes",
        "data_root": str(folder),
        "manifest": "a.csv",
        "id": "id",
        "split": {"column": "split", "train": 1, "val": 0, "test": 0, "values": {"train": 1, "val": 2}},
        "modalities": {"ct": {"slice": "all"}, "photo": {}},
        "tasks": {"t": {"classes": ["a", "b"]}},
    }
    manifest, problems = read_manifest(parse_config(values | changes), ["train"])
    return manifest, problems


ROWS = "id,ct,photo,t,split\nx,a.nii,x.png,a,1\ny,b.nii,,b,1\nz,,z.png,b,1\n"


def test_each_plane_is_a_study(tmp_path: Path) -> None:
    manifest, problems = read(tmp_path, ROWS)
    frame = manifest.frame
    assert problems == []
    assert frame["id"].tolist() == ["x slice 0", "x slice 1", "x slice 2", "y slice 0", "y slice 1", "z"]
    assert frame["row"].tolist() == [1, 1, 1, 2, 2, 3]
    assert frame["group"].tolist() == frame["unit"].tolist() == ["x", "x", "x", "y", "y", "z"]
    assert frame["path:ct"].tolist() == [
        *(f"{tmp_path}/a.nii!slice/{k}" for k in range(3)),
        *(f"{tmp_path}/b.nii!slice/{k}" for k in range(2)),
        "",
    ]
    assert frame["path:photo"].tolist() == [*[f"{tmp_path}/x.png"] * 3, "", "", f"{tmp_path}/z.png"]
    assert frame["label:t"].tolist() == [0, 0, 0, 1, 1, 1]


def test_planes_are_never_divided(tmp_path: Path) -> None:
    text = "ct,photo,t\n" + "".join(f"{'abc'[k % 3]}.nii,{k}.png,{'ab'[k % 2]}\n" for k in range(40))
    frame = read(tmp_path, text, id=None, split={"train": 0.5, "val": 0.25, "test": 0.25})[0].frame
    assert frame.groupby("row")["split"].nunique().max() == 1
    assert frame.groupby("row")["unit"].nunique().max() == 1
    assert set(frame["split"]) == {"train", "val", "test"}


def test_files_of_a_study_have_as_many_planes(tmp_path: Path) -> None:
    both = {"ct": {"slice": "all"}, "pet": {"slice": "all"}}
    text = "id,ct,pet,t,split\nx,a.nii,c.nii,a,1\ny,a.nii,b.nii,b,1\n"
    manifest, problems = read(tmp_path, text, modalities=both)
    assert [(problem.study, problem.message) for problem in problems] == [("y", "has 2 planes of 'pet' and 3 of 'ct'")]
    assert manifest.frame["path:pet"].tolist()[2].endswith("c.nii!slice/2")


def test_an_unreadable_file_is_left_to_decoding(tmp_path: Path) -> None:
    manifest, problems = read(tmp_path, ROWS.replace("b.nii", "lost.nii"))
    assert problems == []
    assert manifest.frame["path:ct"].tolist()[3] == f"{tmp_path}/lost.nii!slice/0"


def test_a_plane_that_a_table_names_is_one_study(tmp_path: Path) -> None:
    frame = read(tmp_path, ROWS.replace("b.nii", "b.nii!slice/1"))[0].frame
    assert frame["id"].tolist()[3:] == ["y", "z"]
    assert frame["path:ct"].tolist()[3] == f"{tmp_path}/b.nii!slice/1"


def test_the_plane_with_the_largest_mask(tmp_path: Path) -> None:
    largest = {"ct": {"slice": "largest", "mask": "roi"}}
    text = "id,ct,roi,t,split\nx,a.nii,m/a.nii,a,1\ny,b.nii,,b,1\nz,c.nii,../c.nii,b,1\nw,c.nii!slice/2,,b,1\n"
    manifest, problems = read(tmp_path, text, modalities=largest)
    assert manifest.frame["path:ct"].tolist()[0] == f"{tmp_path}/a.nii!largest/{tmp_path}/m/a.nii"
    assert manifest.frame["path:ct"].tolist()[3] == f"{tmp_path}/c.nii!slice/2"
    assert [(problem.study, problem.modality) for problem in problems] == [("y", "ct"), ("z", "ct")]
    assert "'roi' names no mask of the image" in problems[0].message
    assert "leaves the data root" in problems[1].message
