from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dicom_files import write_series
from factory import write_study
from mailnet.data.check import check_study
from mailnet.data.config import StudyConfig, TabularConfig, VolumeConfig, load_config
from mailnet.data.init import InitResult, init_study
from mailnet.errors import ConfigError, DataError


def picture(path: Path, value: int, channels: int = 1, size: tuple[int, int] = (40, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(abs(hash((path.name, path.parent.name))) % 2**32)
    image = random.integers(0, 200, (*size, 3) if channels == 3 else size)
    Image.fromarray((image + value).astype(np.uint8)).save(path)


def class_folders(folder: Path, n: int = 20, channels: int = 1) -> Path:
    for k, name in enumerate(("normal", "pneumonia")):
        for i in range(n):
            picture(folder / name / f"{name}{i}.png", 50 * k, channels)
    return folder


def whole(result: InitResult) -> StudyConfig:
    """The configuration, after a check that found nothing."""
    config = load_config(result.study)
    report = check_study(config)
    assert report.ok, [str(problem) for problem in report.problems]
    return config


def said(result: InitResult, words: str) -> bool:
    return any(words in note for note in result.notes)


def test_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "xray")
    result = init_study(tmp_path / "xray", tmp_path)
    config = whole(result)
    assert config.tasks["label"].kind == "binary"
    assert config.tasks["label"].classes == ["normal", "pneumonia"]
    image = config.modalities["image"]
    assert (image.channels, image.size) == (1, (48, 48))  # type: ignore[union-attr]
    assert pd.read_csv(tmp_path / "manifest.csv")["image"][0] == "xray/normal/normal0.png"
    assert said(result, "No patient is named")
    assert "# group: patient" in result.study.read_text()


def test_split_folders_and_a_validation_part_set_aside(tmp_path: Path) -> None:
    class_folders(tmp_path / "data" / "Training")
    class_folders(tmp_path / "data" / "Testing", n=5)
    result = init_study(tmp_path / "data", tmp_path / "data")
    whole(result)
    table = pd.read_csv(tmp_path / "data" / "manifest.csv")
    assert table["split"].value_counts().to_dict() == {"train": 36, "val": 4, "test": 10}
    assert table["image"][0].startswith("Testing/normal/")
    assert said(result, "no validation folder")


def test_train_and_val_without_test(tmp_path: Path) -> None:
    class_folders(tmp_path / "data" / "train")
    class_folders(tmp_path / "data" / "val", n=5)
    result = init_study(tmp_path / "data", tmp_path)
    assert whole(result).split.test == 0
    assert said(result, "no test folder")


def test_a_zip_of_class_folders_inside_a_folder(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", channels=3)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    out = tmp_path / "study"
    config = whole(init_study(tmp_path / "set.zip", out))
    assert config.modalities["image"].channels == 3  # type: ignore[union-attr]
    assert pd.read_csv(out / "manifest.csv")["image"][0] == "../set.zip!set/normal/normal0.png"


def test_a_table_of_images_and_columns(tmp_path: Path) -> None:
    study = write_study(tmp_path / "data")
    table = study.parent / "studies.csv"
    study.unlink()
    guessed = init_study(table, tmp_path / "guess")
    assert list(whole(guessed).tasks) == ["finding"]
    assert whole(guessed).name == "guess"  # what 'train' calls the run, as the user knows it
    assert said(guessed, "'finding' is a multiclass task because of its name")
    result = init_study(table, tmp_path, labels=["finding", "grade"])
    config = whole(result)
    assert (config.group, config.id, config.split.column) == ("patient", "study", "split")
    assert list(config.modalities) == ["ct", "photo"]
    assert config.modalities["photo"].channels == 3  # type: ignore[union-attr]
    assert list(config.tasks) == ["finding", "grade"]
    assert config.root == tmp_path / "data"
    text = result.study.read_text()
    assert "# table: {kind: tabular, numeric: [age], categorical: [site]}" in text
    assert "# subgroups: [site]" in text
    # The block in the comment works as it stands.
    result.study.write_text(text.replace("  # table:", "  table:"))
    assert isinstance(load_config(result.study).modalities["table"], TabularConfig)
    assert check_study(load_config(result.study)).ok


def test_a_column_that_repeats_the_label_is_no_input(tmp_path: Path) -> None:
    rows = pd.DataFrame({"PatientID": range(60), "diagnosis": ["yes", "no"] * 30, "histology": ["a", "b"] * 30})
    rows["age"] = np.arange(60) + 0.5
    rows["smoker"] = [0, 0, 1, 1] * 15
    rows["hospital"] = "north"
    rows.to_parquet(tmp_path / "patients.parquet")
    result = init_study(tmp_path / "patients.parquet", tmp_path / "out")
    config = whole(result)
    assert config.modalities["table"] == TabularConfig(kind="tabular", numeric=["age"], categorical=["smoker"])
    assert config.tasks["diagnosis"].classes == ["no", "yes"]
    assert config.group == "PatientID"
    assert said(result, "'histology' goes with one class only")
    assert said(result, "'hospital' holds one value only")


def test_words_of_a_split_column_are_translated(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", n=10)
    names = [f"images/{c}/{c}{i}.png" for c in ("normal", "pneumonia") for i in range(10)]
    splits = ["Training"] * 6 + ["Validation"] * 2 + ["Testing"] * 2
    frame = pd.DataFrame({"path": names, "mask": names, "class": [2] * 10 + [10] * 10, "Set": splits * 2})
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = init_study(tmp_path / "t.csv", tmp_path, size=32)
    config = whole(result)
    assert config.split.values == {"train": "Training", "val": "Validation", "test": "Testing"}
    assert config.tasks["class"].classes == ["2", "10"]
    assert list(config.modalities) == ["image"]
    assert config.modalities["image"].size == (32, 32)  # type: ignore[union-attr]
    assert said(result, "'mask' holds masks")


@pytest.mark.parametrize("several", [False, True])
def test_medmnist_npz(tmp_path: Path, several: bool) -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 30), ("val", 6), ("test", 6)):
        arrays[f"{split}_images"] = random.integers(0, 255, (n, 28, 28), dtype=np.uint8)
        labels = np.arange(n)[:, None] % 3 == np.arange(3) if several else np.arange(n)[:, None] % 3
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    np.savez(tmp_path / "toy.npz", **arrays)  # type: ignore[arg-type]
    config = whole(init_study(tmp_path / "toy.npz", tmp_path / "out"))
    assert config.modalities["image"].size == (28, 28)  # type: ignore[union-attr]
    assert config.tasks["label"].kind == ("multilabel" if several else "multiclass")
    assert config.split.column == "split"


def test_sixteen_bit_and_grey_colour_files(tmp_path: Path) -> None:
    for k, name in enumerate("ab"):
        for i in range(12):
            deep = np.full((32, 32), 1000 * k + i + 1000, np.uint16)
            (tmp_path / "deep" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(deep).save(tmp_path / "deep" / name / f"{i}.png")
            (tmp_path / "rgb" / name).mkdir(parents=True, exist_ok=True)
            grey = np.full((32, 32, 3), 100 * k + i, np.uint8)
            Image.fromarray(grey).save(tmp_path / "rgb" / name / f"{i}.png")
    deep_config = whole(init_study(tmp_path / "deep", tmp_path / "1", size=32))
    assert deep_config.modalities["image"].range == (0, 4095)  # type: ignore[union-attr]
    grey_config = whole(init_study(tmp_path / "rgb", tmp_path / "2"))
    image = grey_config.modalities["image"]
    assert (image.channels, image.convert) == (1, True)  # type: ignore[union-attr]


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    class_folders(tmp_path / "xray")
    first = init_study(tmp_path / "xray", tmp_path).study.read_text()
    with pytest.raises(ConfigError, match="exists already"):
        init_study(tmp_path / "xray", tmp_path, size=28)
    assert (tmp_path / "study.yaml").read_text() == first
    assert "size: 28" in init_study(tmp_path / "xray", tmp_path, size=28, force=True).study.read_text()


def test_sources_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        init_study(tmp_path / "nowhere", tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match="unknown kind"):
        init_study(tmp_path / "notes.txt", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="at least two class folders"):
        init_study(tmp_path / "empty", tmp_path)
    class_folders(tmp_path / "xray")
    with pytest.raises(ConfigError, match="class folders have none"):
        init_study(tmp_path / "xray", tmp_path, labels=["x"])
    picture(tmp_path / "xray" / "loose.png", 0)
    with pytest.raises(DataError, match="1 images lie in no class folder"):
        init_study(tmp_path / "xray", tmp_path)
    (tmp_path / "t.csv").write_text("path,label\na.png,x\nb.png,y\n")
    with pytest.raises(ConfigError, match=r"no column 'lable'.*Did you mean 'label'"):
        init_study(tmp_path / "t.csv", tmp_path, labels=["lable"])
    with pytest.raises(DataError, match="does not exist"):
        init_study(tmp_path / "t.csv", tmp_path)
    (tmp_path / "u.csv").write_text("path,result\na.png,x\nb.png,y\n")
    with pytest.raises(ConfigError, match="Name it with --label; it could be result"):
        init_study(tmp_path / "u.csv", tmp_path)
    (tmp_path / "v.csv").write_text("file,label\na,x\nb,y\n" + "".join(f"{k}c,x\n" for k in range(30)))
    with pytest.raises(ConfigError, match="no column can be an input"):
        init_study(tmp_path / "v.csv", tmp_path)


def series(folder: Path, name: str, suffix: str = ".dcm") -> None:
    write_series(folder, np.full((4, 30, 20), 7, np.int16), SeriesInstanceUID=f"1.2.{name}")
    for file in list(folder.glob("*.dcm")):
        file.rename(file.with_suffix(suffix))


@pytest.mark.parametrize("suffix", ["", ".dcm"])
def test_a_folder_of_a_series_is_a_study_and_its_name_the_patient(tmp_path: Path, suffix: str) -> None:
    for k in range(12):
        series(tmp_path / "ct" / ("ill", "well")[k % 2] / f"P{k // 2}", str(k), suffix)
    result = init_study(tmp_path / "ct", tmp_path)
    table = pd.read_csv(result.manifest)  # type: ignore[arg-type]
    assert len(table) == 12
    assert table["image"][0] == "ct/ill/P0"
    config = load_config(result.study)
    assert config.group == "patient"
    section = config.modalities["image"]
    assert isinstance(section, VolumeConfig)
    assert section.units == "HU"
    assert section.size == (16, 28, 28)


@pytest.mark.parametrize(
    "column", ["pid", "PID", "MRN", "mrn_no", "patient_mrn", "Patient MRN", "Medical Record Number", "patient_id"]
)
def test_columns_that_name_the_patient(tmp_path: Path, column: str) -> None:
    rows = pd.DataFrame({column: [f"P{k // 2}" for k in range(40)], "label": ["yes", "no"] * 20})
    rows["age"] = np.arange(40) + 0.5
    rows["case"] = np.arange(40) + 100
    rows.to_csv(tmp_path / "t.csv", index=False)
    result = init_study(tmp_path / "t.csv", tmp_path / "out")
    assert load_config(result.study).group == column
    assert said(result, f"'{column}' is the patient (20 of them)")
    assert said(result, "'age' is the input")


def test_one_column_holds_and_two_hold(tmp_path: Path) -> None:
    rows = pd.DataFrame({"label": ["yes", "no"] * 30, "age": np.arange(60), "note": [f"n {k}" for k in range(60)]})
    rows.to_csv(tmp_path / "t.csv", index=False)
    assert said(init_study(tmp_path / "t.csv", tmp_path / "one"), "'note' holds one value only or too many")
    rows.assign(ward="A", sex=["f", "m"] * 30).to_csv(tmp_path / "t.csv", index=False)
    assert said(init_study(tmp_path / "t.csv", tmp_path / "two"), "'note', 'ward' hold one value only or too many")


def test_folders_below_the_classes_are_patients(tmp_path: Path) -> None:
    for k in range(40):
        picture(tmp_path / "us" / ("ill", "well")[k % 2] / f"P{k // 4}" / f"{k}.png", k)
    result = init_study(tmp_path / "us", tmp_path)
    assert whole(result).group == "patient"
    assert said(result, "taken for patients")


def test_masks_beside_their_images_are_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path / "us")
    picture(tmp_path / "us" / "normal" / "normal3_mask.png", 0)
    picture(tmp_path / "us" / "normal" / "normal3_mask_1.png", 0)
    result = init_study(tmp_path / "us", tmp_path)
    assert len(pd.read_csv(tmp_path / "manifest.csv")) == 40
    assert said(result, "2 files are named as masks")


def test_a_table_of_series_and_nifti(tmp_path: Path) -> None:
    rows = []
    for k in range(12):
        series(tmp_path / f"P{k}" / "CT", "1")
        series(tmp_path / f"P{k}" / "MR" / "a", "2")
        series(tmp_path / f"P{k}" / "MR" / "b", "3")
        nibabel.save(
            nibabel.Nifti1Image(np.full((9, 8, 7), k, np.int16), np.eye(4)),
            tmp_path / f"P{k}" / "a.nii.gz",
        )
        rows.append((f"P{k}", f"P{k}/CT", f"P{k}/MR", f"P{k}/a.nii.gz", "ab"[k % 2]))
    frame = pd.DataFrame(rows, columns=["patient", "ct", "mr", "t1", "label"])
    frame.to_excel(tmp_path / "set.xlsx", index=False)
    result = init_study(tmp_path / "set.xlsx", tmp_path / "out")
    config = load_config(result.study)
    assert list(config.modalities) == ["ct", "mr", "t1"]
    assert {name: section.kind for name, section in config.modalities.items()} == {
        "ct": "volume",
        "mr": "image",
        "t1": "volume",
    }
    assert said(result, "mr: nothing could be read")
    assert config.modalities["t1"].percentiles == (1, 99.5)  # type: ignore[union-attr]
