from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from mailnet.data.check import check_study
from mailnet.data.config import load_config
from mailnet.data.manifest import read_manifest
from mailnet.data.study import load_study

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STUDIES = sorted(path.parent.name for path in EXAMPLES.glob("*/study.yaml"))
ROWS = {"busbra": 1064, "ham10000": 10015, "lgg": 1267, "unpaired": 19259}


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """The script that makes the zips."""
    spec = importlib.util.spec_from_file_location("prepare", EXAMPLES / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested() -> None:
    assert sorted(ROWS) == STUDIES


@pytest.mark.parametrize("name", STUDIES)
def test_an_example_loads_and_says_how_to_train_it(name: str, tmp_path: Path) -> None:
    config = load_config(EXAMPLES / name / "study.yaml", data_root=tmp_path)
    assert config.name == name
    assert config.source
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert f"mailnet train examples/{name}/study.yaml --data-root DATA" in readme


@pytest.mark.parametrize("name", STUDIES)
def test_an_example_fits_its_data(name: str, data_folder: Path, tmp_path: Path) -> None:
    config = load_config(EXAMPLES / name / "study.yaml", data_root=data_folder)
    manifest, problems = read_manifest(config)
    assert problems == []
    assert len(manifest.frame) == ROWS[name]
    data = load_study(config, cache=tmp_path, splits=["val"])
    assert len(data) == (manifest.frame["split"] == "val").sum()
    for modality, array in data.arrays.items():
        assert array[data.present[modality]][:20].std() > 0


def test_the_check_of_an_example_finds_nothing_wrong(data_folder: Path) -> None:
    report = check_study(load_config(EXAMPLES / "busbra" / "study.yaml", data_root=data_folder))
    assert report.ok
    assert report.groups == 1064
    assert report.present["right"] == {"train": 489, "val": 151, "test": 171}


def test_sequences_that_are_missing_are_absent(data_folder: Path) -> None:
    config = load_config(EXAMPLES / "lgg" / "study.yaml", data_root=data_folder)
    manifest, problems = read_manifest(config)
    assert problems == []
    missing = {
        name: manifest.frame.loc[~manifest.frame[f"has:{name}"], "group"].nunique() for name in config.modalities
    }
    assert missing == {"pre": 6, "flair": 0, "post": 10, "genomics": 0}
    assert not {c for c in manifest.frame if "tumour_px" in c or "mask" in c}
    clusters = [column for column in manifest.frame if column.startswith("raw:")]
    assert len(clusters) == 7
    # Of the patient, so they cannot tell his slices apart.
    assert (manifest.frame.groupby("group")[clusters].nunique() == 1).all(axis=None)


def save(path: Path, seed: int, size: tuple[int, int, int] = (60, 80, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)).save(path)


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def imitate_busbra(folder: Path) -> None:
    names = [f"bus_{case:04d}-{view}" for case in range(1, 41) for view in ("s" if case % 4 == 0 else "lr")]
    for k, name in enumerate(names):
        save(folder / "Images" / f"{name}.png", k)
    cases = [int(name[4:8]) for name in names]
    table = [
        {
            "ID": name,
            "Case": case,
            "Histology": "Fibroadenoma",
            "Pathology": "malignant" if case % 3 else "benign",
            "BIRADS": 2 + case // 5 % 4,
            "Device": "A",
        }
        for name, case in zip(names, cases, strict=True)
    ]
    write_rows(folder / "bus_data.csv", table)
    write_rows(
        folder / "5-fold-cv.csv",
        [{"ID": name, "Case": case, "kFold": 1 + case % 5} for name, case in zip(names, cases, strict=True)],
    )
    (folder / "LICENSE.txt").write_text("notice")


def imitate_ham10000(folder: Path) -> None:
    kinds = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    rows: list[dict[str, object]] = []
    for k in range(70):
        save(folder / f"HAM10000_images_part_{1 + k % 2}" / f"ISIC_{k}.jpg", k)
        age = "" if k % 10 == 0 else float(k)
        row = {"lesion_id": f"HAM_{k // 2 % 7 + 7 * (k // 14)}", "image_id": f"ISIC_{k}", "dx": kinds[k // 2 % 7]}
        rows.append({**row, "dx_type": "histo", "age": age, "sex": "unknown", "localization": "back"})
    write_rows(folder / "HAM10000_metadata.csv", rows)


def imitate_unpaired(folder: Path) -> None:
    seed = 0
    for part in ("Training", "Testing"):
        for kind in ("glioma", "meningioma", "notumor", "pituitary"):
            for k in range(10):
                save(folder / "brain" / part / kind / f"{part[:2]}-{kind[:2]}_{k}.jpg", seed := seed + 1)
    for part in ("train", "test"):
        for k in range(16):
            save(folder / "chest" / part / "NORMAL" / f"IM-{k // 2:04d}-{k % 2:04d}.jpeg", seed := seed + 1)
            save(folder / "chest" / part / "PNEUMONIA" / f"person{k // 2}_virus_{k}.jpeg", seed := seed + 1)
    for kind in ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet"):
        for k in range(10):
            # The last two are one picture under two names.
            save(folder / "blood" / kind / f"{kind[:2]}_{k}.png", seed := seed + (k < 9))


def imitate_lgg(folder: Path) -> None:
    rows: list[dict[str, object]] = []
    for patient in range(20):
        name = f"TCGA_{('CS', 'DU')[patient % 2]}_{4000 + patient}"
        for k in range(1, 21):
            file = folder / f"{name}_19960909" / f"{name}_19960909_{k}.tif"
            file.parent.mkdir(parents=True, exist_ok=True)
            image = np.random.default_rng(100 * patient + k).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            if patient == 3:
                image[..., 2] = image[..., 1]
            mask = np.zeros((32, 32), np.uint8)
            mask[8:16, 8:16] = 255 * (5 <= k < 15)
            Image.fromarray(image * (k > 1)).save(file)
            Image.fromarray(mask).save(file.with_name(f"{file.stem}_mask.tif"))
        clusters = ("RNASeq", "Methylation", "miRNA", "CN", "RPPA", "Oncosign", "COC")
        row = {"Patient": name} | {f"{c}Cluster": 1 + (patient + i) % 3 for i, c in enumerate(clusters)}
        rows.append(row | {"histological_type": 1, "neoplasm_histologic_grade": 1 + patient // 2 % 2})
    write_rows(folder / "data.csv", rows)


def labels_of(path: Path) -> list[dict[str, str]]:
    with zipfile.ZipFile(path) as archive:
        return list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))


def test_prepare_busbra(prepare: ModuleType, tmp_path: Path) -> None:
    imitate_busbra(tmp_path / "BUSBRA")
    prepare.main(["busbra", str(tmp_path / "BUSBRA"), str(tmp_path / "DATA")])
    config = load_config(EXAMPLES / "busbra" / "study.yaml", data_root=tmp_path / "DATA")
    report = check_study(config)
    assert report.ok, [str(problem) for problem in report.problems]
    assert report.studies == 40
    assert sum(report.present["right"].values()) == 30
    assert report.splits == {"train": 24, "val": 8, "test": 8}
    with zipfile.ZipFile(tmp_path / "DATA" / prepare.TARGETS["busbra"]) as archive:
        assert archive.read("LICENSE.txt") == b"notice"


def test_prepare_ham10000(prepare: ModuleType, tmp_path: Path) -> None:
    imitate_ham10000(tmp_path / "HAM")
    prepare.main(["ham10000", str(tmp_path / "HAM"), str(tmp_path / "DATA")])
    report = check_study(load_config(EXAMPLES / "ham10000" / "study.yaml", data_root=tmp_path / "DATA"))
    assert report.ok, [str(problem) for problem in report.problems]
    assert (report.studies, report.groups) == (70, 35)
    assert report.sizes["image"] == {"96 x 128": 70}


def test_prepare_unpaired(prepare: ModuleType, tmp_path: Path) -> None:
    imitate_unpaired(tmp_path)
    for name in ("brain", "chest", "blood"):
        prepare.main([name, str(tmp_path / name), str(tmp_path / "DATA")])
    report = check_study(load_config(EXAMPLES / "unpaired" / "study.yaml", data_root=tmp_path / "DATA"))
    assert report.ok, [str(problem) for problem in report.problems]
    assert report.leaks == []
    chest = labels_of(tmp_path / "DATA" / prepare.TARGETS["chest"])
    assert {row["patient"] for row in chest} == {f"IM-{k:04d}" for k in range(8)} | {f"person{k}" for k in range(8)}
    assert len({(row["patient"], row["split"]) for row in chest}) == 16


def test_prepare_lgg(prepare: ModuleType, tmp_path: Path) -> None:
    imitate_lgg(tmp_path / "kaggle_3m")
    prepare.main(["lgg", str(tmp_path / "kaggle_3m"), str(tmp_path / "DATA")])
    manifest, problems = read_manifest(load_config(EXAMPLES / "lgg" / "study.yaml", data_root=tmp_path / "DATA"))
    assert problems == []
    frame = manifest.frame
    assert len(frame) == 20 * 12
    assert set(frame.loc[~frame["has:post"], "group"]) == {"TCGA_DU_4003"}
    assert frame["has:pre"].all()
    assert frame.groupby("group")["label:tumour"].sum().unique().tolist() == [8]
    assert frame.groupby("group")["split"].nunique().eq(1).all()
    # The first slice is dark; the others without tumour are taken evenly.
    slices = [int(row["slice"]) for row in labels_of(tmp_path / "DATA" / prepare.TARGETS["lgg"])[:12]]
    assert slices == sorted(slices)
    assert slices[0] == 2


def test_prepare_says_where_nothing_is(prepare: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no image found"):
        prepare.main(["blood", str(tmp_path / "empty"), str(tmp_path)])
    assert not (tmp_path / "bench_open" / "blood_cells_pbc64.zip").exists()
