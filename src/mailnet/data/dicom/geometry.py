"""Where planes lie in a patient: their order, the gaps between them, and the axes of a volume (PS3.3 C.7.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from mailnet.data.dicom.header import macro, soft_numbers
from mailnet.data.scan import AXES, Direction

_TOWARDS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}

# Millimetres within which two planes are at one place, and between two normals, one direction.
SAME_PLACE, SAME_DIRECTION = 1e-3, 1e-3
# A step so many times the median one lacks a plane.
GAP = 1.5


@dataclass(frozen=True)
class Place:
    """Where a plane lies.

    Args:
        corner: (3,) mm, the middle of its first pixel: to the left, to the back, to the head.
        along: (2, 3) unit vectors: where columns go, where rows go.
        pixel: mm between rows and between columns.
        thickness: mm between planes, or of one where that is not said.
        number: In its series.
    """

    corner: np.ndarray | None
    along: np.ndarray | None
    pixel: tuple[float, float] | None
    thickness: float | None
    number: float | None = None

    @property
    def normal(self) -> np.ndarray | None:
        """(3,) unit vector out of the plane, where later planes lie."""
        return None if self.along is None else np.cross(self.along[0], self.along[1])


def place_of(dataset: Any, frame: int) -> Place:
    """Return where a frame lies, as far as the header says it."""
    measures = macro(dataset, frame, "PixelMeasuresSequence")
    corner = soft_numbers(macro(dataset, frame, "PlanePositionSequence"), "ImagePositionPatient", 3)
    along = soft_numbers(macro(dataset, frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    pixel = soft_numbers(measures, "PixelSpacing", 2) or soft_numbers(dataset, "ImagerPixelSpacing", 2)
    between = soft_numbers(measures, "SpacingBetweenSlices", 1) or soft_numbers(measures, "SliceThickness", 1)
    number = soft_numbers(dataset, "InstanceNumber", 1)
    return Place(
        corner=None if corner is None else np.array(corner),
        along=None if along is None else _perpendicular(np.array(along).reshape(2, 3)),
        pixel=(pixel[0], pixel[1]) if pixel and min(pixel) > 0 else None,
        thickness=abs(between[0]) if between and between[0] else None,
        number=number[0] if number else None,
    )


def heights(places: Sequence[Place]) -> np.ndarray | None:
    """Return how far planes lie along the normal of the first in mm, None where a header does not say."""
    normal = places[0].normal
    if normal is None or any(place.corner is None for place in places):
        return None
    return np.array([place.corner @ normal for place in places if place.corner is not None])


def same_direction(places: Sequence[Place]) -> bool:
    """Return whether all planes lie in one direction."""
    first = places[0].along
    return all(
        place.along is first
        or (place.along is not None and first is not None and np.abs(place.along - first).max() < SAME_DIRECTION)
        for place in places
    )


def repeated(rising: np.ndarray) -> int | None:
    """Return the number of the first plane that lies where the one before it does."""
    places = np.flatnonzero(np.diff(rising) < SAME_PLACE)
    return int(places[0]) + 1 if len(places) else None


def gaps(rising: np.ndarray) -> list[tuple[int, list[float]]]:
    """Return behind which planes others are missing, and where these would lie in mm.

    >>> gaps(np.array([0.0, 2, 4, 10]))
    [(2, [6.0, 8.0])]
    """
    steps = np.diff(rising)
    usual = float(np.median(steps)) if len(steps) else 0.0
    found = []
    for plane in np.flatnonzero(steps > GAP * usual):
        count = max(2, round(float(steps[plane]) / usual))
        between = np.linspace(rising[plane], rising[plane + 1], count + 1)[1:-1]
        found.append((int(plane), [float(place) for place in between[:1000]]))
    return found


def axes_of(place: Place) -> np.ndarray | None:
    """Return (3, 3): where planes, rows and columns go with their number."""
    if place.along is None or place.normal is None:
        return None
    return np.stack([place.normal, place.along[1], place.along[0]])


def turn_to(axes: np.ndarray, direction: Direction) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return how to turn a volume so that its planes have a direction; oblique ones take the nearest.

    Args:
        axes: (3, 3) where its planes, rows and columns go.
        direction: That of the planes wanted.

    Returns:
        Which of its axes becomes each, and whether that is then to be reversed.

    >>> turn_to(np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]), "axial")
    ((0, 1, 2), (False, False, True))
    """
    wanted = np.array([_TOWARDS[letter] for letter in AXES[direction]])
    # (3, 3): cosine of the angle between each axis wanted and each that there is.
    cosines = wanted @ axes.T
    order = max(permutations(range(3)), key=lambda order: float(np.abs(cosines[range(3), order]).sum()))
    flips = [bool(cosines[row, column] < 0) for row, column in enumerate(order)]
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def _perpendicular(along: np.ndarray) -> np.ndarray | None:
    lengths = np.linalg.norm(along, axis=1)
    if (np.abs(lengths - 1) > 0.01).any() or abs(along[0] @ along[1]) > 0.01:
        return None
    return along
