"""Do two images go together, as those of one patient do: how likely they are beside each other, given each alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from mailnet.trust.arrays import Array
from mailnet.trust.foreign import read_features

COMPONENTS = 20  # of each image's features, at most
PER_COMPONENT = 10  # studies for each
SHRINKAGE = 0.2
LEAST = 30  # studies


@dataclass(frozen=True)
class PairScore:
    """The logarithm of how much likelier two images are of different studies than of one, but for a constant.

    Both are Gaussian in the principal components of their features; alone they are the same either way, so an image
    that is merely odd does not score high. What is seen is what images of one study share: device, gain, size, place.

    Args:
        centre: (D,) float32, of the first image's features.
        axes: (D, K) float32, which brings them to K components of variance 1.
        other_centre: (E,) of the second image's.
        other_axes: (E, K).
        weights: (2K, 2K) float32, of the products of components.
    """

    centre: Array
    axes: Array
    other_centre: Array
    other_axes: Array
    weights: Array

    def score(self, first: Array, second: Array) -> Array:
        """Return (N,), higher is more foreign to each other, of features (N, D) and (N, E)."""
        z = np.concatenate(
            [
                (read_features(first, len(self.centre)) - self.centre) @ self.axes,
                (read_features(second, len(self.other_centre)) - self.other_centre) @ self.other_axes,
            ],
            axis=1,
        )
        return np.asarray(((z @ self.weights) * z).sum(1) / 2)

    def arrays(self) -> dict[str, Array]:
        """Return its arrays."""
        return dict(vars(self))

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array]) -> PairScore:
        """Return what ``arrays`` gave; ValueError where they do not fit."""
        names = [one.name for one in fields(PairScore)]
        if set(arrays) != set(names):
            raise ValueError(f"pair: expected the arrays {', '.join(names)}, got {', '.join(sorted(arrays))}")
        read = PairScore(*(np.asarray(arrays[name], np.float32) for name in names))
        size = 2 * read.axes.shape[-1]
        shapes = [(len(read.centre), size // 2), (len(read.other_centre), size // 2), (size, size)]
        if [read.axes.shape, read.other_axes.shape, read.weights.shape] != shapes:
            raise ValueError(f"pair: arrays of shapes {[array.shape for array in arrays.values()]} do not fit")
        if not all(np.isfinite(array).all() for array in read.arrays().values()):
            raise ValueError("pair: arrays hold NaN or infinity")
        return read


def fit_pair(first: Array, second: Array) -> PairScore:
    """Fit the score on images that go together.

    Args:
        first: (N, D) features of one image of each training study, N from 30.
        second: (N, E) of another.

    Raises:
        ValueError: Fewer studies, features that are no numbers, or all the same.
    """
    values, other = read_features(first), read_features(second)
    if len(values) != len(other) or len(values) < LEAST:
        raise ValueError(f"pairs need {LEAST} studies or more with both images, got {len(values)} and {len(other)}")
    count = min(COMPONENTS, len(values) // PER_COMPONENT, values.shape[1], other.shape[1])
    (centre, axes), (other_centre, other_axes) = _components(values, count), _components(other, count)
    z = np.concatenate([(values - centre) @ axes, (other - other_centre) @ other_axes], axis=1)
    # Components of one image are not correlated and have variance 1: only the parts between the images are left.
    together = (1 - SHRINKAGE) * (z.T @ z) / len(z) + SHRINKAGE * np.eye(2 * count)
    alone = np.zeros_like(together)
    for part in (slice(None, count), slice(count, None)):
        alone[part, part] = np.linalg.inv(together[part, part])
    weights = np.linalg.inv(together) - alone
    return PairScore(*(np.asarray(one, np.float32) for one in (centre, axes, other_centre, other_axes, weights)))


def _components(values: Array, count: int) -> tuple[Array, Array]:
    """Return the mean (D,), and axes (D, K) along which features of deviation 1 vary most, with variance 1."""
    centre, deviation = values.mean(0), values.std(0)
    scale = np.where(deviation > 1e-9, deviation, np.inf)
    scaled = (values - centre) / scale
    variances, axes = np.linalg.eigh(scaled.T @ scaled / len(values))
    kept = slice(-1, -count - 1, -1)
    if not variances[kept][-1] > 1e-9:
        raise ValueError("features vary in too few ways to tell which images go together")
    return centre, axes[:, kept] / np.sqrt(variances[kept]) / scale[:, None]
