"""The leaks of docs/data.md: what ``mailnet check`` finds in public data sets, and in copies that were altered.

python benchmarks/leaks.py --data-root DATA [--study NAME ...] [--altered]
python benchmarks/leaks.py --made-up FOLDER [--rows N]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mailnet.data.check import CheckReport, check_study
from mailnet.data.config import parse_config

BRAIN = "bench_open/brain_tumor_mri_nickparvar128.zip"
OFFICIAL = {"column": "split_official", "values": {"train": "train", "test": "test"}}
BREAST = ["Tissue_composition", "Signs", "Symptoms", "Shape", "Margin", "Echogenicity", "Posterior_features", "Halo",
          "Calcifications", "Skin_thickening", "Interpretation", "BIRADS", "Verification", "Diagnosis"]  # fmt: skip
SKIN = ["smoke", "drink", "pesticide", "gender", "skin_cancer_history", "cancer_history", "has_piped_water",
        "has_sewage_system", "fitspatrick", "region", "itch", "grew", "hurt", "changed", "bleed", "elevation",
        "biopsed"]  # fmt: skip


def study(
    table: str, classes: str, size: int = 128, colour: bool = False, label: str = "label", **keys: Any
) -> dict[str, Any]:
    """The values of a study.yaml of one image a row."""
    image = {"column": "file", "size": size, "channels": 3 if colour else 1}
    modalities: dict[str, Any] = {} if table.endswith(".csv") else {"image": image}
    columns = {key: keys.pop(key) for key in ("numeric", "categorical") if key in keys}
    if columns:
        modalities["clinical"] = {"kind": "tabular", **columns}
    place = table if table.endswith(".csv") else f"{table}!labels.csv"
    return {
        "name": "leaks",
        "manifest": {"table": place, "missing": keys.pop("missing", [])},
        "split": keys.pop("split", "split"),
        "modalities": modalities,
        "tasks": {"diagnosis": {"column": label, "classes": classes.split()}},
        **keys,
    }


BRAIN_CLASSES = "glioma meningioma notumor pituitary"
CHEST = "bench_open/chest_xray_pneumonia128.zip"
STUDIES: dict[str, dict[str, Any]] = {
    "brain, official split": study(BRAIN, BRAIN_CLASSES, split=OFFICIAL),
    "brain, own split": study(BRAIN, BRAIN_CLASSES),
    "chest, official split, patients named": study(CHEST, "normal pneumonia", split=OFFICIAL, group="patient"),
    "chest, official split": study(CHEST, "normal pneumonia", split=OFFICIAL),
    "chest, own split": study(CHEST, "normal pneumonia", group="patient"),
    "breast ultrasound and table": study(
        "bench_open/breast_usg_clinical192.zip", "benign malignant normal", 192, numeric=["Age"], categorical=BREAST,
        missing=["not available"],
    ),
    "skin table (PAD-UFES-20)": study(
        "tabular/pad_ufes_20_metadata.csv", "BCC ACK NEV SEK SCC MEL", label="diagnostic", group="patient_id",
        split={"seed": 0}, numeric=["age", "diameter_1", "diameter_2"], categorical=SKIN,
    ),
    "HAM10000 with dx_type": study(
        "bench_nc/ham10000_image_clinical_mask128.zip", "akiec bcc bkl df mel nv vasc", colour=True, group="lesion_id",
        numeric=["age"], categorical=["sex", "localization", "dx_type"],
    ),
    "BUS-BRA with birads": study(
        "bench_open/busbra_paired128.zip", "benign malignant", group="case", categorical=["birads"]
    ),
    "BUS-BRA, images alone": study(
        "bench_open/busbra_paired128.zip", "benign malignant", group="case", subgroups=["device"]
    ),
    "fundus": study(
        "bench_unclear/fundus_eye_disease128.zip", "cataract diabetic_retinopathy glaucoma normal", colour=True
    ),
    "LC25000": study("bench_unclear/lung_histology_lc25000_96.zip", "lung_aca lung_n lung_scc", 96, True),
    "IQ-OTH/NCCD": study("bench_unclear/lung_ct_iqothnccd128.zip", "benign malignant normal"),
    "blood cells": study(
        "bench_open/blood_cells_pbc64.zip",
        "basophil eosinophil erythroblast ig lymphocyte monocyte neutrophil platelet", 64, True,
    ),
    "MedNIST": study("bench_open/medical_mnist_modality64.zip", "AbdomenCT BreastMRI CXR ChestCT Hand HeadCT", 64),
    "Herlev": study(
        "bench_unclear/pap_smear_herlev96.zip",
        "carcinoma_in_situ light_dysplastic moderate_dysplastic normal_columnar normal_intermediate "
        "normal_superficiel severe_dysplastic", 96, True, group="group",
    ),
}  # fmt: skip


def check(values: dict[str, Any], root: Path) -> tuple[CheckReport, float]:
    """Check a study; also the seconds it took."""
    start = time.perf_counter()
    return check_study(parse_config({**values, "data_root": str(root.resolve())})), time.perf_counter() - start


def summary(report: CheckReport) -> dict[str, Any]:
    """What of a report goes into a table, without the single cases."""
    kinds: dict[str, int] = {}
    for problem in report.problems:
        kinds[problem.remedy or ""] = kinds.get(problem.remedy or "", 0) + 1
    return {
        "status": report.status,
        "problems": kinds,
        "leaks": [finding.as_dict() for finding in report.leaks],
        "cautions": [finding.as_dict() for finding in report.cautions],
    }


def flagged(report: CheckReport) -> set[int]:
    """Positions of validation and test studies that are reported as copies."""
    found = [leak.places[:, 1] for leak in report.leaks if leak.kind.endswith("-duplicates")]
    return set(np.concatenate(found).tolist()) if found else set()


def crop(image: Image.Image, share: float) -> Image.Image:
    """Cut off ``share`` of the width and height, half of it on each side, in parts of a pixel."""
    w, h = image.size
    box = (w * share / 2, h * share / 2, w * (1 - share / 2), h * (1 - share / 2))
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Compress and decode again."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))


def resized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BILINEAR)


def brighter(image: Image.Image, factor: float) -> Image.Image:
    return image.point(lambda value: min(255, round(value * factor)))


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda image: image,
    "resized to 96": lambda image: resized(image, 96),
    "resized to 160": lambda image: resized(image, 160),
    "JPEG quality 60": lambda image: jpeg(image, 60),
    "5% brighter": lambda image: brighter(image, 1.05),
    "5% darker": lambda image: brighter(image, 0.95),
    "cut by 2%": lambda image: crop(image, 0.02),
    "cut by 4%": lambda image: crop(image, 0.04),
    "cut by 2%, resized to 96, 5% darker, JPEG 60": lambda image: jpeg(
        brighter(resized(crop(image, 0.02), 96), 0.95), 60
    ),
    "mirrored": ImageOps.mirror,
}


def altered(root: Path) -> None:
    """Print the recall of the 216 copies in the brain set, each time altered in one way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(root / BRAIN, folder / "brain.zip")
        with zipfile.ZipFile(folder / "brain.zip") as archive:
            rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode("utf-8-sig"))))
            train = [row for row in rows if row["split_official"] == "train"]
            copies = [row for row in rows if row["test_dup_of_train"] in ("1", "True", "true")]
            for label, change in ALTERED.items():
                table = [(f"brain.zip!{row['file']}", row["label"], "train") for row in train]
                for k, row in enumerate(copies):
                    image = Image.open(io.BytesIO(archive.read(row["file"])))
                    (folder / "copies").mkdir(exist_ok=True)
                    change(image).save(folder / "copies" / f"{k}.png")
                    table.append((f"copies/{k}.png", row["label"], "test"))
                with (folder / "table.csv").open("w", newline="") as file:
                    csv.writer(file).writerows([("file", "label", "split"), *table])
                values = study(BRAIN, BRAIN_CLASSES) | {"manifest": {"table": "table.csv"}}
                report, seconds = check(values, folder)
                found = len(flagged(report))
                line = {"altered": label, "copies": len(copies), "found": found, "seconds": round(seconds, 1)}
                print(json.dumps(line), flush=True)


