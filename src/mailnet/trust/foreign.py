"""Is a study like those that the network has learned from: scores of features, higher is more foreign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mailnet.trust.arrays import Array
from mailnet.trust.plain import read_choice, read_count, read_fields

# Points are compared in blocks of about this many distances.
BLOCK = 4_000_000


class ForeignScore(Protocol):
    """A fitted score; ``alarm.Alarm`` turns it into a warning at a stated rate of false ones."""

    def score(self, features: Array) -> Array:
        """Return (N,) how foreign each study is, from its features (N, D)."""
        ...

    def arrays(self) -> dict[str, Array]:
        """Return its numbers, as safetensors or npy hold them."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Return the rest, as JSON holds it."""
        ...


@dataclass(frozen=True)
class Mahalanobis:
    """Distance to the nearest class in units of how training studies scatter about their class.

    Args:
        centre: (D,) float32, subtracted first.
        means: (C, D) float32, mean of each class, less the centre.
        whitening: (D, D) float32, W with W W^T the inverse covariance.

    Source: Lee et al. 2018; covariance shrunk after Ledoit and Wolf 2004.
    """

    centre: Array
    means: Array
    whitening: Array

    def score(self, features: Array) -> Array:
        """Return the squared distances (N,); ValueError where the features are no (N, D) numbers."""
        values = read_features(features, len(self.centre)) - self.centre
        white = values @ self.whitening
        means = self.means @ self.whitening
        found = np.full(len(white), np.inf)
        for mean in means:
            found = np.minimum(found, np.square(white - mean).sum(1))
        return found

    def arrays(self) -> dict[str, Array]:
        """Return its arrays."""
        return {"centre": self.centre, "means": self.means, "whitening": self.whitening}

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"kind": "mahalanobis"}


@dataclass(frozen=True)
class Neighbors:
    """Distance to the k-th nearest training study, all features being brought to length 1.

    For the features of a network, whose direction tells the class. Where the length tells as well, as in image
    profiles, ``Mahalanobis`` sees more.

    Args:
        points: (M, D) float32 of length 1.
        neighbors: k.

    Source: Sun et al. 2022.
    """

    points: Array
    neighbors: int

    def score(self, features: Array) -> Array:
        """Return the distances (N,), 0 to 2; ValueError where the features are no (N, D) numbers."""
        values = unit_length(read_features(features, self.points.shape[1]))
        step = max(1, BLOCK // len(self.points))
        parts = []
        for start in range(0, len(values), step):
            # Of two vectors of length 1 the squared distance is 2 - 2 cos.
            squares = 2 - 2 * (values[start : start + step] @ self.points.T.astype(np.float64))
            parts.append(np.partition(squares, self.neighbors - 1, axis=1)[:, self.neighbors - 1])
        return np.sqrt(np.maximum(np.concatenate(parts), 0.0)) if parts else np.zeros(0)

    def arrays(self) -> dict[str, Array]:
        """Return its arrays."""
        return {"points": self.points}

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"kind": "neighbors", "neighbors": self.neighbors}


def fit_mahalanobis(features: Array, labels: Array | None = None) -> Mahalanobis:
    """Fit the distance on training studies.

    Features are brought to mean 0 and deviation 1 first, since the shrinkage is towards a covariance that is the same
    in every direction. A feature that never changes stays in its own unit.

    Args:
        features: (N, D), N from 2.
        labels: (N,) classes, -1 unknown (left out); None, or too few, for one mean of all.

    Raises:
        ValueError: Fewer than two studies, or features that are no numbers or all the same.
    """
    values = read_features(features)
    place, classes = np.zeros(len(values), dtype=int), 1
    if labels is not None:
        given = np.asarray(labels)
        if given.shape != (len(values),) or given.dtype.kind not in "iu":
            raise ValueError(f"labels must be ({len(values)},) whole numbers, got {given.dtype} {given.shape}")
        # A class needs a second study, or its own would be its mean and seem to scatter by nothing.
        names, counts = np.unique(given[given >= 0], return_counts=True)
        names = names[counts > 1]
        if len(names):
            chosen = np.isin(given, names)
            values, place, classes = values[chosen], np.searchsorted(names, given[chosen]), len(names)
    if len(values) < 2:
        raise ValueError(f"the distance needs two training studies or more, got {len(values)}")
    centre, spread = values.mean(0), values.std(0)
    spread = np.where(spread > 1e-6 * max(float(spread.max()), 1e-30), spread, 1.0)
    scaled = (values - centre) / spread
    means = np.stack([scaled[place == k].mean(0) for k in range(classes)])
    root = np.linalg.cholesky(_shrunk(scaled - means[place]))
    whitening = np.linalg.solve(root, np.eye(len(root))).T / spread[:, None]
    return Mahalanobis(*(array.astype(np.float32) for array in (centre, means * spread, whitening)))


