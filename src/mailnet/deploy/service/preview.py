"""The pixels of files for the page: in the file's own values, lying as the network sees them, small enough to send."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from mailnet.data.config import ImageConfig, ModalityConfig, PixelConfig, VolumeConfig
from mailnet.data.images import load_scan
from mailnet.data.intensity import interval
from mailnet.data.preprocess import as_channels, checked, sampling
from mailnet.data.scan import Scan
from mailnet.deploy.service.explained import as_json
from mailnet.deploy.service.refusal import unusable
from mailnet.deploy.service.settings import Settings
from mailnet.deploy.service.study import locate
from mailnet.deploy.service.upload import Upload
from mailnet.errors import DataError

SIDE, PLANES = 1024, 64
VALUES = 2**23  # of a volume, so that its answer stays below some 20 MB


def preview_study(upload: Upload, sections: Mapping[str, ModalityConfig], settings: Settings) -> bytes:
    """Return the answer of ``/v1/preview`` as JSON; runs long.

    Raises:
        Refused: A field that is no modality, or files that cannot be used.
    """
    images = {}
    for name, location in locate(upload, sections, settings).items():
        section = sections[name]
        assert isinstance(section, PixelConfig)
        try:
            images[name] = preview(load_scan(location, section), section)
        except DataError as error:
            raise unusable(error, name) from None
    return as_json({"images": images})


def preview(scan: Scan, section: PixelConfig) -> dict[str, Any]:
    """Return a file for display.

    Args:
        scan: The file, as it was read for the modality.
        section: The modality.

    Returns:
        ``shape`` [H, W] or [D, H, W]; ``channels``, 1 or 3; ``values``, base64 of unsigned little-endian integers of
        ``bits`` bits; ``rescale``, slope and intercept that make the file's values of them; ``unit`` of these;
        ``window``, the values that the network sees as 0 and 1; ``aspect``, a pixel's height by its width; and
        ``covers``, where what the network sees begins and ends along each axis, as shares of the picture.

    Raises:
        DataError: The file does not fit what the modality declares.
    """
    whole = planes = checked(scan.values, section)
    volume = isinstance(section, VolumeConfig)
    if volume and len(planes) == 1:
        raise DataError("has one plane, a 3-D modality takes several", remedy="Send all planes of the series")
    if isinstance(section, ImageConfig) and section.neighbours:
        if len(planes) != (wanted := 2 * section.neighbours + 1):
            raise DataError(
                f"has {len(planes)} planes", remedy=f"Send a volume or a series, of which {wanted} are used"
            )
        planes = planes[len(planes) // 2 : len(planes) // 2 + 1]
    elif isinstance(section, ImageConfig):
        scan.picture()
    low, high = interval(whole, scan, section)
    as_channels(planes[0, :1], section)  # what the modality does not take is not shown either
    if section.channels < planes.shape[3]:
        planes = np.stack([as_channels(plane, section) for plane in planes])
    shape: tuple[int, ...] = planes.shape[:3] if volume else planes.shape[1:3]
    axes = sampling(shape, scan.spacing, section)
    small = _smaller(_colours(planes), volume)
    if high < low:  # low values are bright
        small, low, high = low + high - small.astype(np.float64), high, low
    stored, slope, intercept = _stored(small)
    rows, columns = (axis.inside / count for axis, count in zip(axes[-2:], small.shape[1:3], strict=True))
    spacing = scan.spacing or (1.0, 1.0, 1.0)
    aspect = spacing[1] * rows / (spacing[2] * columns)
    return {
        "shape": list(small.shape[:3] if volume else small.shape[1:3]),
        "channels": small.shape[3],
        "bits": stored.dtype.itemsize * 8,
        "window": [low, high],
        "rescale": [slope, intercept],
        "unit": scan.units or "",
        "aspect": aspect if math.isfinite(aspect) and aspect > 0 else 1.0,
        "covers": [
            [(a.begin - a.first * a.step) / a.inside, (a.begin + (a.size - a.first) * a.step) / a.inside] for a in axes
        ],
        "values": base64.b64encode(stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes()).decode("ascii"),
    }


def _colours(values: np.ndarray) -> np.ndarray:
    """Return (D, H, W, C) grey or colour: transparent pixels are dark, of other channels the first is shown."""
    count = values.shape[3]
    if count in (2, 4) and values.dtype == np.uint8:
        solid = values[..., :-1] * (values[..., -1:] / np.float32(255))
        values = np.rint(solid).astype(np.uint8)
    return values if values.shape[3] in (1, 3) else values[..., :1]


def _smaller(values: np.ndarray, volume: bool) -> np.ndarray:
    """Return (D, H, W, C) of at most ``PLANES`` planes of ``SIDE`` pixels a side."""
    depth, height, width, channels = values.shape
    chosen = np.linspace(0, depth - 1, min(depth, PLANES)).round().astype(int) if volume else np.arange(depth)
    scale = min(1.0, SIDE / max(height, width))
    if volume:
        scale = min(scale, math.sqrt(VALUES / (len(chosen) * height * width * channels)))
    if scale >= 1:
        return values[chosen]
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    kind = np.uint8 if values.dtype == np.uint8 else np.float32

    def plane(number: int, channel: int) -> np.ndarray:
        picture = Image.fromarray(np.ascontiguousarray(values[number, ..., channel].astype(kind, copy=False)))
        small = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        # Whole numbers stay whole: 71 HU rather than 70.8095.
        return np.rint(small).astype(np.int32) if kind != np.uint8 and values.dtype.kind in "iu" else small

    return np.stack([np.stack([plane(int(n), c) for c in range(channels)], axis=-1) for n in chosen])


def _stored(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return values as unsigned integers, with the slope and the intercept that make the values of them."""
    if values.dtype == np.uint8:
        return values, 1.0, 0.0
    if values.dtype.kind in "iu" and int(values.max()) - (lowest := int(values.min())) <= 2**16 - 1:
        return np.subtract(values, lowest, dtype=np.int64, casting="unsafe").astype(np.uint16), 1.0, float(lowest)
    values = np.nan_to_num(values.astype(np.float64))
    least, most = float(values.min()), float(values.max())
    if most - least <= 2**16 - 1 and (values == np.rint(values)).all():
        return (values - least).astype(np.uint16), 1.0, least
    slope = (most - least) / (2**16 - 1) or 1.0
    return np.rint((values - least) / slope).astype(np.uint16), slope, least
