"""From stored numbers to what they measure: modality LUT, polarity, VOI LUT (DICOM PS3.3 C.11.1 and C.11.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.data.dicom.files import RESTORE
from mailnet.data.dicom.header import Layout, macro, numbers, text
from mailnet.errors import DataError

_NOT_SAID = ("", "US")
# PS3.3 C.11.1.1.2 and, of positron emission, C.8.9.1.1.3; other words might be anything, a name too.
_UNITS = ("HU", "HU_MOD", "OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
_PET_UNITS = ("BQML", "GML", "CNTS", "CPS", "PROPCNTS", "PROPCPS", "PCNT", "MLMING", "MLG", "UMOLML")


@dataclass(frozen=True)
class Lut:
    """A look-up table: the values below its first and above its last entry are those of these.

    Args:
        first: The value that the first entry is for.
        entries: What values become.
        bits: Of an entry.
    """

    first: int
    entries: np.ndarray
    bits: int

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return what values become; of values that are no integers, what the nearest ones do."""
        whole = np.rint(values) if values.dtype.kind == "f" else values.astype(np.int64)
        places = np.clip(whole - self.first, 0, len(self.entries) - 1).astype(np.intp)
        found: np.ndarray = self.entries[places]
        return found


@dataclass(frozen=True)
class Modality:
    """What the stored numbers of a plane measure.

    Args:
        slope: Factor.
        intercept: Added after it.
        lut: A table instead of these.
        units: Such as ``HU``; None where the file does not say.
    """

    slope: float = 1.0
    intercept: float = 0.0
    lut: Lut | None = None
    units: str | None = None

    @property
    def plain(self) -> bool:
        """The stored numbers are the values."""
        return self.lut is None and (self.slope, self.intercept) == (1.0, 0.0)


def modality_of(dataset: Any, layout: Layout, frame: int) -> Modality:
    """Return what the stored numbers of a frame measure; colour measures nothing."""
    if layout.channels == 3:
        return Modality()
    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        return Modality(lut=lut_of(item), units=_units(text(item, "ModalityLUTType")))
    holder = macro(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = numbers(holder, "RescaleSlope"), numbers(holder, "RescaleIntercept")
    if not slope or not intercept:
        return Modality()
    kind, modality = text(holder, "RescaleType"), text(dataset, "Modality")
    if kind.upper() in _NOT_SAID:
        pet = text(dataset, "Units") if modality == "PT" else ""
        units = "HU" if modality == "CT" else pet if pet in _PET_UNITS else None
    else:
        units = _units(kind)
    return Modality(slope[0], intercept[0], units=units)


def lut_of(item: Any) -> Lut:
    """Return a look-up table of a Modality LUT or VOI LUT Sequence (PS3.3 C.11.1.1.1).

    Raises:
        DataError: It is broken.
    """
    descriptor = numbers(item, "LUTDescriptor")
    data = item.get("LUTData")
    if len(descriptor) != 3 or data is None or not 1 <= descriptor[2] <= 16:
        raise DataError("has a broken look-up table in its header", remedy=RESTORE)
    count, first, bits = int(descriptor[0]) or 2**16, int(descriptor[1]), int(descriptor[2])
    if isinstance(data, bytes):
        order = ">" if item.original_encoding[1] is False else "<"
        # Entries of 8 bits may have a byte each, or lie in words of 16.
        kind = "u1" if bits <= 8 and len(data) < 2 * count else f"{order}u2"
        entries = np.frombuffer(data[: len(data) // 2 * 2] if kind != "u1" else data, kind).astype(np.uint16)
    else:
        entries = np.atleast_1d(np.asarray(data, dtype=np.int64)).astype(np.uint16)
    if len(entries) < count:
        raise DataError("has a look-up table in its header that is too short", remedy=RESTORE)
    return Lut(first, entries[:count].astype(np.uint8 if bits <= 8 else np.uint16), bits)


def span_of(layout: Layout, modality: Modality) -> tuple[float, float]:
    """Return the lowest and the highest value that a file can have."""
    if modality.lut is not None:
        return 0, 2**modality.lut.bits - 1
    ends = sorted(end * modality.slope + modality.intercept for end in layout.stored_span)
    return ends[0], ends[1]


def type_of(layout: Layout, modality: Modality) -> np.dtype[Any]:
    """Return the number type of the values: integers where they are whole, float32 otherwise."""
    if layout.floating:
        return np.dtype(np.float32)
    if modality.lut is not None:
        return modality.lut.entries.dtype
    if modality.plain:
        return layout.stored_type
    if modality.slope.is_integer() and modality.intercept.is_integer():
        low, high = span_of(layout, modality)
        for kind in (layout.stored_type, np.dtype(np.int16), np.dtype(np.int32)):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return kind
    return np.dtype(np.float32)


def values_of(stored: np.ndarray, layout: Layout, modality: Modality) -> np.ndarray:
    """Return the values of a plane in their units.

    Args:
        stored: (H, W, C).
        layout: How they are stored.
        modality: What they measure.
    """
    if modality.lut is not None:
        return modality.lut.of(stored)
    if modality.plain:
        return stored
    kind = type_of(layout, modality)
    if kind.kind in "iu":
        # Modulo the type's size, in which the result fits though a step to it may not.
        slope, intercept = (np.array(int(number)).astype(kind) for number in (modality.slope, modality.intercept))
        values: np.ndarray = stored.astype(kind) * slope + intercept
    else:
        values = (stored.astype(np.float64) * modality.slope + modality.intercept).astype(kind)
    return values


def mirror_of(planes: Sequence[tuple[Layout, Modality]]) -> float | None:
    """Return the lowest and the highest value that planes can have, added, where low ones are bright; else None."""
    if planes[0][0].photometric != "MONOCHROME1":
        return None
    spans = [span_of(layout, modality) for layout, modality in planes]
    return min(low for low, _ in spans) + max(high for _, high in spans)


def windowed(values: np.ndarray, dataset: Any, layout: Layout, frame: int) -> np.ndarray:
    """Return a plane in [0, 1] float32 as the first view that the file declares shows it.

    Raises:
        DataError: It declares none, or one that cannot be.
    """
    holder = macro(dataset, frame, "FrameVOILUTSequence")
    if layout.channels == 1 and holder.get("VOILUTSequence"):
        lut = lut_of(holder.VOILUTSequence[0])
        shown = (lut.of(values).astype(np.float32) / np.float32(2**lut.bits - 1)).clip(0, 1)
    else:
        centers, widths = numbers(holder, "WindowCenter"), numbers(holder, "WindowWidth")
        if layout.channels == 3 or not centers or not widths:
            raise DataError(
                "declares no window of its own",
                remedy="Give the modality's 'window' as {center, width} in the file's units, or its 'range'",
            )
        shown = window(values, centers[0], widths[0], text(holder, "VOILUTFunction").upper() or "LINEAR")
    return 1 - shown if layout.photometric == "MONOCHROME1" else shown


def window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Return values in [0, 1] through a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: Of any shape.
        center: Its middle, in the values' units.
        width: Its width.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
    """
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DataError("declares a window of an unknown function", remedy="Give the modality's 'window'")
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise DataError(f"declares a window of the width {width:g}", remedy="Give the modality's 'window'")
    exact = values.astype(np.float64)
    if function == "SIGMOID":
        return (1 / (1 + np.exp(-4 * (exact - center) / width))).astype(np.float32)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (exact > center).astype(np.float32)
    return np.clip((exact - center) / width + 0.5, 0, 1).astype(np.float32)


def _units(kind: str) -> str | None:
    return kind if kind in _UNITS else None
