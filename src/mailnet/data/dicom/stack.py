"""A stack of planes, of one file or of a series, from which those that are wanted are decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mailnet.data.dicom.decode import stored_planes
from mailnet.data.dicom.geometry import (
    Place,
    axes_of,
    gaps,
    heights,
    place_of,
    repeated,
    same_direction,
    turn_to,
)
from mailnet.data.dicom.header import Layout, text
from mailnet.data.dicom.values import mirror_of, modality_of, type_of, values_of, windowed
from mailnet.data.scan import AXES, Reading, Scan
from mailnet.errors import DataError


@dataclass(frozen=True)
class Source:
    """A file of a stack.

    Args:
        header: Its data set, which may lack the pixels.
        layout: How its pixels are stored.
        load: Returns the data set with them.
        file: Its path, None where it is the one that was asked for.
    """

    header: Any
    layout: Layout
    load: Callable[[], Any]
    file: str | None = None


@dataclass(frozen=True)
class Stack:
    """Planes in their order.

    Args:
        planes: The source and the number of the frame of each.
        spacing: mm between planes, rows and columns; the first is NaN where it is not known.
        axes: (3, 3) where planes, rows and columns go with their number; None where the headers do not say.
        disorder: Why the planes make no volume, None where they may.
    """

    planes: list[tuple[Source, int]]
    spacing: tuple[float, float, float] | None
    axes: np.ndarray | None
    disorder: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of planes, rows and columns."""
        layout = self.planes[0][0].layout
        return len(self.planes), layout.rows, layout.columns


def stack_of_file(source: Source, reading: Reading) -> Stack:
    """Return the frames of a file, by their positions where each has its own, else as they are stored.

    Raises:
        DataError: The file announces too many, or some are missing.
    """
    frames = source.layout.frames
    reading.check_size(frames, source.layout.rows, source.layout.columns)
    places = [place_of(source.header, frame) for frame in range(frames)] if _groups(source, frames) else []
    if not places:
        only = place_of(source.header, 0)
        # Of several frames without positions it is not known which way they go.
        axes = axes_of(only) if frames == 1 else None
        return Stack([(source, f) for f in range(frames)], _spacing(only, only.thickness), axes)
    planes = [(source, frame) for frame in range(frames)]
    along = heights(places)
    if along is None or not same_direction(places):
        return Stack(planes, _spacing(places[0], None), None, "has frames in several directions")
    order = np.argsort(along, kind="stable")
    rising = along[order]
    if repeated(rising) is not None:
        return Stack(planes, _spacing(places[0], None), None, "has several frames at one place")
    # A segmentation leaves out the planes that are empty.
    if found := gaps(rising):
        if text(source.header, "Modality") != "SEG":
            raise DataError(
                f"has frames missing at {_millimetres(found[0][1])}",
                remedy="Restore the file, or correct its positions",
            )
        return Stack([planes[i] for i in order], _spacing(places[0], None), axes_of(places[0]))
    step = float(np.median(np.diff(rising))) if frames > 1 else places[0].thickness
    return Stack([planes[i] for i in order], _spacing(places[0], step), axes_of(places[0]))


def missing(between: tuple[str, str], places: list[float]) -> str:
    """Return what is missing between two files."""
    return f"{_millimetres(places)}, between {between[0]} and {between[1]}"


def spacing_of(place: Place, rising: np.ndarray | None) -> tuple[float, float, float] | None:
    """Return the spacing of a series.

    Args:
        place: That of a plane.
        rising: How far its planes lie along the normal in mm.
    """
    step = place.thickness if rising is None or len(rising) < 2 else float(np.median(np.diff(rising)))
    return _spacing(place, step)


def count(stack: Stack, reading: Reading) -> int:
    """Return the number of planes in the direction wanted."""
    reading.check_size(*stack.shape)
    order, _ = turning(stack, reading)
    return stack.shape[order[0]]


