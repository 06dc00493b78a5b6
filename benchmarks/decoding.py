"""Measures what a decoded file costs: one thread, two threads and two processes; and what is read of a volume.

python benchmarks/decoding.py [--data FOLDER] [--out decoding.json]

The first table is of files of the samples, in images a second, each file alternating between the three ways. The second
is of a made-up volume of 256 x 256 x 160 int16, medians of five in milliseconds, one thread, beside nibabel's own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from mailnet.cli.output import print_table
from mailnet.data.config import ImageConfig, PixelConfig, VolumeConfig
from mailnet.data.images import count_planes, load_image

DEFAULT_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
CT: dict[str, Any] = {"range": (-4000, 4000)}
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "CT 512 x 512, raw": ("dicom/wg04/CT1_UNC.dcm", CT),
    "CT, JPEG 2000 lossless": ("dicom/wg04/CT1_J2KR.dcm", CT),
    "CT, JPEG-LS": ("dicom/wg04/CT1_JLSL.dcm", CT),
    "CT, RLE": ("dicom/wg04/CT1_RLE.dcm", CT),
    "ultrasound 640 x 480 colour, raw": ("dicom/wg04/US1_UNC.dcm", {"channels": 3}),
    "radiograph 1760 x 1760, JPEG 2000": ("dicom/wg04/RG3_J2KR.dcm", {"range": (0, 65535)}),
}
SECONDS = 1.0


def load_often(location: str, section: PixelConfig, times: int) -> None:
    """Decode a file so many times."""
    for _ in range(times):
        load_image(location, section)


def rate(pool: Executor | None, location: str, section: PixelConfig, times: int) -> float:
    """Images a second, by this thread or by two workers."""
    start = time.perf_counter()
    if pool is None:
        load_often(location, section, times)
    else:
        list(pool.map(load_often, [location] * 2, [section] * 2, [times // 2] * 2))
    return times / (time.perf_counter() - start)


def workers(data: Path) -> list[dict[str, Any]]:
    """One thread, two threads and two processes on each file."""
    rows = []
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, get_context("spawn")) as processes:
        for name, (path, settings) in FILES.items():
            location, section = str(data / "io_samples" / path), ImageConfig(size=(128, 128), **settings)
            list(processes.map(load_often, [location] * 4, [section] * 4, [1] * 4))
            times = max(4, 2 * round(SECONDS * rate(None, location, section, 2) / 2))
            found = {
                how: statistics.median(rate(pool, location, section, times) for _ in range(3))
                for how, pool in (("one thread", None), ("two threads", threads), ("two processes", processes))
            }
            rows.append({"file": name, **{how: round(value, 1) for how, value in found.items()}})
    return rows


def milliseconds(work: Callable[[], Any]) -> float:
    """Median time of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return round(1000 * statistics.median(times), 2)


def volume() -> list[dict[str, Any]]:
    """What is read of a volume, plain and packed."""
    values = np.random.default_rng(0).normal(200, 50, (256, 256, 160)).astype(np.int16)
    window: dict[str, Any] = {"percentiles": (0, 100)}
    ways: dict[str, PixelConfig] = {
        "volume to 64": VolumeConfig(kind="volume", **window),
        "volume to 2 mm and 64": VolumeConfig(kind="volume", spacing=(2, 2, 2), **window),
        "middle plane and neighbours": ImageConfig(slice="middle", neighbours=1, **window),
        "sagittal middle plane": ImageConfig(slice="middle", plane="sagittal", **window),
    }
    rows = []
    for suffix in (".nii", ".nii.gz"):
        with tempfile.TemporaryDirectory() as folder:
            # A new file each time, since a packed one that is asked for again is kept unpacked.
            names = [f"{folder}/{k}{suffix}" for k in range(2)]
            for name in names:
                nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), name)
            turns = [0]

            def other(names: list[str] = names, turns: list[int] = turns) -> str:
                turns[0] += 1
                return names[turns[0] % 2]

            row: dict[str, Any] = {"file": suffix}
            row["nibabel get_fdata"] = milliseconds(lambda other=other: nibabel.load(other()).get_fdata())
            for name, section in ways.items():
                row[name] = milliseconds(lambda section=section, other=other: load_image(other(), section))
            section = ways["middle plane and neighbours"]
            row["count planes"] = milliseconds(lambda section=section, other=other: count_planes(other(), section))
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {"workers": workers(given.data), "volume": volume()}
    for title, rows in found.items():
        print_table(title, list(rows[0]), [[str(value) for value in row.values()] for row in rows])
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
