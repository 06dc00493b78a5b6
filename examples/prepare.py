"""Builds the zip of an example from the public download.

    python examples/prepare.py busbra   BUSBRA DATA
    python examples/prepare.py ham10000 HAM10000 DATA
    python examples/prepare.py brain    BRAIN_TUMOR_MRI DATA
    python examples/prepare.py chest    CHEST_XRAY DATA
    python examples/prepare.py blood    PBC_dataset_normal_DIB DATA
    python examples/prepare.py lgg      kaggle_3m DATA

The first folder is what the download unpacks to, the second is what training is given as --data-root. Each zip holds
small copies of the images and ``labels.csv`` with a row an image. Where a data set has no split that keeps patients
together, one is drawn: 70/10/20, stratified; pictures that look the same stay together.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageOps

from mailnet.data.config import SplitConfig
from mailnet.data.splits import split_rows
from mailnet.files import replacing

Row = dict[str, str]
Item = tuple[
    Row, Image.Image | dict[str, Image.Image]
]  # one image is written as the row's file, several by their names
SUFFIXES = (".jpg", ".jpeg", ".png")
DARK = 40  # brightest grey level of a slice that holds no brain
TARGETS = {
    "busbra": "bench_open/busbra_paired128.zip",
    "ham10000": "bench_nc/ham10000_image_clinical_mask128.zip",
    "brain": "bench_open/brain_tumor_mri_nickparvar128.zip",
    "chest": "bench_open/chest_xray_pneumonia128.zip",
    "blood": "bench_open/blood_cells_pbc64.zip",
    "lgg": "bench_nc/lgg_mri3_genomics128.zip",
}


def busbra(source: Path) -> Iterator[Item]:
    """Two views of a lesion; the official folds 1 to 3 train, 4 validates, 5 tests."""
    folds = {row["ID"]: row["kFold"] for row in read_csv(source / "5-fold-cv.csv")}
    views = {"l": "left", "r": "right"}
    for row in read_csv(source / "bus_data.csv"):
        name, fold = row["ID"], folds[row["ID"]]
        yield (
            {
                "file": f"images/{name}.jpg",
                "case": row["Case"],
                "view": views.get(name.rpartition("-")[2], "single"),
                "label": row["Pathology"].lower(),
                "birads": row["BIRADS"],
                "histology": row["Histology"].lower(),
                "device": row["Device"],
                "kfold": fold,
                "split": {"4": "val", "5": "test"}.get(fold, "train"),
            },
            ImageOps.pad(grey(source / "Images" / f"{name}.png"), (128, 128)),
        )


def ham10000(source: Path) -> Iterator[Item]:
    """Dermoscopic images with age, sex and site; several images of one lesion stay together."""
    files = {path.stem: path for path in pictures(source)}
    rows = read_csv(source / "HAM10000_metadata.csv")
    splits = divide([row["lesion_id"] for row in rows], [row["dx"] for row in rows])
    for row, split in zip(rows, splits, strict=True):
        malignant = row["dx"] in ("mel", "bcc", "akiec")
        columns = {key: row[key] for key in ("lesion_id", "dx_type", "age", "sex", "localization")}
        labels = {"label": row["dx"], "malignant": str(int(malignant)), "split": split}
        image = Image.open(files[row["image_id"]]).convert("RGB").resize((128, 96), Image.Resampling.LANCZOS)
        yield {"file": f"images/{row['image_id']}.jpg", **columns, **labels}, image


def brain(source: Path) -> Iterator[Item]:
    """Sections of brain MRI in class folders below Training and Testing."""
    yield from class_folders(source, (128, 128), grey)


def chest(source: Path) -> Iterator[Item]:
    """Chest X-rays of children in class folders below train, val and test; the file name names the patient."""

    def patient(path: Path) -> str:
        # person12_virus_47, IM-0115-0001, NORMAL2-IM-0501-0001
        match = re.match(r"(person\d+|(?:NORMAL2-)?IM-\d+)", path.stem)
        return match[1] if match else path.stem

    yield from class_folders(source, (128, 128), grey, patient)


def blood(source: Path) -> Iterator[Item]:
    """Blood cells in class folders, the square in the middle."""

    def middle(path: Path) -> Image.Image:
        image = Image.open(path).convert("RGB")
        return ImageOps.fit(image, (min(image.size),) * 2)

    yield from class_folders(source, (64, 64), middle)


def lgg(source: Path) -> Iterator[Item]:
    """Slices of three MRI sequences, of each patient up to eight with tumour and four without, and genomic clusters."""
    patients = {row.pop("Patient"): row for row in read_csv(source / "data.csv")}
    strata = [row["histological_type"] + row["neoplasm_histologic_grade"] for row in patients.values()]
    splits = dict(zip(patients, divide(list(patients), strata), strict=True))
    for name, clinical in patients.items():
        files = sorted(source.glob(f"{name}_*/*_mask.tif"), key=lambda path: int(path.stem.split("_")[-2]))
        masks = {file: Image.open(file).convert("L") for file in files}
        slices = {file: Image.open(file.with_name(file.name.replace("_mask", ""))).split() for file in files}
        found = [file for file in files if masks[file].getbbox()]
        clear = [file for file in files if file not in found and any(slices[file][1].histogram()[DARK:])]
        # Where a sequence is missing, its channel repeats FLAIR in every slice.
        missing = {
            key: str(int(all(several[place] == several[1] for several in slices.values())))
            for place, key in ((0, "pre_missing"), (2, "post_missing"))
        }
        chosen = {*spread(found, 8), *spread(clear, 4)}
        for file in filter(chosen.__contains__, files):
            number = file.stem.split("_")[-2]
            row = {
                "file": f"{name}/{int(number):03d}",
                "patient": name,
                "institution": name.split("_")[1],
                "slice": number,
                "label": "tumour" if file in found else "no_tumour",
                "tumour_px": str(masks[file].resize((128, 128), Image.Resampling.NEAREST).histogram()[255]),
                **missing,
                **clinical,
                "split": splits[name],
            }
            small = [channel.resize((128, 128), Image.Resampling.LANCZOS) for channel in slices[file]]
            names = [f"{row['file']}_{sequence}.jpg" for sequence in ("pre", "flair", "post")]
            yield row, dict(zip(names, small, strict=True))


def spread(files: list[Path], most: int) -> list[Path]:
    """At most so many files, evenly from first to last."""
    steps = max(min(most, len(files)) - 1, 1)
    return [files[round(k * (len(files) - 1) / steps)] for k in range(min(most, len(files)))]


def class_folders(
    source: Path,
    size: tuple[int, int],
    load: Callable[[Path], Image.Image],
    patient: Callable[[Path], str] | None = None,
) -> Iterator[Item]:
    """Rows of images whose folder is their class, divided so that a patient or a repeated picture stays on one side."""
    paths = sorted(pictures(source))
    labels = [path.parent.name.lower() for path in paths]
    looks = [load(path).convert("L").resize((32, 32), Image.Resampling.BILINEAR).tobytes().hex() for path in paths]
    patients = [patient(path) if patient else "" for path in paths]
    splits = divide(joined(looks, patients), labels)
    for path, label, owner, split in zip(paths, labels, patients, splits, strict=True):
        name = path.relative_to(source).with_suffix(".jpg").as_posix()
        extra = {"patient": owner} if patient else {}
        image = load(path).resize(size, Image.Resampling.LANCZOS)
        yield {"file": name, "label": label, **extra, "split": split}, image


def joined(looks: list[str], patients: list[str]) -> list[str]:
    """One group for all that is linked by the same look or the same patient."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for look, patient in zip(looks, patients, strict=True):
        if patient:
            parent[root(f"look {look}")] = root(f"patient {patient}")
    return [root(f"look {look}") for look in looks]