def fit_neighbors(features: Array, *, neighbors: int = 10, limit: int = 5000, seed: int = 0) -> Neighbors:
    """Keep training studies to compare with.

    Args:
        features: (N, D), N from 1.
        neighbors: k; fewer where there are fewer studies.
        limit: Most studies kept, drawn at random, so that a bundle stays small.
        seed: Of that draw.

    Raises:
        ValueError: No study, features that are no numbers, or no neighbour asked for.
    """
    values = read_features(features)
    if not len(values) or neighbors < 1 or limit < 1:
        raise ValueError(f"neighbours need one study or more, got {len(values)}, neighbors={neighbors}, limit={limit}")
    rows = np.arange(len(values))
    if len(values) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(len(values), limit, replace=False))
    points = unit_length(values[rows]).astype(np.float32)
    return Neighbors(points, min(neighbors, len(points)))


def foreign_score(arrays: Mapping[str, Array], values: object) -> ForeignScore:
    """Return the score from what its ``arrays`` and ``as_dict`` gave; ValueError where these do not fit."""
    kind = read_choice(values.get("kind") if isinstance(values, dict) else None, "kind", ("mahalanobis", "neighbors"))
    wanted = {"mahalanobis": ("centre", "means", "whitening"), "neighbors": ("points",)}[kind]
    if set(arrays) != set(wanted):
        raise ValueError(f"{kind}: expected the arrays {', '.join(wanted)}, got {', '.join(sorted(arrays))}")
    kept = {name: read_features(np.atleast_2d(arrays[name])).astype(np.float32) for name in wanted}
    if kind == "neighbors":
        read = read_fields(values, kind, ("kind", "neighbors"))
        k = read_count(read["neighbors"], "neighbors")
        if not 1 <= k <= len(kept["points"]):
            raise ValueError(f"neighbors: {k} of {len(kept['points'])} points")
        return Neighbors(kept["points"], k)
    read_fields(values, kind, ("kind",))
    size = kept["centre"].shape[1]
    if kept["means"].shape[1] != size or kept["whitening"].shape != (size, size) or len(kept["centre"]) != 1:
        raise ValueError(f"mahalanobis: arrays of shapes {[array.shape for array in kept.values()]} do not fit")
    return Mahalanobis(kept["centre"][0], kept["means"], kept["whitening"])


def read_features(features: Array, size: int | None = None) -> Array:
    """Return features (N, D) as float64; ValueError where they have another shape or hold NaN or infinity."""
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1] or (size is not None and values.shape[1] != size):
        raise ValueError(f"features must be (N, {size or 'D'}), got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("features hold NaN or infinity")
    return values


def unit_length(values: Array) -> Array:
    """Return rows divided by their length; a row of zeros stays."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1.0))


def _shrunk(centred: Array) -> Array:
    """Return the covariance (D, D) of rows without mean, drawn to a multiple of one as Ledoit and Wolf 2004 choose it.

    A little more is added, so that no direction is without scatter also where there is nothing to shrink.
    """
    n, size = centred.shape
    plain = centred.T @ centred / n
    mean = float(np.trace(plain)) / size
    if not mean > 0:
        raise ValueError("features are the same in all training studies of a class")
    distance = float(np.square(plain).sum()) - size * mean**2
    squares = np.square(centred)
    error = (float((squares.T @ squares).sum()) / n - float(np.square(plain).sum())) / n
    share = min(max(error / distance, 0.0), 1.0) if distance > 0 else 0.0
    return np.asarray((1 - share) * plain + (share + 1e-6) * mean * np.eye(size))
