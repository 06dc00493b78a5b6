"""Plain checks of an image without a network: blank, colour where grey is expected, unlike any image of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.trust.arrays import Array
from mailnet.trust.images import grey_of, in_parts, read_images
from mailnet.trust.plain import read_count, read_fields, read_number

# Below this deviation, a quarter of a step of 8 bits, all pixels are the same.
BLANK = 1 / 1020
# Mean difference of a pixel's channels up to which JPEG alone colours a grey image.
GREY = 0.02
# Pixels are black or white within half a step of 8 bits; differences of statistics within it say nothing.
STEP = 0.5 / 255

STATISTICS = {
    "mean": "mean brightness",
    "spread": "standard deviation of the brightness",
    "dark": "share of black pixels",
    "bright": "share of white pixels",
    "detail": "mean difference of neighbouring pixels",
    "colour": "mean difference of a pixel's channels",
}


@dataclass(frozen=True)
class Finding:
    """Something about an image that training images did not have.

    Args:
        code: ``blank``, ``colour``, ``grey`` or ``outside``.
        statistic: Which of ``STATISTICS``.
        value: Its value in this image.
        low: Lowest that is expected.
        high: Highest that is expected.
    """

    code: str
    statistic: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        start = {
            "blank": "the image is blank",
            "colour": "the image has colours where grey is expected",
            "grey": "the image is grey where colours are expected",
            "outside": "the image is unlike those of training",
        }[self.code]
        name = STATISTICS[self.statistic]
        return f"{start}: {name} {self.value:.3g}, in training images {self.low:.3g} to {self.high:.3g}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the message."""
        return {**vars(self), "message": str(self)}


@dataclass(frozen=True)
class ImageChecks:
    """What the images of a modality are like.

    Args:
        ranges: Statistic -> lowest and highest value that is expected.
        images: Number of training images measured.
        rate: Share of images like these on which something is found, at most, as far as those measured tell.

    Raises:
        ValueError: Another set of statistics, or a range without order.
    """

    ranges: Mapping[str, tuple[float, float]]
    images: int
    rate: float

    def __post_init__(self) -> None:
        if set(self.ranges) != set(STATISTICS):
            raise ValueError(f"checks: statistics must be {', '.join(STATISTICS)}")
        if any(low > high for low, high in self.ranges.values()):
            raise ValueError("checks: a range must rise")

    def check(self, image: Array) -> list[Finding]:
        """Return what is found in one image, the plainest first; of a blank image nothing else.

        Args:
            image: (C, H, W) or (C, D, H, W) in [0, 1].

        Raises:
            ValueError: Another shape, or values outside [0, 1].
        """
        return self._found(image_statistics(image))

    def check_statistics(self, statistics: Array) -> list[list[Finding]]:
        """Return the same of each of n images, from their ``measure_images`` (n, S)."""
        low, high = np.array([self.ranges[name] for name in STATISTICS]).T
        odd = ((statistics < low) | (statistics > high)).any(1)
        found: list[list[Finding]] = [[] for _ in statistics]
        for row in np.flatnonzero(odd):
            found[row] = self._found(dict(zip(STATISTICS, statistics[row].tolist(), strict=True)))
        return found

    def _found(self, values: Mapping[str, float]) -> list[Finding]:
        if values["spread"] < BLANK <= self.ranges["spread"][0]:
            return [Finding("blank", "spread", values["spread"], *self.ranges["spread"])]
        found = []
        for name, (low, high) in self.ranges.items():
            if low <= values[name] <= high:
                continue
            code = "outside"
            if name == "colour" and high <= GREY < values[name]:
                code = "colour"
            elif name == "colour" and values[name] <= GREY < low:
                code = "grey"
            found.append(Finding(code, name, values[name], low, high))
        return sorted(found, key=lambda finding: finding.code == "outside")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        ranges = {name: list(bounds) for name, bounds in self.ranges.items()}
        return {"ranges": ranges, "images": self.images, "rate": self.rate}

    @staticmethod
    def from_dict(values: object) -> ImageChecks:
        """Return what ``as_dict`` wrote; ValueError where it was changed to something else."""
        read = read_fields(values, "checks", ImageChecks.__dataclass_fields__)
        given = read_fields(read["ranges"], "checks: ranges", STATISTICS)
        if any(not isinstance(bounds, list) or len(bounds) != 2 for bounds in given.values()):
            raise ValueError("checks: a range is two numbers")
        ranges = {name: (read_number(low, name), read_number(high, name)) for name, (low, high) in given.items()}
        rate = read_number(read["rate"], "checks: rate", 0, 1)
        return ImageChecks(ranges, read_count(read["images"], "checks: images"), rate)


