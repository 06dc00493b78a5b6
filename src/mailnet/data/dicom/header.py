"""Single values of a DICOM header, checked before anything is done with them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.data.dicom.files import RESTORE
from mailnet.errors import DataError

# Those of the standard that are not read, which a message may name (PS3.3 C.7.6.3.1.2).
OTHERS = ("ARGB", "CMYK", "HSV", "XYB", "YBR_PARTIAL_420", "YBR_PARTIAL_422")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Layout:
    """How pixels are stored (DICOM PS3.3 C.7.6.3).

    Args:
        frames: Number of planes.
        rows: Height in pixels.
        columns: Width in pixels.
        samples: Numbers stored for a pixel: 1, or 3 of colour.
        allocated: Bits that each of them takes.
        stored: Bits of these that are used.
        signed: They are two's complement.
        photometric: What they mean, such as ``MONOCHROME2``.
        floating: They are of the type float or double.
    """

    frames: int
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    floating: bool

    @property
    def channels(self) -> int:
        """Numbers of a pixel as it is read: 3 of colour."""
        return 1 if self.photometric in GREY else 3

    @property
    def plane_bytes(self) -> int:
        """Bytes of an unpacked plane."""
        return self.rows * self.columns * self.samples * max(1, self.allocated // 8)

    @property
    def stored_type(self) -> np.dtype[Any]:
        """Type of the stored numbers."""
        if self.floating:
            return np.dtype(f"f{self.allocated // 8}")
        return np.dtype(f"{'i' if self.signed else 'u'}{max(1, self.allocated // 8)}")

    @property
    def stored_span(self) -> tuple[int, int]:
        """The lowest and the highest number that can be stored."""
        if self.signed:
            return -(2 ** (self.stored - 1)), 2 ** (self.stored - 1) - 1
        return 0, 2**self.stored - 1


def layout_of(dataset: Any) -> Layout:
    """Return how the pixels of a data set are stored.

    Raises:
        DataError: It holds no image, or one that cannot be.
    """
    if "Rows" not in dataset or "Columns" not in dataset:
        raise DataError(f"holds no image ({kind_of(dataset)})", remedy="Give the file or folder of the image itself")
    photometric = text(dataset, "PhotometricInterpretation")
    floating = photometric not in ("RGB", "PALETTE COLOR") and _is_floating(dataset)
    allocated = integer(dataset, "BitsAllocated")
    layout = Layout(
        frames=integer(dataset, "NumberOfFrames", 1),
        rows=integer(dataset, "Rows"),
        columns=integer(dataset, "Columns"),
        samples=integer(dataset, "SamplesPerPixel", 1),
        allocated=allocated,
        stored=integer(dataset, "BitsStored", allocated),
        signed=integer(dataset, "PixelRepresentation", 0) == 1,
        photometric=photometric,
        floating=floating,
    )
    if photometric not in (*GREY, "PALETTE COLOR", *COLOURS):
        raise DataError(
            f"has colours of a kind that is not read ({photometric if photometric in OTHERS else 'an unknown one'})",
            remedy="Convert it to MONOCHROME2 or RGB",
        )
    wrong = [
        name
        for name, bad in {
            "NumberOfFrames": layout.frames < 1,
            "Rows": not 1 <= layout.rows < 2**16,
            "Columns": not 1 <= layout.columns < 2**16,
            "SamplesPerPixel": layout.samples != (3 if photometric in COLOURS else 1),
            "BitsAllocated": allocated not in ((32, 64) if floating else (1, 8, 16, 32)),
            "BitsStored": not 1 <= layout.stored <= allocated,
        }.items()
        if bad
    ]
    if wrong:
        raise DataError(f"has an impossible {wrong[0]} in its header", remedy=RESTORE)
    return layout


def integer(dataset: Any, keyword: str, default: int | None = None) -> int:
    """Return a whole number.

    Raises:
        DataError: There is none and no default.
    """
    values = numbers(dataset, keyword)
    if not values and default is not None:
        return default
    if len(values) != 1 or values[0] != int(values[0]):
        raise DataError(f"has no usable {keyword} in its header", remedy=RESTORE)
    return int(values[0])


def numbers(dataset: Any, keyword: str) -> tuple[float, ...]:
    """Return the numbers of an element, none where it is absent or empty.

    Raises:
        DataError: They are no finite numbers.
    """
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
        result = tuple(float(item) for item in (value if several else (value,)))
    # A value that is no number raises on its first use.
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        result = (math.nan,)
    if not all(math.isfinite(number) for number in result):
        raise DataError(f"has a {keyword} that is no number in its header", remedy=RESTORE)
    return result


def soft_numbers(dataset: Any, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return so many numbers, None where the header does not say them."""
    try:
        values = numbers(dataset, keyword)
    except DataError:
        return None
    return values if len(values) == count else None


def text(dataset: Any, keyword: str) -> str:
    """Return an element as text, several values with backslashes between them, empty where it is absent."""
    try:
        value = dataset.get(keyword)
    except (TypeError, ValueError, ArithmeticError):
        return ""
    if value is None:
        return ""
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and not hasattr(value, "components")
    return "\\".join(str(item).strip() for item in value) if several else str(value).strip()


def macro(dataset: Any, frame: int, keyword: str) -> Any:
    """Return what holds the values of a frame (PS3.3 C.7.6.16): its functional group, the shared one, or the file."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for item in (*per_frame[frame : frame + 1], *shared[:1]):
        if item.get(keyword):
            return item[keyword][0]
    return dataset


def kind_of(dataset: Any) -> str:
    """Return the standard's name of the kind of object, or that it is unknown."""
    from pydicom.uid import UID

    uid = UID(text(dataset, "SOPClassUID"))
    return uid.name if uid.name != uid and uid.type == "SOP Class" else "an unknown kind of object"


def _is_floating(dataset: Any) -> bool:
    if "PixelData" in dataset:
        return False
    # Without its pixels, a header tells by what it lacks.
    return "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset or "BitsStored" not in dataset
