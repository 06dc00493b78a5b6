"""Heat maps brought from the network's pixels back to those of the DICOM images that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mailnet.data.config import ImageConfig, PixelConfig
from mailnet.data.dicom.files import guarded
from mailnet.data.dicom.series import stack_of_files
from mailnet.data.dicom.stack import Stack, read_stack, turning
from mailnet.data.intensity import interval
from mailnet.data.preprocess import sampling
from mailnet.data.resample import Axis
from mailnet.data.scan import Scan, reading_of
from mailnet.deploy.dicom.identity import evidence_of


@dataclass(frozen=True)
class Native:
    """A heat map on planes of its source, in the order in which they lie in the patient.

    Args:
        planes: Header and number of the frame, from 0, of each of n planes.
        heat: (n, H, W) float32; 0 where the network saw nothing of the image.
        values: (n, H, W, C) the source's values.
        window: The values that the network sees as 0 and 1.
    """

    planes: list[tuple[Any, int]]
    heat: np.ndarray
    values: np.ndarray
    window: tuple[float, float]

    def picture(self, plane: int) -> np.ndarray:
        """Return (H, W, 3) in [0, 1] of a plane, as bright as the network sees it."""
        low, high = self.window
        shown = self.values[plane].astype(np.float32)
        shown = (shown > high) * np.float32(1) if high == low else ((shown - low) / (high - low)).clip(0, 1)
        return shown if shown.shape[2] == 3 else np.repeat(shown.mean(2, keepdims=True), 3, axis=2)

    @property
    def strongest(self) -> int:
        """Number of the plane with most heat, the middle one where there is none."""
        energy = np.abs(self.heat).sum((1, 2))
        return int(energy.argmax()) if energy.any() else len(energy) // 2


@dataclass(frozen=True)
class Source:
    """The pixels of a modality's files, and how the network's lie on them.

    Args:
        stack: The planes of the files.
        scan: What the network's image was made of.
        section: The modality.
        order: Which axis of the stack became each of the scan.
        flips: Which of these were reversed then.
        window: The values that the network sees as 0 and 1.
    """

    stack: Stack
    scan: Scan
    section: PixelConfig
    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    window: tuple[float, float]

    def native(self, heat: np.ndarray) -> Native | None:
        """Return a heat map on the pixels of its source.

        Args:
            heat: (H, W) or (D, H, W) as the network sees the modality.

        Returns:
            None where the network sees planes across those of the source, which has no pixels for them.
        """
        shape, flips = self.scan.values.shape, self.flips
        if heat.ndim == 2:
            if self.order[0] != 0:
                return None
            planes = [self.stack.planes[_place(self.stack, self.section, flips[0])]]
            back = _spread(heat[None], [None, *sampling(shape[1:3], self.scan.spacing, self.section)])
            values = self.scan.values[shape[0] // 2][None]
            flips = (False, *flips[1:])
        else:
            planes = self.stack.planes
            back = _spread(heat, list(sampling(shape[:3], self.scan.spacing, self.section)))
            values = self.scan.values
        return Native(
            planes=[(source.header, frame) for source, frame in planes],
            heat=_unturned(back, self.order, flips),
            values=_unturned(values, self.order, flips),
            window=self.window,
        )


@guarded
def read_source(files: Sequence[str | Path], section: PixelConfig) -> Source:
    """Read the DICOM files of a series as the network's image was made of them.

    Args:
        files: The files.
        section: The modality.

    Raises:
        DataError: The files cannot be read.
    """
    reading = reading_of(section)
    stack = stack_of_files([str(file) for file in files], reading)
    order, flips = turning(stack, reading)
    scan = read_stack(stack, reading)
    for source in {id(source): source for source, _ in stack.planes}.values():
        evidence_of(source.header)
    return Source(stack, scan, section, order, flips, interval(scan.values, scan, section))


def _place(stack: Stack, section: PixelConfig, flipped: bool) -> int:
    """Return which plane of a stack an image is."""
    assert isinstance(section, ImageConfig)
    planes = reading_of(section).planes
    if planes is None:
        return 0
    depth = len(stack.planes)
    place = planes.of(depth)[planes.neighbours]
    return depth - 1 - place if flipped else place


def _spread(heat: np.ndarray, axes: Sequence[Axis | None]) -> np.ndarray:
    """Return a map (D, H, W) on the voxels of a file, linear between those of the network; an axis None stays."""
    for number, axis in enumerate(axes):
        if axis is not None:
            heat = np.moveaxis(np.moveaxis(heat, number, -1) @ _back(axis).T, -1, number)
    return heat.astype(np.float32)


def _back(axis: Axis) -> np.ndarray:
    """Return (inside, size) weights: the reverse of ``Axis.matrix``, zeros where the network saw nothing."""
    taken = axis.first + np.arange(axis.count)
    middle = axis.begin + (np.arange(axis.count) + 0.5) * axis.step
    taken = taken[(middle >= 0) & (middle <= axis.inside)]  # the others are padding, of which no pixel is made
    first, last = taken[0], taken[-1]
    places = axis.first + (np.arange(axis.inside) + 0.5 - axis.begin) / axis.step - 0.5
    near = places.clip(first, last)
    weights = (1 - np.abs(near[:, None] - np.arange(axis.size))).clip(min=0)
    weights[(places < first - 0.5) | (places > last + 0.5)] = 0
    return weights.astype(np.float32)


def _unturned(array: np.ndarray, order: tuple[int, int, int], flips: tuple[bool, ...]) -> np.ndarray:
    """Undo what turned a stack, of (D, H, W) or (D, H, W, C)."""
    stood = array[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
    back = [int(axis) for axis in np.argsort(order)]
    return np.ascontiguousarray(stood.transpose(*back, *range(3, array.ndim)))
