"""Mutants of pictures, arrays, NIfTI files and zips, and the process that reads them.

``python file_mutants.py FOLDER DATA COUNT`` writes and reads them in FOLDER; DATA is the folder of real data or ``-``.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import resource
import struct
import sys
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
from mutants import insert, remove, truncate
from PIL import Image

MEMORY = 2**30
VALUES = (0, 1, 2, 3, 4, 8, 16, 127, 128, 255, 256, 348, 352, 540, 1000, 4096, 32767, 32768, 65535, 2**20, 2**31 - 1)
# Where headers hold numbers: NIfTI-1 and -2 (nifti1.h, nifti2.h) and the first bytes of everything else.
NIFTI1 = [(0, "i"), *[(40 + 2 * k, "h") for k in range(8)], (70, "h"), (72, "h"), (108, "f"), (112, "f"), (116, "f"),
          (123, "B"), (252, "h"), (254, "h"), *[(76 + 4 * k, "f") for k in range(8)],
          *[(256 + 4 * k, "f") for k in range(18)]]  # fmt: skip
NIFTI2 = [(0, "i"), (12, "h"), (14, "h"), *[(16 + 8 * k, "q") for k in range(8)], (168, "q"), (176, "d"), (184, "d"),
          (344, "i"), (348, "i"), *[(104 + 8 * k, "d") for k in range(8)], *[(400 + 8 * k, "d") for k in range(12)],
          (500, "i")]  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), 352.0, 0.5)


def seeds(data: Path | None) -> dict[str, bytes]:
    """Small whole files by name; the part of a name before ``-`` is their kind."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    found: dict[str, bytes] = {}

    def picture(name: str, array: np.ndarray | Image.Image, kind: str, **options: object) -> None:
        stream = io.BytesIO()
        image = array if isinstance(array, Image.Image) else Image.fromarray(array)
        image.save(stream, kind, **options)
        found[name] = stream.getvalue()

    deep = noise[..., 0].astype(np.uint16) * 200
    picture("png-grey.png", noise[..., 0], "PNG")
    picture("png-colour.png", noise, "PNG")
    picture("png-deep.png", deep, "PNG")
    picture("png-palette.png", Image.fromarray(noise).quantize(16), "PNG", transparency=3)
    picture("jpeg-grey.jpg", noise[..., 0], "JPEG")
    picture("jpeg-colour.jpg", noise, "JPEG", quality=90, progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    picture("bmp-colour.bmp", noise, "BMP")
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        picture(f"tiff-{packing}.tif", noise, "TIFF", compression=packing)
    picture("tiff-deep.tif", deep, "TIFF", compression="tiff_lzw")
    picture("tiff-float.tif", deep.astype(np.float32), "TIFF")
    for name, array in (("npy-grey.npy", deep), ("npy-volume.npy", noise), ("npy-float.npy", noise.astype(">f8"))):
        stream = io.BytesIO()
        np.save(stream, array)
        found[name] = stream.getvalue()
    for name, save in (("npz-stored.npz", np.savez), ("npz-packed.npz", np.savez_compressed)):
        stream = io.BytesIO()
        save(stream, x=np.stack([noise[..., 0]] * 4))
        found[name] = stream.getvalue()
    volume = noise[..., 0].reshape(6, 8, 10)
    affine = np.array([[0, 2, 0, 0], [-1.5, 0, 0, 0], [0, 0.1, 3, 0], [0, 0, 0, 1]])
    images = {
        "nifti-1": nibabel.Nifti1Image(volume, affine),
        "nifti-big": nibabel.Nifti1Image(volume.astype(">i2"), affine, nibabel.Nifti1Header(endianness=">")),
        "nifti-2": nibabel.Nifti2Image(volume.astype(np.float32), affine),
        "nifti-time": nibabel.Nifti1Image(np.stack([volume.astype(np.int16)] * 3, axis=3), affine),
    }
    for name, image in images.items():
        found[f"{name}.nii"] = image.to_bytes()
    if data is not None:
        for name in ("anatomical.nii", "functional.nii", "example_nifti2.nii.gz"):
            content = (data / "io_samples" / "nifti" / "nibabel" / name).read_bytes()
            found[f"nifti-real-{name.removesuffix('.gz')}"] = gzip.decompress(content) if ".gz" in name else content
    for name in [name for name in found if name.endswith(".nii")]:
        found[f"{name}.gz"] = gzip.compress(found[name])
    return found


def mutant(name: str, content: bytes, draw: random.Random) -> bytes:
    """A file with one to three kinds of damage; of packed NIfTI files half of the time before they are packed."""
    inside = name.endswith(".gz") and draw.random() < 0.7
    changed = bytearray(gzip.decompress(content) if inside else content)
    fields = (
        NIFTI1 if bytes(changed[:4]) in (b"\x5c\1\0\0", b"\0\0\1\x5c") else NIFTI2 if changed[:2] == b"\x1c\2" else []
    )
    for _ in range(draw.choice((1, 1, 2, 3))):
        if fields and draw.random() < 0.6:
            _field(changed, fields, draw)
        else:
            draw.choice((_flip, _flip, _number, _number, truncate, insert, remove))(changed, draw)
    return gzip.compress(bytes(changed), 1) if inside else bytes(changed)


def _field(content: bytearray, fields: list[tuple[int, str]], draw: random.Random) -> None:
    place, kind = draw.choice(fields)
    order = ">" if content[:2] == b"\0\0" else "<"
    if kind in "fd":
        value: float = draw.choice((*FLOATS, draw.uniform(-300, 300)))
    else:
        largest = {"B": 2**8, "h": 2**15, "i": 2**31, "q": 2**63}[kind] - 1
        sign = 1 if kind == "B" else draw.choice((1, 1, 1, -1))
        value = sign * min(draw.choice((*VALUES, draw.randrange(2**12), 2**33)), largest)
    if place + struct.calcsize(kind) <= len(content):
        struct.pack_into(order + kind, content, place, value)


def _flip(content: bytearray, draw: random.Random) -> None:
    end = len(content) if draw.random() < 0.5 else min(len(content), 200)
    for _ in range(draw.choice((1, 2, 8, 40)) if end else 0):
        content[draw.randrange(end)] = draw.choice((0, 255, draw.randrange(256)))


def _number(content: bytearray, draw: random.Random) -> None:
    """Put a number that is a size somewhere, mostly near the beginning or, as in zips and TIFF, the end."""
    kind = draw.choice("BHIQ")
    size = struct.calcsize(kind)
    if len(content) > size:
        reach = min(len(content) - size, 250)
        place = draw.choice((draw.randrange(reach + 1), len(content) - size - draw.randrange(reach + 1)))
        value = draw.choice((*VALUES, 2**32 - 1, 2**63)) % 2 ** (8 * size)
        struct.pack_into(draw.choice("<>") + kind, content, place, value)


def write_mutant(folder: Path, name: str, content: bytes, draw: random.Random) -> str:
    """Write a mutant, some as a member of a zip that may be damaged itself, and return its location."""
    kind = name.partition("-")[0]
    changed = mutant(name, content, draw)
    if kind == "npz":
        (folder / "m.npz").write_bytes(changed)
        return f"{folder}/m.npz!{draw.choice(('x', 'x/2', 'x/9', 'y/0'))}"
    suffix = name[name.index(".") :] if kind != "nifti" else ".nii.gz" if name.endswith(".gz") else ".nii"
    if draw.random() < 0.2:
        stream = io.BytesIO()
        whole = draw.random() < 0.5
        packing = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
        with zipfile.ZipFile(stream, "w", packing) as archive:
            archive.writestr(f"in/m{suffix}", content if whole else changed)
        archived = stream.getvalue()
        (folder / "m.zip").write_bytes(mutant("m.zip", archived, draw) if whole else archived)
        return f"{folder}/m.zip!in/m{suffix}"
    path = folder / f"m{suffix}"
    path.write_bytes(changed)
    return str(path)


def main(folder: Path, data: Path | None, count: int) -> None:
    """Read each mutant as one of several modalities; print what became of them."""
    from mailnet.data.config import ImageConfig, VolumeConfig
    from mailnet.data.images import count_planes, load_image
    from mailnet.errors import DataError

    pictures = (
        ImageConfig(size=(16, 16), convert=True, percentiles=(0, 100)),
        ImageConfig(size=(16, 16), channels=3, convert=True, percentiles=(1, 99), resize="crop"),
        ImageConfig(size=(16, 16), convert=True),
    )
    volumes = (
        ImageConfig(size=(16, 16), slice="middle", neighbours=1, percentiles=(1, 99), plane="coronal", frame=0),
        ImageConfig(size=(16, 16), slice=2, frame="mean", range=(-1e4, 1e5), convert=True),
        VolumeConfig(kind="volume", size=(8, 8, 8), percentiles=(1, 99), frame=0),
        VolumeConfig(kind="volume", size=(8, 8, 8), spacing=(1, 1, 1), percentiles=(0, 100), frame="mean"),
    )
    warnings.simplefilter("ignore")
    # Of numbers: outside of a decoder they would be ours.
    warnings.simplefilter("error", RuntimeWarning)
    whole = seeds(data)
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    ends: Counter[str] = Counter()
    slowest = 0.0
    with (folder / "progress.txt").open("w", encoding="utf-8") as log:
        for number in range(count):
            draw = random.Random(number)
            name = list(whole)[number % len(whole)]
            print(f"mutant {number} of {name}", file=log, flush=True)
            location = write_mutant(folder, name, whole[name], draw)
            section = draw.choice(volumes if name.startswith(("nifti", "npy-volume")) else pictures)
            start = time.perf_counter()
            try:
                image = load_image(location, section)
                assert image.shape == (section.inputs, *section.size)
                assert image.dtype in (np.uint8, np.uint16)
                ends["read"] += 1
            except DataError as error:
                if not error.remedy or not error.file:
                    raise AssertionError(f"an error that says no remedy or file: {error}") from error
                ends["".join(letter for letter in error.message[:40] if not letter.isdigit())] += 1
            try:
                assert count_planes(location, section) > 0
            except DataError:
                ends["not counted"] += 1
            slowest = max(slowest, time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"ends": dict(ends), "slowest": slowest, "peak": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), None if sys.argv[2] == "-" else Path(sys.argv[2]), int(sys.argv[3]))
