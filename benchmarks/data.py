"""Measures reading: files against plain Pillow, pydicom and nibabel, cached epochs, and a study of a million rows.

python benchmarks/data.py [--data FOLDER] [--files 48] [--repeats 5] [--out data.json]
python benchmarks/data.py --rows 1000000 [--side 28] [--out million.json]

Readers take turns on the same files within one run; what is printed are medians over the repeats. Cold means that the
operating system was told to forget the files first. The first form uses one core.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pydicom
import torch
from PIL import Image
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from mailnet.cli.output import print_table
from mailnet.data.config import ImageConfig, StudyConfig, load_config
from mailnet.data.dataset import StudyDataset, epoch_rows, iterate
from mailnet.data.images import load_image
from mailnet.data.manifest import load_manifest
from mailnet.data.readers import read_scan
from mailnet.data.scan import reading_of
from mailnet.data.study import StudyData, load_study

DEFAULT_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
SIDE = 512
SIZE = (128, 128)
BATCH = 64
CACHED_SECONDS = 3.0
Result = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """Files of one kind, the modality that they are, and how they are decoded without mailnet."""

    name: str
    paths: list[str]
    section: ImageConfig
    decode: Callable[[str], np.ndarray]


# --- files ----------------------------------------------------------------------------------------------------------


def make_formats(folder: Path, data: Path, count: int) -> list[Format]:
    """Write ``count`` files of every format: of real images where the data folder has them, else of made ones."""
    colour = list(_colour(data, count))
    grey = [image.convert("L") for image in colour]
    one, three = ImageConfig(size=SIZE, resize="stretch"), ImageConfig(size=SIZE, resize="stretch", channels=3)
    hounsfield = ImageConfig(size=SIZE, resize="stretch", range=(-4096, 4096))
    values = ImageConfig(size=SIZE, resize="stretch", slice="middle")

    def write(name: str, save: Callable[[int, Path], None]) -> list[str]:
        paths = [folder / f"{place:03}_{name}" for place in range(count)]
        for place, path in enumerate(paths):
            save(place, path)
        return [str(path) for path in paths]

    volume = _volume(data)
    return [
        Format("PNG grey", write("grey.png", lambda i, path: grey[i].save(path)), one, _pillow),
        Format("PNG colour", write("rgb.png", lambda i, path: colour[i].save(path)), three, _pillow),
        Format("JPEG grey", write("grey.jpg", lambda i, path: grey[i].save(path, quality=90)), one, _pillow),
        Format("JPEG colour", write("rgb.jpg", lambda i, path: colour[i].save(path, quality=90)), three, _pillow),
        Format("DICOM raw", write("raw.dcm", lambda i, path: _dicom(path, data, grey[i], False)), hounsfield, _pydicom),
        Format("DICOM J2K", write("j2k.dcm", lambda i, path: _dicom(path, data, grey[i], True)), hounsfield, _pydicom),
        Format("NIfTI", write("plain.nii", lambda i, path: nibabel.save(volume, path)), values, _nibabel),
        Format("NIfTI gz", write("packed.nii.gz", lambda i, path: nibabel.save(volume, path)), values, _nibabel),
    ]


def _colour(data: Path, count: int) -> Iterator[Image.Image]:
    from zipfile import ZipFile

    archive = data / "bench_open" / "blood_cells_pbc64.zip"
    names: list[str] = []
    if archive.is_file():
        with ZipFile(archive) as zipped:
            names = [name for name in zipped.namelist() if name.endswith(".jpg")]
            for name in names[:: max(1, len(names) // count)][:count]:
                with zipped.open(name) as file:
                    # Larger than it was, and with the noise that a sensor would have added.
                    yield _noisy(Image.open(file).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        return
    random = np.random.default_rng(0)
    for _ in range(count):
        small = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        yield _noisy(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(1).normal(0, 2, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _dicom(path: Path, data: Path, image: Image.Image, packed: bool) -> None:
    real = data / "io_samples" / "dicom" / "wg04" / ("CT1_J2KR.dcm" if packed else "CT1_UNC.dcm")
    if real.is_file():
        shutil.copy(real, path)
        return
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "CT", "MONOCHROME2", 1
    dataset.Rows = dataset.Columns = SIDE
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = (np.asarray(image).astype(np.uint16) * 16).tobytes()
    if packed:
        dataset.compress(JPEG2000Lossless)
    dataset.save_as(path, enforce_file_format=True)


def _volume(data: Path) -> nibabel.Nifti1Image:
    real = data / "io_samples" / "nifti" / "niivue" / "chris_PD.nii.gz"
    if real.is_file():
        return nibabel.Nifti1Image.from_bytes(gzip.decompress(real.read_bytes()))
    values = np.random.default_rng(0).integers(0, 256, (192, 256, 54), dtype=np.uint8)
    return nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0]))


# --- plain readers --------------------------------------------------------------------------------------------------


def _pillow(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _pydicom(path: str) -> np.ndarray:
    dataset = pydicom.dcmread(path)
    values: np.ndarray = apply_rescale(dataset.pixel_array, dataset)
    return values


def _nibabel(path: str) -> np.ndarray:
    image = nibabel.Nifti1Image.from_filename(path)
    return np.asanyarray(image.dataobj[..., image.shape[2] // 2])


def _plain_resize(array: np.ndarray) -> np.ndarray:
    image = Image.fromarray(array if array.dtype == np.uint8 else array.astype(np.float32))
    return np.asarray(image.resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR))


# --- measuring ------------------------------------------------------------------------------------------------------


def measure_format(kind: Format, repeats: int, cold: bool) -> Result:
    """Return images a second of mailnet and of plain decoding, with and without bringing them to a size."""
    reading = reading_of(kind.section)
    readers: dict[str, Callable[[str], Any]] = {
        "read": lambda path: read_scan(path, reading),
        "plain read": kind.decode,
        "load": lambda path: load_image(path, kind.section),
        "plain load": lambda path: _plain_resize(kind.decode(path)),
    }
    for reader in readers.values():
        reader(kind.paths[0])
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repeats):
        for name, reader in readers.items():
            if cold:
                forget(kind.paths)
            start = time.perf_counter()
            for path in kind.paths:
                reader(path)
            seconds[name].append(time.perf_counter() - start)
    rates = {name: len(kind.paths) / statistics.median(times) for name, times in seconds.items()}
    # Of neighbours in time, since the machine's speed wanders.
    ratio = {
        name: statistics.median(p / m for p, m in zip(seconds[f"plain {name}"], seconds[name], strict=True))
        for name in ("read", "load")
    }
    rounded = {name: round(rate, 1) for name, rate in rates.items()}
    return {"format": kind.name, "cold": cold, "bytes": os.path.getsize(kind.paths[0])} | rounded | {
        "read ratio": round(ratio["read"], 2),
        "load ratio": round(ratio["load"], 2),
    }  # fmt: skip


def forget(paths: Sequence[str]) -> None:
    """Let the operating system drop files from memory."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_cached(folder: Path, channels: int, rows: int) -> Result:
    """Return images a second of cached epochs in random order: batches assembled as in training, on one core."""
    random = np.random.default_rng(0)
    shape = (rows, *SIZE, 3) if channels == 3 else (rows, *SIZE)
    config = made_study(folder / f"cached{channels}", random.integers(0, 256, shape, dtype=np.uint8), channels)
    data = load_study(config, cache=folder / "cache")
    dataset = StudyDataset(data)
    shards = len(list((folder / "cache").glob("*/*.images.npy")))
    rates: dict[str, list[float]] = {"batches": [], "iterate": []}
    for epoch in range(5):
        batches = _batches(data, epoch)
        for name in rates:
            start, seen = time.perf_counter(), 0
            for batch in iterate(dataset, batches) if name == "iterate" else map(dataset.batch, batches):
                seen += len(batch)
                if time.perf_counter() - start > CACHED_SECONDS:
                    break
            rates[name].append(seen / (time.perf_counter() - start))
    return {"channels": channels, "rows": rows, "shards": shards} | {
        name: round(statistics.median(several), 1) for name, several in rates.items()
    }


