"""Entries against real files: the names and columns that the entries document are those of the downloads."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mailnet.data.catalog import Prepared, prepare_dataset
from mailnet.data.catalog.content import Pictures
from mailnet.data.config import load_config
from mailnet.data.manifest import load_manifest


@pytest.fixture(autouse=True)
def _identical_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly equal pictures are searched for in test_catalog; here that would take minutes."""
    monkeypatch.setattr("mailnet.data.catalog.prepare.alike", lambda pictures: {})


@pytest.fixture
def uncompared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only names and counts matter: images are not read."""
    monkeypatch.setattr("mailnet.data.catalog.prepare.read_pictures", lambda places, section: Pictures({}, {}))


def _unpack(archive: Path, folder: Path, place: Callable[[str], str | None]) -> pd.DataFrame:
    """Write the members whose name ``place`` translates; return labels.csv."""
    with zipfile.ZipFile(archive) as whole:
        for member in whole.namelist():
            target = place(member)
            if target:
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                (folder / target).write_bytes(whole.read(member))
        return pd.read_csv(whole.open("labels.csv"), dtype=str, keep_default_na=False)


def _images(member: str) -> str | None:
    return member if member.endswith((".jpg", ".jpeg", ".png")) else None


def _empty_images(folder: Path, names: list[str]) -> None:
    """Where only names matter: one small image under every name."""
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB").save(folder / "one.png")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).hardlink_to(folder / "one.png")
    (folder / "one.png").unlink()


def _prepare(name: str, folder: Path) -> Prepared:
    result = prepare_dataset(name, folder, folder.parent / "study")
    frame = load_manifest(load_config(result.study)).frame
    assert frame.groupby("unit")["split"].nunique().max() == 1
    assert not [warning for warning in result.warnings if "does not name" in warning]
    return result


def test_every_verified_entry_is_verified_here() -> None:
    tests = {name.removeprefix("test_real_") for name in globals() if name.startswith("test_real_")}
    from mailnet.data.catalog import list_datasets

    assert {entry.name for entry in list_datasets() if entry.verified} == tests


def test_real_ham10000(data_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    archive = data_folder / "bench_nc" / "ham10000_image_clinical_mask128.zip"
    labels = _unpack(archive, folder, lambda name: None)
    labels["image_id"] = [Path(file).stem for file in labels["file"]]
    folder.mkdir()
    labels.rename(columns={"label": "dx"}).to_csv(folder / "HAM10000_metadata.csv", index=False)
    _empty_images(folder, [f"HAM10000_images_part_{1 + k % 2}/{name}.jpg" for k, name in enumerate(labels["image_id"])])
    result = _prepare("ham10000", folder)
    assert not result.warnings
    assert (result.studies, result.groups) == (10015, 7470)


def test_real_nickparvar(data_folder: Path, tmp_path: Path) -> None:
    archive = data_folder / "bench_open" / "brain_tumor_mri_nickparvar128.zip"
    _unpack(archive, tmp_path / "fetched", _images)
    result = _prepare("nickparvar", tmp_path / "fetched")
    assert result.classes["tumour"] == {"notumor": 1996, "glioma": 1621, "meningioma": 1645, "pituitary": 1757}
    assert result.groups < 7019 - 216


def test_real_kermany_chest_xray(data_folder: Path, tmp_path: Path, uncompared: None) -> None:
    archive = data_folder / "bench_open" / "chest_xray_pneumonia128.zip"
    labels = _unpack(archive, tmp_path / "fetched", _images)
    result = _prepare("kermany_chest_xray", tmp_path / "fetched")
    assert result.studies == 5840
    patients = pd.read_csv(result.table, dtype=str)["patient"]
    assert set(patients) == set(labels["patient"])


def test_real_bus_bra(data_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    archive = data_folder / "bench_open" / "busbra_paired128.zip"
    labels = _unpack(archive, folder, lambda name: name.replace("images/", "BUSBRA/Images/") if _images(name) else None)
    names = {"case": "Case", "histology": "Histology", "label": "Pathology", "birads": "BIRADS", "device": "Device"}
    table = labels.rename(columns={**names, "view": "Side", "kfold": "kFold"})
    table["ID"] = [Path(file).stem for file in table["file"]]
    table[["ID", *names.values(), "Side"]].to_csv(folder / "BUSBRA" / "bus_data.csv", index=False)
    table[["ID", "Pathology", "kFold"]].to_csv(folder / "BUSBRA" / "5-fold-cv.csv", index=False)
    result = _prepare("bus_bra", folder)
    assert not result.warnings
    assert (result.studies, result.groups) == (1064, 1064)


def test_real_breast_usg(data_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    archive = data_folder / "bench_open" / "breast_usg_clinical192.zip"
    labels = _unpack(archive, folder, lambda name: name.replace(".jpg", ".png") if name.startswith("images/") else None)
    labels["Image_filename"] = [Path(file).stem + ".png" for file in labels["file"]]
    labels.to_excel(folder / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx", index=False)
    result = _prepare("breast_usg", folder)
    assert not result.warnings
    age = load_manifest(load_config(result.study)).frame["raw:Age"]
    assert int(age.isna().sum()) == 42


def test_real_pbc(data_folder: Path, tmp_path: Path, uncompared: None) -> None:
    _unpack(data_folder / "bench_open" / "blood_cells_pbc64.zip", tmp_path / "fetched", _images)
    result = _prepare("pbc", tmp_path / "fetched")
    assert set(result.classes["cell"].values()) == {800}


def test_real_lc25000(data_folder: Path, tmp_path: Path) -> None:
    archive = data_folder / "bench_unclear" / "lung_histology_lc25000_96.zip"
    _unpack(archive, tmp_path / "fetched", lambda name: name.replace(".jpg", ".jpeg") if _images(name) else None)
    # The colon half is not among the real files.
    for label in ("colonca", "colonn"):
        names = [f"{'colon_aca' if label == 'colonca' else 'colon_n'}/{label}{k}.jpeg" for k in range(20)]
        rng = np.random.default_rng(len(label))
        for name in names:
            (tmp_path / "fetched" / name).parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)).save(tmp_path / "fetched" / name)
    result = _prepare("lc25000", tmp_path / "fetched")
    assert [result.classes["tissue"][name] for name in ("lung_aca", "lung_n", "lung_scc")] == [300, 300, 300]


def test_real_herlev(data_folder: Path, tmp_path: Path) -> None:
    archive = data_folder / "bench_unclear" / "pap_smear_herlev96.zip"
    _unpack(archive, tmp_path / "fetched", _images)
    result = _prepare("herlev", tmp_path / "fetched")
    assert result.studies == 917
    assert not [warning for warning in result.warnings if "published" in warning]


def test_real_iq_othnccd(data_folder: Path, tmp_path: Path) -> None:
    archive = data_folder / "bench_unclear" / "lung_ct_iqothnccd128.zip"
    with zipfile.ZipFile(archive) as whole:
        labels = pd.read_csv(whole.open("labels.csv"), dtype=str)
        for file, name in zip(labels["file"], labels["orig_name"], strict=True):
            target = tmp_path / "fetched" / f"{name.split(' case')[0]} cases" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(whole.read(file))
    result = _prepare("iq_othnccd", tmp_path / "fetched")
    assert not [warning for warning in result.warnings if "published" in warning]
    table = pd.read_csv(result.table, dtype=str).assign(number=lambda frame: frame["number"].astype(int))
    # Blocks: what is tested has higher numbers than what is trained, but for a few that repeat an earlier slice.
    for _, rows in table.groupby("label"):
        trained = rows.loc[rows["split"] == "train", "number"].quantile(0.95)
        assert (rows.loc[rows["split"] == "test", "number"] > trained).mean() > 0.95


def test_real_covid_chestxray(data_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    labels = _unpack(data_folder / "bench_nc" / "covid_cxr_clinical160.zip", folder, _images)
    labels["filename"] = [Path(file).name for file in labels["file"]]
    labels.assign(modality="X-ray").to_csv(folder / "metadata.csv", index=False)
    result = _prepare("covid_chestxray", folder)
    assert not [warning for warning in result.warnings if "published" in warning]
    expected = (labels["label"] == "covid19").sum()
    assert result.classes["covid"]["yes"] == expected


def test_real_eye_diseases(data_folder: Path, tmp_path: Path, uncompared: None) -> None:
    _unpack(data_folder / "bench_unclear" / "fundus_eye_disease128.zip", tmp_path / "fetched", _images)
    result = _prepare("eye_diseases", tmp_path / "fetched")
    assert set(result.classes["disease"].values()) == {400}
    assert result.groups < 1600


def test_real_mednist(data_folder: Path, tmp_path: Path, uncompared: None) -> None:
    _unpack(data_folder / "bench_open" / "medical_mnist_modality64.zip", tmp_path / "fetched", _images)
    result = _prepare("mednist", tmp_path / "fetched")
    assert set(result.classes["kind"].values()) == {500}


def test_real_pneumoniamnist(data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fetched").mkdir()
    file = data_folder / "bench_open" / "medmnist28" / "pneumoniamnist_rebuilt.npz"
    shutil.copy(file, tmp_path / "fetched" / "pneumoniamnist.npz")
    result = _prepare("pneumoniamnist", tmp_path / "fetched")
    assert not [warning for warning in result.warnings if "published" in warning]


def test_real_pad_ufes_20(data_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    folder.mkdir()
    shutil.copy(data_folder / "tabular" / "pad_ufes_20_metadata.csv", folder / "metadata.csv")
    names = pd.read_csv(folder / "metadata.csv")["img_id"]
    _empty_images(folder, [f"imgs_part_{1 + k % 3}/{name}" for k, name in enumerate(names)])
    result = _prepare("pad_ufes_20", folder)
    assert not result.warnings
    assert (result.studies, result.groups) == (2298, 1373)


def test_real_lgg(data_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fetched" / "kaggle_3m"
    archive = data_folder / "bench_nc" / "lgg_mri3_genomics128.zip"
    with zipfile.ZipFile(archive) as whole:
        labels = pd.read_csv(whole.open("labels.csv"), dtype=str, keep_default_na=False)
        # One slice with the tumour and one without of each patient are enough to see what is missing.
        few = labels.groupby(["patient", "label"]).head(1)
        for row in few.to_dict("records"):
            place = folder / f"{row['patient']}_19960101"
            place.mkdir(parents=True, exist_ok=True)
            flair = _grey(whole, f"{row['file']}_flair.jpg")
            pre = flair if row["pre_missing"] == "1" else _grey(whole, f"{row['file']}_pre.jpg")
            post = flair if row["post_missing"] == "1" else _grey(whole, f"{row['file']}_post.jpg")
            stem = f"{row['patient']}_19960101_{row['slice']}"
            Image.fromarray(np.stack([pre, flair, post], axis=2)).save(place / f"{stem}.tif")
            Image.fromarray(_grey(whole, f"{row['file']}_mask.png")).save(place / f"{stem}_mask.tif")
    table = labels.drop_duplicates("patient").rename(columns={"patient": "Patient"})
    table.to_csv(folder / "data.csv", index=False)
    result = _prepare("lgg", tmp_path / "fetched")
    written = pd.read_csv(result.table, dtype=str, keep_default_na=False)
    missing = written.groupby("patient")[["pre", "post"]].agg(lambda cells: (cells == "").all()).sum()
    assert (missing["pre"], missing["post"]) == (6, 10)
    assert dict(written["tumour"].value_counts()) == {"yes": 110, "no": len(few) - 110}


def _grey(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    with archive.open(member) as file:
        return np.asarray(Image.open(file).convert("L"))
