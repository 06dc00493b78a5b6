"""The keys of an image modality, read from a sample of its files."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mailnet.data.init.draft import Draft
from mailnet.data.locations import Locator
from mailnet.data.readers import read_image
from mailnet.errors import DataError

SAMPLE = 40
SIZES = (28, 32, 48, 64, 96, 128)
DEPTHS = (10, 12, 14)


def describe_images(draft: Draft, modality: str, locator: Locator, size: int | None) -> dict[str, Any]:
    """Return channels, size and, where the file type does not say it, range; adds to the draft's notes.

    Raises:
        DataError: Not one file of the sample can be read.
    """
    paths = draft.paths(modality)
    images, errors = [], []
    for k in np.unique(np.linspace(0, len(paths) - 1, SAMPLE).astype(int)):
        try:
            images.append(read_image(locator.locate(paths[int(k)], draft.folder)))
        except DataError as error:
            errors.append(error)
    if not images:
        raise errors[0] if errors else DataError("has no path in any row", modality=modality, remedy="Name its column")
    if errors:
        draft.notes.append(
            f"{modality}: {len(errors)} of {len(errors) + len(images)} files cannot be read: {errors[0]}"
        )
    sides = Counter(image.shape[:2] for image in images)
    keys = _channels(images, modality, draft.notes)
    keys["size"] = size or _size(images)
    (height, width), _ = sides.most_common(1)[0]
    various = f" and {len(sides) - 1} other sizes" if len(sides) > 1 else ""
    draft.notes.append(
        f"{modality}: {height} x {width}{various}, {images[0].dtype}, {keys['channels']} channel"
        f"{'s' if keys['channels'] > 1 else ''} in {len(images)} files read; brought to {keys['size']} pixels a side"
    )
    return keys | _range(images, modality, draft.notes)


def _channels(images: list[np.ndarray], modality: str, notes: list[str]) -> dict[str, Any]:
    seen = {1 if image.ndim == 2 else image.shape[2] for image in images}
    colour = any(image.ndim == 3 and image.shape[2] >= 3 and not _is_grey(image) for image in images)
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
