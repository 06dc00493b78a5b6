from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mailnet.data.check import check_study
from mailnet.data.check.pictures import Pictures, read_pictures
from mailnet.data.config import ImageConfig, TabularConfig, load_config
from mailnet.data.manifest import read_manifest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
STUDIES = sorted(path.stem for path in (BENCHMARKS / "studies").glob("*.yaml"))
# Studies of each split.
SIZES = {
    "breast": {"train": 151, "val": 38, "test": 63},
    "busbra": {"train": 638, "val": 214, "test": 212},
    "covid": {"train": 82, "val": 30, "test": 50},
    "derm_pap": {"train": 7628, "val": 1092, "test": 2207},
    "ham10000": {"train": 7002, "val": 999, "test": 2009},
    "lgg": {"train": 841, "val": 156, "test": 270},
    "pneumoniamnist": {"train": 4708, "val": 524, "test": 624},
    "xray_blood": {"train": 8558, "val": 1228, "test": 2453},
}
# With the brain MRI, which takes a minute to prepare: here it is divided by pictures that are the same as they are.
SLOW = {"mri_ct", "three"}
# Known with or after the answer, or of the origin of a picture rather than of the patient.
LEAKY = {
    *("label", "malignant", "dx_type", "split", "group", "file", "mask"),
    *("Interpretation", "BIRADS", "Verification", "Diagnosis", "Classification", "Pixel_size", "orig_size"),
    *("Shape", "Margin", "Echogenicity", "Posterior_features", "Halo", "Calcifications", "Skin_thickening"),
    *("birads", "histology", "kfold", "device", "bbox_orig", "orig_w", "orig_h"),
    *("finding", "survival", "intubated", "went_icu", "needed_supplemental_O2", "offset", "view", "date", "license"),
    *("doi", "url", "origin", "patientid", "temperature", "pO2_saturation", "leukocyte_count", "lymphocyte_count"),
    *("tumour_px", "slice", "pre_missing", "post_missing", "institution", "death01", "histological_type"),
    *("neoplasm_histologic_grade", "laterality", "tumor_location", "subtype", "abnormal"),
}


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """The script that makes the data root of the benchmark."""
    return _load("prepare")