def read_stack(stack: Stack, reading: Reading) -> Scan:
    """Decode the planes that are wanted, turned as they are wanted."""
    reading.check_size(*stack.shape)
    order, flips = turning(stack, reading)
    if order[0] == 0 and reading.planes is not None:
        # Only these planes are decoded.
        depth = len(stack.planes)
        wanted = [depth - 1 - plane if flips[0] else plane for plane in reading.planes.of(depth)]
        rising = sorted(set(wanted))
        scan = _decoded([stack.planes[plane] for plane in rising], reading)
        values = scan.values[[rising.index(plane) for plane in wanted]]
        values = _turned(values, order, (False, *flips[1:]))
    else:
        scan = _decoded(stack.planes, reading)
        values = _turned(scan.values, order, flips)
        if reading.planes is not None:
            values = values[reading.planes.of(len(values))]
    spacing = stack.spacing
    if spacing is not None:
        spacing = (spacing[order[0]], spacing[order[1]], spacing[order[2]])
    return replace(scan, values=values, spacing=spacing)


def _groups(source: Source, frames: int) -> bool:
    groups = source.header.get("PerFrameFunctionalGroupsSequence") or ()
    return len(groups) >= frames


def _spacing(place: Place, step: float | None) -> tuple[float, float, float] | None:
    # The proportions of a plane hold wherever the next one lies.
    return None if place.pixel is None else (float("nan") if step is None else step, *place.pixel)


def turning(stack: Stack, reading: Reading) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return which axis of a stack becomes each of a scan's, and whether that is then reversed.

    Raises:
        DataError: The planes do not lie as they are wanted.
    """
    stay = (0, 1, 2), (False, False, False)
    if reading.direction is None and not reading.volume:
        return stay
    if stack.disorder is not None:
        raise DataError(
            f"{stack.disorder}, which make no volume",
            remedy="Give a file or folder with one volume, or take a plane with 'kind: image' and 'slice'",
        )
    if stack.axes is None:
        if reading.direction is None:
            return stay
        raise DataError(
            "does not say how it lies in the patient",
            remedy=f"Leave out the modality's 'plane: {reading.direction}' to take the planes as they are",
        )
    order, flips = turn_to(stack.axes, reading.direction or "axial")
    if len(stack.planes) == 1 and reading.direction is not None and order[0] != 0:
        own = next(name for name in AXES if turn_to(stack.axes, name)[0][0] == 0)
        raise DataError(
            f"is a single {own} plane, of which there is no {reading.direction} one",
            remedy="Correct the modality's 'plane', or leave the study out with --skip-bad",
        )
    return order, flips


def _turned(values: np.ndarray, order: tuple[int, int, int], flips: tuple[bool, ...]) -> np.ndarray:
    turned = values.transpose(*order, 3)
    return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]


def _decoded(planes: list[tuple[Source, int]], reading: Reading) -> Scan:
    """Return planes as they are stored, without their spacing."""
    kinds = [modality_of(source.header, source.layout, frame) for source, frame in planes]
    types = {type_of(source.layout, kind) for (source, _), kind in zip(planes, kinds, strict=True)}
    floating = reading.file_window or any(kind.kind == "f" for kind in types)
    joined = np.dtype(np.float32) if floating else np.result_type(*types)
    layout = planes[0][0].layout
    values: np.ndarray | None = None
    units = sorted({kind.units for kind in kinds if kind.units is not None})
    if len(units) > 1:
        raise DataError(
            f"has planes in several units: {', '.join(units)}",
            remedy="Choose those of one with the modality's 'select', or restore the files",
        )
    for source in {id(source): source for source, _ in planes}.values():
        mine = [place for place, (other, _) in enumerate(planes) if other is source]
        # Frames are stored in an order of their own.
        mine.sort(key=lambda place: planes[place][1])
        try:
            dataset = source.load()
            frames = [planes[place][1] for place in mine]
            for place, stored in zip(mine, stored_planes(dataset, source.layout, frames), strict=True):
                plane = values_of(stored, source.layout, kinds[place])
                if reading.file_window:
                    plane = windowed(plane, dataset, source.layout, planes[place][1])
                if values is None:
                    kind = plane.dtype if layout.channels == 3 else joined
                    values = np.empty((len(planes), layout.rows, layout.columns, layout.channels), kind)
                values[place] = plane
        except DataError as error:
            raise DataError(error.message, file=source.file, remedy=error.remedy) from None
    assert values is not None
    mirror = mirror_of([(source.layout, kind) for (source, _), kind in zip(planes, kinds, strict=True)])
    return Scan(
        values,
        units=units[0] if units else None,
        unit_range=reading.file_window,
        mirror=None if reading.file_window else mirror,
    )


def _millimetres(places: list[float]) -> str:
    shown = ", ".join(f"{place:.6g}" for place in places[:5])
    return f"{shown}{', ...' if len(places) > 5 else ''} mm"
