"""Which values of a file become 0 and 1: the steps that ``PixelConfig`` declares."""

from __future__ import annotations

import numpy as np

from mailnet.data.config import PixelConfig, Window
from mailnet.data.scan import Scan
from mailnet.errors import DataError

WHOLE_RANGE = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "int16": (-32768.0, 32767.0)}

# Room in single precision, in which values are computed.
LARGEST = 1e38


def interval(values: np.ndarray, scan: Scan, section: PixelConfig) -> tuple[float, float]:
    """Return the values of a file that become 0 and 1, falling where low values are bright; those beyond are clipped.

    Args:
        values: (D, H, W, C) integers or floating-point numbers, those of the file that are taken.
        scan: The file, which may state units, and whether its own window was applied.
        section: The modality.

    Raises:
        DataError: The file's units, values or lack of a window do not fit what is declared; says what was seen.
    """
    _check_units(scan.units, section)
    if scan.unit_range:
        _extent(values)
        return 0.0, 1.0
    if section.window == "file":
        raise DataError(
            "has no window of its own, as only DICOM files do",
            remedy="Declare the modality's 'window': {center, width}",
        )
    declared = _declared(values, section)
    if scan.mirror is None:
        return declared or _whole(values)
    if declared is not None:
        return declared[1], declared[0]
    low, high = _whole(values)
    return scan.mirror - low, scan.mirror - high


def _declared(values: np.ndarray, section: PixelConfig) -> tuple[float, float] | None:
    """Return the ends of what is declared, which the values are checked against; None where nothing is."""
    whole = WHOLE_RANGE.get(values.dtype.name)
    if whole is None or section.range not in (None, whole):
        low, high = _extent(values)
        if section.range is not None and (low < section.range[0] or high > section.range[1]):
            raise DataError(
                f"has values from {low:g} to {high:g}, outside the declared range {list(section.range)}",
                remedy="Correct the modality's 'range' or the file",
            )
    if isinstance(section.window, Window):
        return section.window.center - section.window.width / 2, section.window.center + section.window.width / 2
    if section.percentiles is not None:
        low, high = np.percentile(values, section.percentiles)
        return float(low), float(high)
    return section.range


def _whole(values: np.ndarray) -> tuple[float, float]:
    whole = WHOLE_RANGE.get(values.dtype.name)
    if whole is None:
        low, high = _extent(values)
        raise DataError(
            f"holds {values.dtype} values ({low:g} to {high:g}), which have no range of their own",
            remedy="Declare the modality's 'range': [lowest, highest], its 'window' or 'percentiles'",
        )
    return whole


def _extent(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    # A comparison with NaN is false.
    if not (abs(low) <= LARGEST and abs(high) <= LARGEST):
        raise DataError(f"holds NaN or infinite values, or beyond {LARGEST:g}", remedy="Replace them by numbers")
    return low, high


def _check_units(seen: str | None, section: PixelConfig) -> None:
    if section.units is None or seen is None or seen.strip().casefold() == section.units.strip().casefold():
        return
    raise DataError(
        f"holds values in {seen}, the modality declares {section.units}",
        remedy="Correct the modality's 'units', or leave the study out with --skip-bad",
    )