@pytest.fixture(scope="module")
def root(prepare: ModuleType, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data root of the benchmark."""
    out: Path = tmp_path_factory.mktemp("benchmark")
    whole = prepare.looks

    def looks(pictures: Pictures) -> np.ndarray:
        if "brain_tumor" not in pictures.locations[0]:
            return np.asarray(whole(pictures))
        return np.unique(pictures.digest, axis=0, return_inverse=True)[1].reshape(-1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "looks", looks)
        prepare.main(["--data-root", str(data_folder), "--out", str(out)])
    return out


def test_every_study_is_tested() -> None:
    assert sorted({*SIZES, *SLOW}) == STUDIES


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_loads_and_reads_no_leaky_column(name: str) -> None:
    config = load_config(BENCHMARKS / "studies" / f"{name}.yaml")
    assert config.name == name
    assert config.source
    tables = [section for section in config.modalities.values() if isinstance(section, TabularConfig)]
    assert not {column for table in tables for column in (*table.numeric, *table.categorical)} & LEAKY
    size = 28 if name == "pneumoniamnist" else 64
    images = [section for section in config.modalities.values() if isinstance(section, ImageConfig)]
    assert images
    assert {section.size for section in images} == {(size, size)}


@pytest.mark.parametrize("name", STUDIES)
def test_the_manifest_of_a_study_shares_no_group_between_splits(name: str, root: Path) -> None:
    config = load_config(BENCHMARKS / "studies" / f"{name}.yaml", data_root=root)
    manifest, problems = read_manifest(config)
    assert problems == []
    frame = manifest.frame
    assert frame.groupby("group")["split"].nunique().eq(1).all()
    assert not frame["id"].duplicated().any()
    for task in config.tasks:
        # Every class can be learnt, and is asked for.
        counts = pd.crosstab(frame[f"label:{task}"], frame["split"]).loc[0:]
        assert len(counts) == len(config.tasks[task].class_values)
        assert (counts > 0).all(axis=None)
    if name not in SLOW:
        assert frame["split"].value_counts().to_dict() == SIZES[name]


@pytest.mark.parametrize("name", ["breast", "covid"])
def test_the_check_of_a_small_study_finds_no_leak(name: str, root: Path) -> None:
    report = check_study(load_config(BENCHMARKS / "studies" / f"{name}.yaml", data_root=root))
    assert report.status == 0, [str(finding) for finding in report.leaks]


def test_a_block_of_lung_ct_has_a_gap_before_the_next(root: Path) -> None:
    table = pd.read_csv(root / "prepared" / "lung_ct.csv")
    number = table["file"].str.extract(r"(\d+)\.jpg$", expand=False).astype(int)
    for label, gap in (("normal", 8), ("benign", 8), ("malignant", 14)):
        own = number[table["label"] == label].groupby(table["split"])
        lowest, highest = own.min(), own.max()
        assert lowest["train"] - highest["val"] > gap
        assert lowest["test"] - highest["train"] > gap


def test_of_covid_only_origins_with_both_answers_are_left(root: Path) -> None:
    table = pd.read_csv(root / "prepared" / "covid.csv")
    counts = pd.crosstab(table["origin"], table["label"])
    assert (counts >= 25).all(axis=None)
    missing = table["age"].isna().groupby(table["label"]).mean()
    assert missing.max() < 0.1


def test_copies_that_are_mirrored_upside_down_or_brighter_are_one_look(prepare: ModuleType, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 200, (40, 8, 8), dtype=np.uint8)
    images = [np.asarray(Image.fromarray(one).resize((64, 64), Image.Resampling.BICUBIC)) for one in coarse]
    images += [images[0][:, ::-1], images[1][::-1], images[2][::-1, ::-1], images[3] + 20, images[4].T]
    images += [np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)]
    for k, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{k}.png")
    paths = pd.Series([str(tmp_path / f"{k}.png") for k in range(len(images))])
    seen = read_pictures(paths, ImageConfig(size=64), "images")
    numbers = prepare.looks(seen)[seen.file]
    assert numbers[40:44].tolist() == numbers[:4].tolist()
    # A quarter turn is no copy that any of the sets has; empty pictures are not alike.
    assert len(set(numbers.tolist())) == len(images) - 4


def test_a_row_whose_group_comes_later_too_is_left_out(prepare: ModuleType) -> None:
    table = pd.DataFrame({"group": list("aabbccd"), "split": ["train", "test", "train", "val", "val", "test", "train"]})
    assert prepare.keep(table).index.tolist() == [1, 3, 5, 6]


def test_a_prepared_table_names_files_where_they_are(
    prepare: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    (tmp_path / "open").mkdir()
    with zipfile.ZipFile(tmp_path / "open" / "set.zip", "w") as archive:
        for k in range(20):
            stream = io.BytesIO()
            Image.fromarray(random.integers(0, 255, (32, 32), dtype=np.uint8)).save(stream, "PNG")
            archive.writestr(f"images/{k}.png", stream.getvalue())
        lines = [f"images/{k}.png,{'ab'[k % 2]},p{k // 4},train" for k in range(20)]
        archive.writestr("labels.csv", "\n".join(["file,label,owner,split", *lines]))
    own = prepare.Set("open/set.zip", lambda table: prepare.draw(table, prepare.SplitConfig()), owner="owner")
    monkeypatch.setitem(prepare.SETS, "made_up", own)
    table = prepare.table_of("made_up", tmp_path)
    assert table["file"].tolist() == [f"../open/set.zip!images/{k}.png" for k in range(20)]
    assert table["group"].nunique() == 5
    assert table.groupby("owner")["split"].nunique().eq(1).all()
    assert set(table["split"]) == {"train", "val", "test"}
