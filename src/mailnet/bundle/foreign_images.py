"""Whether images of a modality are like those that a model has learned from; without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mailnet.trust.alarm import Alarm
from mailnet.trust.checks import Finding, ImageChecks, measure_images
from mailnet.trust.foreign import Mahalanobis
from mailnet.trust.profile import image_profiles

# What no score reaches: of an image that is plainly wrong, or on which the network has no numbers.
PLAIN = 1e6


@dataclass(frozen=True)
class Look:
    """What is seen of n images of a modality without their pixels.

    Args:
        statistics: (n, S) of ``mailnet.trust.checks``.
        picture: (n, P) these, and the profile of ``mailnet.trust.profile``.
        features: (n, C) of the network, None where it gives none.
    """

    statistics: np.ndarray
    picture: np.ndarray
    features: np.ndarray | None = None

    @staticmethod
    def at(images: np.ndarray, features: np.ndarray | None = None) -> Look:
        """Look at images (n, C, H, W), or volumes (n, C, D, H, W), in [0, 1]."""
        statistics = measure_images(images)
        return Look(statistics, np.c_[image_profiles(images), statistics], features)

    def values(self, kind: str) -> np.ndarray:
        """Return (n, D) what a distance of ``picture``, or of ``features`` and the picture together, is of.

        Raises:
            ValueError: The network has given no features.
        """
        if kind == "picture":
            return self.picture
        if self.features is None:
            raise ValueError("the network gives no features of this modality")
        return np.concatenate([self.picture, self.features], axis=1)


@dataclass(frozen=True)
class Distance:
    """A distance and its alarm.

    Args:
        score: The distance.
        alarm: On its logarithm in validation studies.
    """

    score: Mahalanobis
    alarm: Alarm

    def log(self, values: np.ndarray) -> np.ndarray:
        """Return (n,) the logarithm of the distance of (n, D), ``PLAIN`` where these are no numbers."""
        finite = np.isfinite(values).all(1)
        found = np.full(len(values), PLAIN)
        found[finite] = np.log(np.maximum(self.score.score(values[finite]), 1e-12))
        return found


@dataclass(frozen=True)
class ForeignImages:
    """Of an image or volume.

    The picture's own numbers and the network's early features are one vector and have one distance: how they go
    together tells more than each by itself, and one alarm spends the rate once, where Bonferroni would divide it.

    Args:
        checks: Plain checks.
        distances: ``picture``, which needs no network, and where this gives features ``features``, which is used then.
        layers: Places of the layers that give these in the network's ``feature_layers``.
        images: Training images that all was fitted on.
    """

    checks: ImageChecks
    distances: Mapping[str, Distance]
    layers: tuple[int, ...]
    images: int

    @property
    def alarm(self) -> Alarm:
        """The alarm that is used where the network gives features."""
        return self.distances.get("features", self.distances["picture"]).alarm

    def examine(self, look: Look) -> tuple[np.ndarray, list[list[Finding]]]:
        """Return p-values (n,), and what is plainly found in each image."""
        found = self.checks.check_statistics(look.statistics)
        kind = "picture" if look.features is None else "features"
        used = self.distances[kind]
        return used.alarm.p_value(raised(used.log(look.values(kind)), found)), found


def raised(scores: np.ndarray, found: Sequence[Sequence[Finding]]) -> np.ndarray:
    """Return (n,) scores, ``PLAIN`` where an image is blank, or of colours where grey is expected or the reverse."""
    plain = [any(finding.code != "outside" for finding in several) for several in found]
    return np.where(plain, PLAIN, scores)
