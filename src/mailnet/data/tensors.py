"""Tensors of torch and MONAI as decoded files, channels first; known by what they can do, so that neither is loaded."""

from __future__ import annotations

from typing import Any

import numpy as np

from mailnet.data.config import PixelConfig, VolumeConfig
from mailnet.data.scan import Scan, reading_of
from mailnet.errors import DataError

CLOSE = 1e-5  # by which interpolation may leave [0, 1]


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor of torch, a ``MetaTensor`` of MONAI among them.

    >>> is_tensor(np.zeros(3))
    False
    """
    return all(hasattr(value, name) for name in ("detach", "cpu", "ndim"))


def array_of(tensor: Any) -> np.ndarray:
    """Return a tensor's values; numpy has no bfloat16, which becomes float32."""
    plain = tensor.detach().cpu()
    return np.asarray(plain.float() if str(plain.dtype) == "torch.bfloat16" else plain)


def scan_of_tensor(tensor: Any, section: PixelConfig) -> Scan:
    """Return a tensor as a decoded file.

    Args:
        tensor: (C, H, W), of a volume (C, D, H, W). A volume with an ``affine`` of its own (a ``MetaTensor`` that was
            loaded or resampled) is turned and spaced by it as a NIfTI file is; any other is taken as it lies.
        section: The modality. Where it declares no ``range``, ``window`` or ``percentiles``, floating-point values are
            in [0, 1].

    Raises:
        DataError: It has other axes, values or a size that do not fit.
    """
    values = array_of(tensor)
    volume = isinstance(section, VolumeConfig)
    if values.ndim != 3 + volume or 0 in values.shape:
        raise DataError(
            f"is a tensor of the shape {list(values.shape)}",
            remedy=f"Give ({'C, D, H, W' if volume else 'C, H, W'}), as MONAI's EnsureChannelFirstd does",
        )
    reading = reading_of(section)
    reading.check_size(*(values.shape[1:] if volume else (1, *values.shape[1:])))
    affine = _affine(tensor) if volume else None
    spacing = None
    if affine is not None:
        from mailnet.data.nifti import check_affine, find_turn

        turn = find_turn(check_affine(affine), (values.shape[1], values.shape[2], values.shape[3]), reading)
        flips = tuple(slice(None, None, -1 if flip else 1) for flip in turn.flips)
        values = values.transpose(0, *(1 + axis for axis in turn.order))[(slice(None), *flips)]
        lengths = np.linalg.norm(affine, axis=0)[list(turn.order)].tolist()
        spacing = (lengths[0], lengths[1], lengths[2])
    laid = np.moveaxis(values if volume else values[:, None], 0, -1)
    return Scan(laid, spacing=spacing, unit_range=_is_unit(laid, section))


def _affine(tensor: Any) -> np.ndarray | None:
    """Return (3, 3) mm that a step along each axis goes right, ahead and up; None where a tensor does not say it."""
    affine = getattr(tensor, "affine", None)
    if affine is None:
        return None
    matrix = np.asarray(array_of(affine) if is_tensor(affine) else affine, np.float64)
    if matrix.shape != (4, 4):
        return None
    # What MONAI gives to a tensor that came from nowhere.
    nowhere = np.array_equal(matrix, np.eye(4)) and "original_affine" not in getattr(tensor, "meta", {})
    return None if nowhere else matrix[:3, :3]


def _is_unit(values: np.ndarray, section: PixelConfig) -> bool:
    declared = any(value is not None for value in (section.range, section.window, section.percentiles))
    if declared or values.dtype.kind != "f":
        return False
    low, high = float(values.min()), float(values.max())
    if not (low >= -CLOSE and high <= 1 + CLOSE):  # also of NaN
        raise DataError(
            f"holds values from {low:g} to {high:g}, a tensor without a declared range is in [0, 1]",
            remedy="Scale it in the transform, or declare the modality's 'range', 'window' or 'percentiles'",
        )
    return True
