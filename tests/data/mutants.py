"""Mutants of real DICOM files, and the process that reads them: ``python mutants.py DATA PROGRESS FIRST LAST``."""

from __future__ import annotations

import csv
import json
import logging
import random
import resource
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MEMORY = 2**30
LARGEST_FILE = 60_000
# Group and element of what a decoder trusts, and values that it should not.
FIELDS = {
    "Rows": (0x28, 0x10),
    "Columns": (0x28, 0x11),
    "BitsAllocated": (0x28, 0x100),
    "BitsStored": (0x28, 0x101),
    "HighBit": (0x28, 0x102),
    "PixelRepresentation": (0x28, 0x103),
    "SamplesPerPixel": (0x28, 2),
    "PlanarConfiguration": (0x28, 6),
    "NumberOfFrames": (0x28, 8),
    "Photometric": (0x28, 4),
    "RescaleSlope": (0x28, 0x1053),
    "PixelData": (0x7FE0, 0x10),
    "Item": (0xFFFE, 0xE000),
    "TransferSyntax": (2, 0x10),
}
NUMBERS = (0, 1, 2, 7, 8, 12, 16, 32, 64, 255, 4096, 32767, 32768, 65535)
LENGTHS = (0, 1, 2, 255, 2**16, 2**28, 2**31 - 1, 2**32 - 2, 2**32 - 1)
SYNTAXES = (
    "",
    ".1",
    ".2",
    ".1.99",
    ".4.50",
    ".4.51",
    ".4.57",
    ".4.70",
    ".4.80",
    ".4.81",
    ".4.90",
    ".4.91",
    ".4.201",
    ".5",
)
COLOURS = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")


def small_files(data: Path) -> list[Path]:
    """The sample files that are small, those of one kind once, and the smallest of every transfer syntax."""
    with (data / "io_samples" / "INDEX.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] != "nifti" and not row["file"].endswith("DICOMDIR")]
    rows.sort(key=lambda row: int(row["bytes"]), reverse=True)
    chosen = {row["transfer_syntax"]: row["file"] for row in rows}
    for row in rows:
        if int(row["bytes"]) < LARGEST_FILE:
            chosen[" ".join(row[key] for key in ("transfer_syntax", "photometric", "shape", "bits"))] = row["file"]
    return [data / "io_samples" / name for name in sorted(set(chosen.values()))]


def mutant(content: bytes, draw: random.Random) -> bytes:
    """A file with one to three kinds of damage."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        draw.choice((flip, flip_pixels, truncate, insert, remove, overwrite, overwrite, overwrite))(changed, draw)
    return bytes(changed)


def flip(content: bytearray, draw: random.Random) -> None:
    """Change bytes, half of the time in the header."""
    end = len(content) if draw.random() < 0.5 else min(len(content), 2500)
    for _ in range(draw.choice((1, 2, 8, 40)) if end else 0):
        content[draw.randrange(end)] = draw.choice((0, 255, draw.randrange(256)))


def flip_pixels(content: bytearray, draw: random.Random) -> None:
    """Change bytes where the pixels begin, which is the header of a compressed image."""
    start = max(0, content.rfind(b"\xe0\x7f\x10\x00"))
    end = min(len(content), start + draw.choice((60, 200, 700)))
    for _ in range(draw.choice((1, 2, 4)) if end > start else 0):
        content[draw.randrange(start, end)] = draw.choice((0, 255, draw.randrange(256)))


def truncate(content: bytearray, draw: random.Random) -> None:
    """Cut the end off."""
    del content[draw.randrange(len(content) + 1) :]


def insert(content: bytearray, draw: random.Random) -> None:
    """Put bytes in between."""
    place = draw.randrange(len(content) + 1)
    content[place:place] = draw.randbytes(draw.choice((1, 2, 8, 300)))


def remove(content: bytearray, draw: random.Random) -> None:
    """Take bytes out."""
    place = draw.randrange(len(content) + 1)
    del content[place : place + draw.choice((1, 2, 8, 300))]


def overwrite(content: bytearray, draw: random.Random) -> None:
    """Give a field of the header another value or length."""
    name = draw.choice(list(FIELDS))
    group, element = FIELDS[name]
    order = draw.choice("<<<<>")
    place = content.find(struct.pack(f"{order}HH", group, element))
    if place < 0 or place + 12 > len(content):
        return
    explicit = content[place + 4 : place + 6].isalpha()
    if name in ("PixelData", "Item") or draw.random() < 0.2:
        at = place + (8 if name == "PixelData" and explicit else 4)
        content[at : at + 4] = struct.pack(f"{order}I", draw.choice((*LENGTHS, draw.randrange(2**20))))
        return
    (length,) = struct.unpack_from(f"{order}H", content, place + (6 if explicit else 4))
    value = struct.pack(f"{order}H", draw.choice((*NUMBERS, draw.randrange(2**16))))
    if name == "NumberOfFrames":
        value = str(draw.choice((0, -1, 2, 3, 1000, 2**31, 10**11))).encode()
    elif name == "TransferSyntax":
        value = b"1.2.840.10008.1.2" + draw.choice(SYNTAXES).encode()
    elif name == "Photometric":
        value = draw.choice(COLOURS).encode()
    elif name == "RescaleSlope":
        value = draw.choice((b"nan", b"inf", b"1e400", b"0", b"-1", b"abc", b"1e38"))
    pad = b"\0" if name == "TransferSyntax" else b" "
    start = place + 8
    content[start : start + length] = value[:length].ljust(min(length, 64), pad) if len(value) != 2 else value


def mutants(data: Path, first: int, last: int) -> Iterator[tuple[int, Path, bytes]]:
    """The mutants of a range of numbers, each from its number alone."""
    files = small_files(data)
    for number in range(first, last):
        path = files[number % len(files)]
        yield number, path, mutant(path.read_bytes(), random.Random(number))


def main(data: Path, progress: Path, first: int, last: int) -> None:
    """Read each mutant; write what became of them to ``progress``, line by line."""
    from mailnet.data.readers import read_scan
    from mailnet.data.scan import Planes, Reading
    from mailnet.errors import DataError

    class Loud(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise AssertionError("logged")

    logging.getLogger().addHandler(Loud())
    warnings.simplefilter("error")
    read_scan(str(small_files(data)[0]))
    used = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    )
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    file = progress.with_suffix(".dcm")
    ends: Counter[str] = Counter()
    slowest = 0.0
    readings = (Reading(), Reading(planes=Planes()), Reading(volume=True), Reading(file_window=True))
    with progress.open("w", encoding="utf-8") as log:
        for number, path, content in mutants(data, first, last):
            file.write_bytes(content)
            print(f"mutant {number} of {path.name}", file=log, flush=True)
            start = time.perf_counter()
            try:
                scan = read_scan(str(file), readings[number % 4])
                assert scan.values.ndim == 4
                ends["read"] += 1
            except DataError as error:
                if "\n" in str(error) or not error.remedy:
                    raise AssertionError(str(error)) from error
                # What differs between messages of a kind are the numbers.
                ends["".join(letter for letter in error.message[:40] if not letter.isdigit())] += 1
            slowest = max(slowest, time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(json.dumps({"ends": dict(ends), "slowest": slowest, "peak": peak}), file=log)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