def _batches(data: StudyData, epoch: int) -> list[np.ndarray]:
    order = epoch_rows(data, "train", seed=0, epoch=epoch)
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def made_study(folder: Path, images: np.ndarray, channels: int) -> StudyConfig:
    """Write a study whose images are items of an npz."""
    rows = len(images)
    folder.mkdir(parents=True)
    np.savez_compressed(folder / "items.npz", images=images)
    number = pd.Series(np.arange(rows).astype(str))
    frame = pd.DataFrame(
        {
            "image": "items.npz!images/" + number,
            "patient": "p" + pd.Series((np.arange(rows) // 4).astype(str)),
            "label": np.where(np.arange(rows) // 4 % 3 == 0, "yes", "no"),
            "age": np.arange(rows) % 90,
        }
    )
    frame.to_csv(folder / "studies.csv", index=False)
    size = list(images.shape[1:3])
    values = {
        "name": "made",
        "manifest": "studies.csv",
        "group": "patient",
        "modalities": {
            "image": {"channels": channels, "size": size},
            "clinical": {"kind": "tabular", "numeric": ["age"]},
        },
        "tasks": {"label": {"kind": "binary", "classes": ["no", "yes"]}},
    }
    (folder / "study.yaml").write_text(json.dumps(values))
    return load_config(folder / "study.yaml")


# --- a million rows -------------------------------------------------------------------------------------------------


class Memory(threading.Thread):
    """Notes the largest resident memory of a stage: all of it, and without the pages of mapped files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.whole = self.own = 0

    def run(self) -> None:
        """Look every 20 ms."""
        while True:
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            self.whole = max(self.whole, int(status["VmRSS"].split()[0]))
            self.own = max(self.own, int(status["RssAnon"].split()[0]))
            time.sleep(0.02)

    @contextmanager
    def stage(self, name: str, results: list[Result]) -> Iterator[None]:
        """Measure what runs inside."""
        self.whole = self.own = 0
        start = time.perf_counter()
        yield
        time.sleep(0.05)
        seconds = round(time.perf_counter() - start, 2)
        results.append({"stage": name, "seconds": seconds, "peak MiB": self.whole // 1024, "own MiB": self.own // 1024})
        print(results[-1], file=sys.stderr, flush=True)


def measure_rows(folder: Path, rows: int, side: int) -> Result:
    """Return seconds and peak memory of each stage of a study of so many rows."""
    config = made_study(folder / "study", np.zeros((rows, side, side), np.uint8), 1)
    memory, stages = Memory(), list[Result]()
    memory.start()
    with memory.stage("imports", stages):
        pass
    with memory.stage("manifest", stages):
        load_manifest(config)
    with memory.stage("decode into the cache", stages):
        load_study(config, cache=folder / "cache")
    with memory.stage("load from the cache", stages):
        data = load_study(config, cache=folder / "cache")
    with memory.stage("one epoch", stages):
        dataset = StudyDataset(data)
        seen = sum(len(batch) for batch in iterate(dataset, _batches(data, 0)))
    return {"rows": rows, "side": side, "epoch": seen, "stages": stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MAILNET_TEST_DATA", DEFAULT_DATA)))
    parser.add_argument("--files", type=int, default=48, help="files of each format")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cached", type=int, default=12000, help="images of the cached epochs")
    parser.add_argument("--rows", type=int, help="measure a study of so many rows instead")
    parser.add_argument("--side", type=int, default=28, help="pixels a side of its images")
    parser.add_argument("--folder", type=Path, help="where files are made; default the system's temporary folder")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        if options.rows:
            result = measure_rows(Path(name), options.rows, options.side)
            columns = ["stage", "seconds", "peak MiB", "own MiB"]
            print_table("", columns, [[str(stage[c]) for c in columns] for stage in result["stages"]])
        else:
            result = measure_all(Path(name), options)
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


def measure_all(folder: Path, options: argparse.Namespace) -> Result:
    """Measure and print everything but the million rows."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    formats = make_formats(folder, options.data, options.files)
    files = [measure_format(kind, options.repeats, cold) for cold in (True, False) for kind in formats]
    columns = ["format", "cold", "read", "plain read", "read ratio", "load", "plain load", "load ratio"]
    print_table("images a second, one core", columns, [[str(row[c]) for c in columns] for row in files])
    cached = [measure_cached(folder, channels, options.cached // channels) for channels in (1, 3)]
    columns = ["channels", "rows", "shards", "batches", "iterate"]
    print_table("cached 128 x 128, images a second", columns, [[str(row[c]) for c in columns] for row in cached])
    return {"size": list(SIZE), "files": files, "cached": cached}


if __name__ == "__main__":
    main()
