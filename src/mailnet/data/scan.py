"""A decoded file with its place in space, and what a modality asks of the readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mailnet.data.config import ImageConfig, PixelConfig, VolumeConfig
from mailnet.errors import DataError

Direction = Literal["axial", "coronal", "sagittal"]
# Where planes, rows and columns go with their number: to Left, Posterior, Superior, and their opposites.
AXES: dict[Direction, str] = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
MAX_SIDE = 2**15
_SHAPES = "A picture is (H, W) or (H, W, channels), a volume (planes, H, W) or (planes, H, W, channels)"


@dataclass(frozen=True)
class Planes:
    """Which planes of a file an image takes.

    Args:
        place: Number of the plane from 0, the ``middle`` one, or ``all`` of them.
        neighbours: Planes before and after it that are taken too; at an end the last plane stands for those beyond.
    """

    place: int | Literal["middle", "all"] = "middle"
    neighbours: int = 0

    def of(self, depth: int) -> list[int]:
        """Return the numbers of the planes within a file of so many.

        Raises:
            DataError: There is no such plane.

        >>> Planes(0, neighbours=1).of(3)
        [0, 0, 1]
        """
        if self.place == "all":
            return list(range(depth))
        place = depth // 2 if self.place == "middle" else self.place
        if not 0 <= place < depth:
            raise DataError(f"has no plane {place}", remedy=f"Planes are numbered 0 to {depth - 1}: correct 'slice'")
        around = range(place - self.neighbours, place + self.neighbours + 1)
        return [min(max(plane, 0), depth - 1) for plane in around]


@dataclass(frozen=True)
class Reading:
    """What is asked of a file, see ``PixelConfig``.

    Args:
        planes: The planes wanted; None for all.
        direction: Direction of the planes; None for that of the file.
        select: DICOM keyword -> pattern, to choose a series within a folder.
        frame: Point in time of a 4-D file, or their ``mean``; None where there is only one, or all become channels.
        file_window: Apply the file's own window (or VOI LUT), so that the values are in [0, 1].
        volume: All planes are wanted, and where the file says how it lies, from the feet up, rows to the back and
            columns to the left.
        max_pixels: Largest number of pixels of a plane.
        max_voxels: Largest number of voxels of the whole file.
    """

    planes: Planes | None = None
    direction: Direction | None = None
    select: Mapping[str, str] = field(default_factory=dict)
    frame: int | Literal["mean"] | None = None
    file_window: bool = False
    volume: bool = False
    max_pixels: int = 2**26
    max_voxels: int = 2**28

    @property
    def max_bytes(self) -> int:
        """Largest size of a file in bytes: eight a voxel, and as much as a header may take."""
        return self.max_voxels * 8 + 2**20

    def check_size(self, depth: int, height: int, width: int, frames: int = 1) -> None:
        """Refuse a file by what its header says, before anything of that size is made.

        Raises:
            DataError: It is too large.
        """
        if height * width > self.max_pixels:
            raise DataError(
                f"has too many pixels: {width} x {height}, at most {self.max_pixels:,} are read",
                remedy="Write it smaller, or raise the modality's 'max_pixels'",
            )
        # A volume is resampled along every axis; of images, each plane may become a study.
        longest = max(depth, height, width) if self.volume else depth
        if longest > MAX_SIDE:
            raise DataError(
                f"has {longest:,} planes, rows or columns, at most {MAX_SIDE:,} are read",
                remedy="Divide it into several files",
            )
        if depth * height * width * frames > self.max_voxels:
            raise DataError(
                f"has too many voxels: {depth * frames} x {height} x {width}, at most {self.max_voxels:,} are read",
                remedy="Write it smaller, or raise the modality's 'max_voxels'",
            )


def reading_of(section: PixelConfig, place: int | None = None) -> Reading:
    """Return what a modality asks of its files; ``place`` is the plane where a row names one."""
    planes = direction = None
    if isinstance(section, ImageConfig):
        direction = section.plane
        if place is not None or section.slice is not None:
            wanted = place if place is not None else section.slice
            planes = Planes(wanted if isinstance(wanted, int) else "middle", section.neighbours)
    return Reading(
        planes=planes,
        direction=direction,
        select=section.select,
        frame=section.frame,
        file_window=section.window == "file",
        volume=isinstance(section, VolumeConfig),
        max_pixels=section.max_pixels,
        max_voxels=section.max_voxels,
    )


@dataclass(frozen=True)
class Scan:
    """A decoded file.

    Args:
        values: (D, H, W, C) of any number type, in the file's own units; D is 1 for a picture and the number of planes
            that were asked for otherwise.
        spacing: Millimetres between planes, rows and columns; None where the file does not say, of a picture too. The
            first is NaN where only the proportions of a plane are known.
        units: Such as ``HU``; None where the file does not say.
        unit_range: The values are in [0, 1] already, since the file's own window was applied.
        mirror: The lowest and the highest value that the file can have, added, where low values are bright
            (MONOCHROME1 of DICOM); None where high ones are.
    """

    values: np.ndarray
    spacing: tuple[float, float, float] | None = None
    units: str | None = None
    unit_range: bool = False
    mirror: float | None = None

    def picture(self) -> np.ndarray:
        """Return (H, W) or (H, W, C) of a file with one plane.

        Raises:
            DataError: It has several.
        """
        if len(self.values) != 1:
            raise DataError(
                f"has {len(self.values)} planes, a 2-D modality takes one",
                remedy="Say which with the modality's 'slice', or make it 'kind: volume'",
            )
        plane: np.ndarray = self.values[0]
        return plane[..., 0] if plane.shape[2] == 1 else plane


def scan_of_array(array: np.ndarray, reading: Reading) -> Scan:
    """Return an array that says nothing of its place in space, as of npy and npz files or in memory.

    Args:
        array: (H, W), (H, W, C), (D, H, W) where planes or a volume are wanted, or (D, H, W, C).
        reading: What is wanted of it.

    Raises:
        DataError: It has another number of axes, is empty or too large, or lacks the plane.
    """
    planes = has_planes(array.ndim, reading)
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise DataError(f"has the shape {list(array.shape)}", remedy=_SHAPES)
    if array.ndim == 2 or (array.ndim == 3 and planes):
        array = array[..., None]
    if not planes:
        array = array[None]
    reading.check_size(*array.shape[:3])
    return Scan(array if reading.planes is None else array[reading.planes.of(len(array))])


def has_planes(axes: int, reading: Reading) -> bool:
    """Return whether the first of an array's axes counts planes."""
    return axes == 4 or (axes == 3 and (reading.volume or reading.planes is not None))