def make_up(folder: Path, rows: int) -> Path:
    """Write a table of so many rows and their images of 24 x 24, in which nothing leaks; kept for the next time."""
    table = folder / f"{rows}.csv"
    if table.is_file():
        return table
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    ends = {"train": (0, rows * 7 // 10), "val": (rows * 7 // 10, rows * 8 // 10), "test": (rows * 8 // 10, rows)}
    coarse = random.integers(0, 256, (rows, 5, 5)).astype(np.uint8)
    images = coarse.repeat(5, axis=1).repeat(5, axis=2)[:, :24, :24]
    arrays: dict[str, Any] = {f"{split}_images": images[start:end] for split, (start, end) in ends.items()}
    np.savez(folder / f"{rows}.npz", **arrays)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "split", "label", "age", "sex"])
        for split, (start, end) in ends.items():
            ages, labels, sexes = random.normal(50, 10, rows), random.integers(0, 4, rows), random.integers(0, 2, rows)
            for k in range(end - start):
                place = f"{rows}.npz!{split}_images/{k}"
                writer.writerow([place, split, labels[k], round(float(ages[k]), 1), "fm"[sexes[k]]])
    return table


def at_scale(folder: Path, rows: int) -> None:
    """Print seconds and the most memory that a check of so many rows takes, in a process of its own."""
    make_up(folder, rows)
    values = study("", "0 1 2 3", 24, numeric=["age"], categorical=["sex"]) | {"manifest": f"{rows}.csv"}
    program = (
        "import json, resource, sys, time; from mailnet.data.check import check_study;"
        "from mailnet.data.config import parse_config; start = time.time();"
        "report = check_study(parse_config(json.loads(sys.argv[1])));"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "print(json.dumps({'rows': report.studies, 'status': report.status, 'leaks': len(report.leaks),"
        "'seconds': round(time.time() - start), 'peak_gib': round(peak / 2**20, 2)}))"
    )
    subprocess.run(
        [sys.executable, "-c", program, json.dumps(values | {"data_root": str(folder.resolve())})], check=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data-root", type=Path, help="folder of the data sets")
    where.add_argument("--made-up", type=Path, help="folder for made-up images, to measure time and memory on many")
    parser.add_argument("--rows", type=int, default=1_000_000, help="number of made-up images")
    parser.add_argument("--study", nargs="*", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--altered", action="store_true", help="alter the copies in the brain set and find them again")
    options = parser.parse_args()
    if options.made_up is not None:
        at_scale(options.made_up, options.rows)
        return
    if options.altered:
        altered(options.data_root)
        return
    for name in options.study:
        report, seconds = check(STUDIES[name], options.data_root)
        line: dict[str, Any] = {"study": name, "seconds": round(seconds, 1), **summary(report)}
        if name == "brain, official split":
            with zipfile.ZipFile(options.data_root / BRAIN) as archive:
                rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode("utf-8-sig"))))
            known = {k for k, row in enumerate(rows) if row["test_dup_of_train"] in ("1", "True", "true")}
            found = flagged(report)
            line["known copies"] = {"of": len(known), "found": len(known & found), "others": len(found - known)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