def divide(groups: list[str], labels: list[str]) -> list[str]:
    """The split of every row."""
    return list(split_rows(groups, [(label,) for label in labels], SplitConfig(train=0.7, val=0.1, test=0.2)))


def pictures(folder: Path) -> Iterator[Path]:
    """Every image file below a folder."""
    return (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def grey(path: Path) -> Image.Image:
    """An image in grey levels."""
    return Image.open(path).convert("L")


def read_csv(path: Path) -> list[Row]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def write_zip(target: Path, items: Iterator[Item], notices: list[Path]) -> int:
    """Write images, ``labels.csv`` and the notices that must travel with the data; return the number of rows."""
    rows = []
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for row, given in items:
            for name, image in (given if isinstance(given, dict) else {row["file"]: given}).items():
                content = io.BytesIO()
                image.save(content, "JPEG", quality=92, subsampling=0)
                archive.writestr(name, content.getvalue())
            rows.append(row)
        if not rows:
            raise SystemExit("no image found: give the folder that the download unpacks to")
        table = io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        archive.writestr("labels.csv", table.getvalue())
        for notice in notices:
            archive.write(notice, notice.name)
    return len(rows)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(TARGETS))
    parser.add_argument("source", type=Path, help="folder of the public download")
    parser.add_argument("data", type=Path, help="folder that training is given as --data-root")
    given = parser.parse_args(arguments)
    target = given.data / TARGETS[given.name]
    makers = {"busbra": busbra, "ham10000": ham10000, "brain": brain, "chest": chest, "blood": blood, "lgg": lgg}
    count = write_zip(target, makers[given.name](given.source), sorted(given.source.glob("LICENSE*")))
    print(f"{count} rows -> {target}")


if __name__ == "__main__":
    main()
