"""The keys of an image modality, read from a sample of its files."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mailnet.data.config import ImageConfig, VolumeConfig
from mailnet.data.images import count_planes
from mailnet.data.init.draft import Draft
from mailnet.data.locations import Locator
from mailnet.data.readers import explained, kind_of, read_scan
from mailnet.data.scan import Scan, reading_of
from mailnet.errors import DataError

SAMPLE = 40
SIZES = (28, 32, 48, 64, 96, 128)
DEEPEST = (16, 28, 32, 48, 64)
MOST_CHANNELS = 4
DEPTHS = (10, 12, 14)


def describe_images(draft: Draft, modality: str, locator: Locator, size: int | None) -> dict[str, Any]:
    """Return kind, channels, size and, where the file type does not say it, the range; adds to the draft's notes.

    Raises:
        DataError: Not one file of the sample can be read, and the study has no other images.
    """
    paths = draft.paths(modality)
    depths, scans, errors = [], [], []
    for k in np.unique(np.linspace(0, len(paths) - 1, SAMPLE).astype(int)):
        try:
            depth, scan = _middle(locator.locate(paths[int(k)], draft.folder))
            depths.append(depth)
            scans.append(scan)
        except DataError as error:
            errors.append(error)
    if not scans:
        why = errors[0] if errors else DataError("has no path in any row", modality=modality, remedy="Name its column")
        if len(draft.images) == 1:
            raise why
        draft.notes.append(f"{modality}: nothing could be read, so its keys are yours to write: {why}")
        return {"size": size or SIZES[-1]}
    if errors:
        draft.notes.append(f"{modality}: {len(errors)} of {len(errors) + len(scans)} files cannot be read: {errors[0]}")
    volume = float(np.median(depths)) > 1
    images = [scan.values[0] for scan in scans]
    keys = ({"kind": "volume"} if volume else {}) | _channels(images, modality, draft.notes)
    side = size or min(_size(images), DEEPEST[-1] if volume else SIZES[-1])
    keys["size"] = (
        [max((d for d in DEEPEST if d <= np.median(depths)), default=DEEPEST[0]), side, side] if volume else side
    )
    sides = Counter(((depth,) if volume else ()) + image.shape[:2] for depth, image in zip(depths, images, strict=True))
    usual = " x ".join(str(length) for length in sides.most_common(1)[0][0])
    various = f" and {len(sides) - 1} other sizes" if len(sides) > 1 else ""
    draft.notes.append(
        f"{modality}: {usual}{various}, {images[0].dtype}, {keys['channels']} channel"
        f"{'s' if keys['channels'] > 1 else ''} in {len(images)} files read; brought to "
        + (" x ".join(str(length) for length in keys["size"]) if volume else f"{side} pixels a side")
    )
    if volume:
        draft.notes.append(f"{modality}: volumes; for one plane of each remove 'kind' and give 'slice: middle'")
    return keys | _values(scans, images, volume, modality, draft.notes)


def _middle(location: str) -> tuple[int, Scan]:
    """Return how many planes a file has, and the middle one."""
    with explained(location):
        clinical = kind_of(location) in ("folder", "dicomdir", "dicom", "nifti")
    if clinical:
        section = ImageConfig(slice="middle")
        return count_planes(location, section), read_scan(location, reading_of(section))
    scan = read_scan(location)
    if scan.values.shape[3] <= MOST_CHANNELS:
        return len(scan.values), scan
    # The last axis of an array is too long for colours: its first one counts planes.
    planes = read_scan(location, reading_of(VolumeConfig(kind="volume"))).values
    return len(planes), Scan(planes[len(planes) // 2 :][:1])


def _values(
    scans: list[Scan], images: list[np.ndarray], volume: bool, modality: str, notes: list[str]
) -> dict[str, Any]:
    if {scan.units for scan in scans} == {"HU"}:
        notes.append(
            f"{modality}: values in HU; the window is that of soft tissue, choose the one that shows the finding"
        )
        return {"units": "HU", "window": {"center": 40, "width": 400}}
    if volume and {image.dtype for image in images} != {np.dtype(np.uint8)}:
        notes.append(f"{modality}: brightness is taken between two percentiles of each file, as for MR")
        return {"percentiles": [1, 99.5]}
    return _range(images, modality, notes)


def _channels(images: list[np.ndarray], modality: str, notes: list[str]) -> dict[str, Any]:
    seen = {image.shape[2] for image in images}
    if max(seen) > MOST_CHANNELS:
        notes.append(f"{modality}: files have {max(seen)} points in time; their mean is taken, or name one in 'frame'")
        return {"channels": 1, "frame": "mean"}
    colour = any(image.shape[2] >= 3 and not _is_grey(image) for image in images)
    wanted = 3 if colour else 1
    if seen == {wanted}:
        return {"channels": wanted}
    notes.append(
        f"{modality}: files have {' or '.join(str(count) for count in sorted(seen))} channels and "
        f"{'colour' if colour else 'no colour'}; they are converted to {wanted}"
    )
    return {"channels": wanted, "convert": True}


def _is_grey(image: np.ndarray) -> bool:
    colours = image[..., :3].astype(np.float32)
    # Compression leaves a few grey levels between the channels of a grey picture.
    return bool(np.abs(colours - colours.mean(axis=2, keepdims=True)).mean() < 1)


def _size(images: list[np.ndarray]) -> int:
    side = float(np.median([max(image.shape[:2]) for image in images]))
    return max((size for size in SIZES if size <= side), default=SIZES[0])


def _range(images: list[np.ndarray], modality: str, notes: list[str]) -> dict[str, Any]:
    kinds = {image.dtype for image in images}
    if kinds <= {np.dtype(np.uint8), np.dtype(bool)}:
        return {}
    low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    if kinds == {np.dtype(np.uint16)}:
        bits = next((bits for bits in DEPTHS if high < 2**bits), 16)
        if bits == 16:
            return {}
        notes.append(f"{modality}: no value above {high:g}, so {bits} bits are used; correct 'range' if more are")
        return {"range": [0, 2**bits - 1]}
    room = 0.1 * (high - low) or 1.0
    limits = [float(np.floor(low - room)) if low < 0 else 0.0, float(np.ceil(high + room))]
    notes.append(f"{modality}: values from {low:g} to {high:g} were seen; set 'range' to what they can be")
    return {"range": limits}
