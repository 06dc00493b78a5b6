"""Every entry of the catalogue: its facts are whole, and a folder in its documented layout becomes a study."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from catalog_layouts import fake_h5py, names, write_layout

from mailnet.cli import main
from mailnet.data.catalog import get_dataset, list_datasets, prepare_dataset
from mailnet.data.check import check_study
from mailnet.data.config import load_config
from mailnet.data.manifest import load_manifest
from mailnet.errors import ConfigError, DataError

ISSUE = """ham10000 isic2018 sipakmed herlev nickparvar cheng br35h iq_othnccd sarscov2_ct covid_ct covid_radiography
kermany_chest_xray shenzhen montgomery busi bus_bra breast_usg c_nmc_2019 pbc lc25000 kvasir wce_curated_colon
messidor2 aptos2019 lgg aanlib brats2021 derm7pt pad_ufes_20 ph2 rosmap"""
FLAT = "path chest derma oct pneumonia retina breast blood tissue organa organc organs"
SOLID = "organ nodule adrenal fracture vessel synapse"


@pytest.mark.parametrize("name", names())
def test_documented_layout_becomes_a_study(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_h5py(monkeypatch)
    entry = get_dataset(name)
    rows = write_layout(entry, tmp_path / "fetched")
    result = prepare_dataset(name, tmp_path / "fetched", tmp_path / "study")
    stops = [warning for warning in result.warnings if "would stop" in warning]
    assert not stops, stops
    config = load_config(result.study)
    frame = load_manifest(config).frame
    assert len(frame) == result.studies
    assert entry.pivot is not None or entry.prepare.only or len(frame) == rows
    # Nothing that belongs together stands on two sides.
    assert frame.groupby("unit")["split"].nunique().max() == 1
    report = check_study(config)
    assert not report.problems, [str(problem) for problem in report.problems]


def test_holds_what_it_should() -> None:
    found = {entry.name for entry in list_datasets()}
    flat, solid = [f"{name}mnist" for name in FLAT.split()], [f"{name}mnist3d" for name in SOLID.split()]
    assert not {*ISSUE.split(), *flat, *solid} - found


@pytest.mark.parametrize("name", names())
def test_facts_are_whole(name: str) -> None:
    entry = get_dataset(name)
    assert entry.url.startswith("https://")
    assert re.search(r"\b(19|20)\d\d\b", entry.citation)
    assert entry.verified_on
    for task in entry.tasks.values():
        assert not task.counts or set(task.counts) == set(task.class_values)
        if task.counts and task.kind != "multilabel" and entry.images and not entry.pivot:
            assert sum(task.counts.values()) <= (entry.rows or entry.images)
    assert not entry.splits or sum(entry.splits.values()) == (entry.rows or entry.images)


def test_sizes_of_medmnist() -> None:
    assert get_dataset("pathmnist").layout[0].path == "pathmnist.npz"
    assert get_dataset("pathmnist_224").layout[0].path == "pathmnist_224.npz"
    assert get_dataset("organmnist3d_64").modalities["ct"].size == (64, 64, 64)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="Did you mean"):
        get_dataset("pathmnist_96")


def test_missing_folder_says_where_to_get_it(tmp_path: Path) -> None:
    for source in (None, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="zenodo") as error:
            prepare_dataset("pathmnist", source, tmp_path / "study")
        assert "pathmnist.npz" in str(error.value)


def test_wrong_folder_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "archive.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"HAM10000_metadata.*Unpack archive.zip"):
        prepare_dataset("ham10000", tmp_path / "fetched", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_missing_column_is_named(tmp_path: Path) -> None:
    write_layout(get_dataset("ham10000"), tmp_path / "fetched")
    table = next((tmp_path / "fetched").glob("HAM*"))
    table.write_text(table.read_text().replace("lesion_id", "lesion"))
    with pytest.raises(DataError, match="has no column 'lesion_id'"):
        prepare_dataset("ham10000", tmp_path / "fetched", tmp_path / "study")


def test_missing_images_and_odd_values_are_warned_of(tmp_path: Path) -> None:
    write_layout(get_dataset("ham10000"), tmp_path / "fetched")
    table = next((tmp_path / "fetched").glob("HAM*"))
    table.write_text(table.read_text().replace("histo", "guess"))
    next((tmp_path / "fetched").rglob("*.jpg")).unlink()
    result = prepare_dataset("ham10000", tmp_path / "fetched", tmp_path / "study")
    text = "\n".join(result.warnings)
    assert "1 of 84 rows have no image" in text
    assert "'dx_type' has 1 values" in text
    assert "84 rows here, 10015 published" in text


def test_same_picture_stays_on_one_side(tmp_path: Path) -> None:
    write_layout(get_dataset("br35h"), tmp_path / "fetched")
    images = sorted((tmp_path / "fetched").rglob("*.jpg"))
    images[5].write_bytes(images[0].read_bytes())
    result = prepare_dataset("br35h", tmp_path / "fetched", tmp_path / "study")
    assert result.groups == result.studies - 1
    assert any("2 images are the same picture" in warning for warning in result.warnings)


def test_nearly_the_same_picture_stays_on_one_side(tmp_path: Path) -> None:
    from PIL import Image

    write_layout(get_dataset("br35h"), tmp_path / "fetched")
    images = sorted((tmp_path / "fetched").rglob("*.jpg"))
    for number, image in enumerate(images):
        rng = np.random.default_rng(number)
        rough = Image.fromarray(rng.integers(0, 255, (6, 6)).astype(np.uint8)).resize(
            (96, 96), Image.Resampling.BICUBIC
        )
        rough.save(image)
    with Image.open(images[0]) as first:
        first.resize((80, 80)).save(images[7], quality=60)
    result = prepare_dataset("br35h", tmp_path / "fetched", tmp_path / "study")
    assert result.groups == result.studies - 1
    assert not any("same picture" in warning for warning in result.warnings)


def test_publishers_split_loses_what_leaks(tmp_path: Path) -> None:
    rows = write_layout(get_dataset("bloodmnist"), tmp_path / "fetched")
    path = tmp_path / "fetched" / "bloodmnist.npz"
    arrays = dict(np.load(path))
    arrays["train_images"][3] = arrays["test_images"][3]
    np.savez_compressed(path, **arrays)
    result = prepare_dataset("bloodmnist", tmp_path / "fetched", tmp_path / "study")
    assert result.studies == rows - 1
    assert result.splits["test"] == rows // 3
    assert load_config(result.study).manifest[0].where == {"also_in_test": "no"}


def test_study_may_lie_beside_or_within_the_data(tmp_path: Path) -> None:
    write_layout(get_dataset("br35h"), tmp_path / "fetched")
    inside = prepare_dataset("br35h", tmp_path / "fetched", tmp_path / "fetched" / "study")
    again = prepare_dataset("br35h", tmp_path / "fetched", tmp_path / "fetched" / "study", force=True)
    assert again.studies == inside.studies
    with pytest.raises(ConfigError, match="already"):
        prepare_dataset("br35h", tmp_path / "fetched", tmp_path / "fetched" / "study")
    # Both may move together: no path is absolute.
    assert str(tmp_path) not in inside.study.read_text() + inside.table.read_text()


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_layout(get_dataset("br35h"), tmp_path / "fetched")
    source, out = str(tmp_path / "fetched"), str(tmp_path / "study")
    for arguments, expected in (
        (["data", "list"], "ham10000"),
        (["data", "show", "nickparvar"], "216 of 1,311"),
        (["data", "prepare", "br35h", "--from", source, "-o", out], "study.yaml"),
    ):
        assert _run(arguments) == 0
        assert expected in capsys.readouterr().out
        assert _run([*arguments, "--json", *(["--force"] if "--from" in arguments else [])]) == 0
        assert json.loads(capsys.readouterr().out)
    assert _run(["data", "prepare", "br35h"]) == 2
    assert "kaggle.com" in capsys.readouterr().err


def _run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)
