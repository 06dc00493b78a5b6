"""Reads every image of a modality once and keeps of each what the check compares, in arrays."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from PIL import Image

from mailnet.data.config import ImageConfig, PixelConfig
from mailnet.data.images import load_scan
from mailnet.data.preprocess import LUMINANCE, prepare, to_unit
from mailnet.data.progress import progress
from mailnet.errors import DataError

# Pixels a side of the pictures that are compared: small enough to forgive compression, large enough to tell patients
# apart, and 0.6 GB for a million.
SIDE = 24
CHUNK = 32


@dataclass
class Pictures:
    """What is kept of the files of a modality; every array has one entry a file.

    Args:
        locations: Of each file.
        file: (N,) int, the file of every row of the manifest; -1 where the row has none.
        readable: (F,) bool.
        digest: (F,) 128 bits of the decoded values as two uint64; equal where these are.
        thumbnail: (F, 24, 24) uint8, grey, each stretched to its own range; of volumes the middle plane.
        shape: (F, 3) int, planes, rows and columns of the file.
        mean: (F,) float, mean of what a network sees, in [0, 1].
        bright: (F,) float, share of it at the highest value.
        spread: (F,) float, highest less lowest value of it.
        errors: File -> why it cannot be used.
    """

    locations: pd.Index
    file: np.ndarray
    readable: np.ndarray
    digest: np.ndarray
    thumbnail: np.ndarray
    shape: np.ndarray
    mean: np.ndarray
    bright: np.ndarray
    spread: np.ndarray
    errors: dict[int, DataError] = field(default_factory=dict)

    @property
    def constant(self) -> np.ndarray:
        """(F,) bool, what a network sees of the file has one value only."""
        found: np.ndarray = self.spread == 0
        return found

    @property
    def usable(self) -> np.ndarray:
        """Positions of the manifest's rows that have a readable file, rising."""
        rows = np.flatnonzero(self.file >= 0)
        found: np.ndarray = rows[self.readable[self.file[rows]]]
        return found


def read_pictures(paths: pd.Series, section: PixelConfig, name: str) -> Pictures:
    """Read every file of a modality once, as training would.

    Args:
        paths: Location of every row, empty where absent.
        section: The modality.
        name: Its name, for the display of progress.
    """
    codes, unique = pd.factorize(paths)
    locations = pd.Index(unique)
    absent = np.flatnonzero(locations == "")
    if len(absent):
        codes = np.where(codes == absent[0], -1, codes - (codes > absent[0]))
        locations = locations.delete(absent[0])
    n = len(locations)
    pictures = Pictures(
        locations=locations,
        file=codes.astype(np.int64),
        readable=np.zeros(n, bool),
        digest=np.zeros(n, dtype=[("high", np.uint64), ("low", np.uint64)]),
        thumbnail=np.zeros((n, SIDE, SIDE), np.uint8),
        shape=np.zeros((n, 3), np.int32),
        mean=np.zeros(n, np.float32),
        bright=np.zeros(n, np.float32),
        spread=np.zeros(n, np.float32),
    )

    def read(start: int) -> int:
        chunk = range(start, min(start + CHUNK, n))
        for file in chunk:
            _read(pictures, file, section)
        return len(chunk)

    with (
        progress(f"Checking {name}", n) as advance,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for count in pool.map(read, range(0, n, CHUNK)):
            advance(count)
    return pictures


def _read(pictures: Pictures, file: int, section: PixelConfig) -> None:
    location = str(pictures.locations[file])
    try:
        scan = load_scan(location, section)
        image = prepare(scan, section)
    except DataError as error:
        pictures.errors[file] = error
        return
    values = np.ascontiguousarray(scan.values)
    digest = hashlib.blake2b(f"{values.shape} {values.dtype}".encode(), digest_size=16)
    digest.update(values.data)
    pictures.digest[file] = tuple(np.frombuffer(digest.digest(), np.uint64).tolist())
    pictures.shape[file] = values.shape[:3]
    pictures.thumbnail[file] = thumbnail(_unpadded(image, values.shape, section))
    pictures.mean[file] = to_unit(image).mean()
    pictures.bright[file] = (image == np.iinfo(image.dtype).max).mean()
    pictures.spread[file] = (int(image.max()) - int(image.min())) / np.iinfo(image.dtype).max
    pictures.readable[file] = True


def _unpadded(image: np.ndarray, shape: tuple[int, ...], section: PixelConfig) -> np.ndarray:
    """Return an image without the bars of a letterbox, which would make all images alike."""
    if not isinstance(section, ImageConfig) or section.resize != "letterbox":
        return image
    (height, width), (tall, wide) = shape[1:3], section.size
    scale = min(tall / height, wide / width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (tall - h) // 2, (wide - w) // 2
    return image[:, top : top + h, left : left + w]


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the small grey picture by which images are compared.

    Args:
        image: (C, H, W) or (C, D, H, W), of which the middle plane is taken.

    Returns:
        (24, 24) uint8, stretched to the whole range, so that brightness and contrast do not matter.
    """
    plane = image[:, image.shape[1] // 2] if image.ndim == 4 else image
    grey = np.tensordot(LUMINANCE, plane, axes=(0, 0)) if len(plane) == 3 else plane[len(plane) // 2]
    small = np.asarray(
        Image.fromarray(grey.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32
    )
    low, high = small.min(), small.max()
    stretched: np.ndarray = np.rint((small - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    return stretched