def image_statistics(image: Array) -> dict[str, float]:
    """Return the ``STATISTICS`` of an image, which are the same for its mirror image.

    Args:
        image: (C, H, W) or (C, D, H, W) in [0, 1].

    Raises:
        ValueError: Another shape, or values outside [0, 1].
    """
    return dict(zip(STATISTICS, measure_images(np.asarray(image)[None])[0].tolist(), strict=True))


def measure_images(images: Array) -> Array:
    """Return (n, S) float64, the ``STATISTICS`` of each of n images at once.

    Args:
        images: (n, C, H, W) or (n, C, D, H, W) in [0, 1].

    Raises:
        ValueError: Another shape, or values outside [0, 1].
    """
    parts = [_measured(part) for part in in_parts(read_images(images))]
    return np.concatenate([np.zeros((0, len(STATISTICS))), *parts])


def _measured(values: Array) -> Array:
    grey = grey_of(values)
    flat = grey.reshape(len(grey), -1)
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (-2, -1) if grey.shape[axis] > 1]
    colour = values.max(1) - values.min(1) if values.shape[1] > 1 else np.zeros((len(values), 1))
    return np.stack(
        [
            flat.mean(1, dtype=np.float64),
            flat.std(1, dtype=np.float64),
            np.count_nonzero(flat <= STEP, axis=1) / flat.shape[1],
            np.count_nonzero(flat >= 1 - STEP, axis=1) / flat.shape[1],
            np.mean([_means(step) for step in steps], axis=0) if steps else np.zeros(len(flat)),
            _means(colour),
        ],
        axis=1,
    )


def _means(values: Array) -> Array:
    return np.asarray(values.reshape(len(values), -1).mean(1, dtype=np.float64))


def fit_image_checks(images: Iterable[Array], rate: float = 0.01) -> ImageChecks:
    """Measure training images and take the middle of each statistic as expected.

    What lies outside is split evenly between the ends of all statistics, so that at the given rate, at most,
    something is found on an image of the same kind. Where there are too few images to tell such rare values, the whole
    range seen is expected, widened by a tenth of itself on each side.

    Args:
        images: Each (C, H, W) or (C, D, H, W) in [0, 1], or its row (S,) of ``measure_images``; some thousands are
            enough.
        rate: Between 0 and 1.

    Raises:
        ValueError: No image, an image that is none, or a rate out of range.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must be between 0 and 1, got {rate}")
    measured = [image if np.ndim(image) == 1 else measure_images(np.asarray(image)[None])[0] for image in images]
    if not measured:
        raise ValueError("checks need a training image or more")
    columns = np.asarray(measured, dtype=np.float64).T
    tail = rate / (2 * len(STATISTICS))
    ranges = {}
    for name, values in zip(STATISTICS, columns, strict=True):
        low, high = np.quantile(values, [tail, 1 - tail])
        slack = max(0.1 * (values.max() - values.min()) if len(values) * tail < 1 else 0.0, STEP)
        # Never down to 0, so that what no training image was, as blank, stays outside.
        ranges[name] = (float(low - min(slack, low / 2)), float(high + slack))
    ranges["colour"] = (ranges["colour"][0], max(ranges["colour"][1], GREY))
    return ImageChecks(ranges, len(measured), rate)
