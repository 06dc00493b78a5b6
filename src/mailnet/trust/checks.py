"""Plain checks of an image without a network: blank, colour where grey is expected, unlike any image of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mailnet.trust.arrays import Array
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
        return self.check_statistics(image_statistics(image))

    def check_statistics(self, values: Mapping[str, float]) -> list[Finding]:
        """Return the same from the image's ``image_statistics``."""
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
    values = read_image(image)
    grey = values.mean(0)
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (-2, -1) if grey.shape[axis] > 1]
    return {
        "mean": float(grey.mean(dtype=np.float64)),
        "spread": float(grey.std(dtype=np.float64)),
        "dark": float((grey <= STEP).mean()),
        "bright": float((grey >= 1 - STEP).mean()),
        "detail": float(np.mean([step.mean(dtype=np.float64) for step in steps])) if steps else 0.0,
        "colour": float((values.max(0) - values.min(0)).mean(dtype=np.float64)),
    }


def read_image(image: Array) -> Array:
    """Return an image (C, H, W) or (C, D, H, W) as float32; ValueError where it is none or not in [0, 1]."""
    values = np.asarray(image)
    if values.ndim not in (3, 4) or not values.size:
        raise ValueError(f"an image must be (C, H, W) or (C, D, H, W), got {values.shape}")
    values = values.astype(np.float32)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"an image must lie in [0, 1], got {values.min():g} to {values.max():g}")
    return values


def fit_image_checks(images: Iterable[Array | Mapping[str, float]], rate: float = 0.01) -> ImageChecks:
    """Measure training images and take the middle of each statistic as expected.

    What lies outside is split evenly between the ends of all statistics, so that at the given rate, at most,
    something is found on an image of the same kind. Where there are too few images to tell such rare values, the whole
    range seen is expected, widened by a tenth of itself on each side.

    Args:
        images: Each (C, H, W) or (C, D, H, W) in [0, 1], or its ``image_statistics``; some thousands are enough.
        rate: Between 0 and 1.

    Raises:
        ValueError: No image, an image that is none, or a rate out of range.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must be between 0 and 1, got {rate}")
    measured = [image if isinstance(image, Mapping) else image_statistics(image) for image in images]
    if not measured:
        raise ValueError("checks need a training image or more")
    tail = rate / (2 * len(STATISTICS))
    ranges = {}
    for name in STATISTICS:
        values = np.array([statistics[name] for statistics in measured], dtype=np.float64)
        low, high = np.quantile(values, [tail, 1 - tail])
        slack = max(0.1 * (values.max() - values.min()) if len(values) * tail < 1 else 0.0, STEP)
        # Never down to 0, so that what no training image was, as blank, stays outside.
        ranges[name] = (float(low - min(slack, low / 2)), float(high + slack))
    ranges["colour"] = (ranges["colour"][0], max(ranges["colour"][1], GREY))
    return ImageChecks(ranges, len(measured), rate)
