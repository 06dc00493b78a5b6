"""One table of all methods: every figure with its interval, and how far it lies above a guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mailnet.explain.quality.borders import border_share, share_in
from mailnet.explain.quality.truth import Array, average_precision, energy_in_mask, mask_iou, pointing_game
from mailnet.metrics.bootstrap import draw_weights, interval

# Whether more is better.
FIGURES: dict[str, bool] = {
    "pointing": True,
    "iou": True,
    "energy": True,
    "average_precision": True,
    "border": False,
    "padding": False,
    "blank": False,
}


def score_maps(
    maps: Array, masks: Array, *, padding: Array | None = None, tolerance: float = 0, frame: float = 0.05
) -> dict[str, Array]:
    """Return every figure of N maps of one size.

    Args:
        maps: (N, H, W) or (N, D, H, W).
        masks: The same, bool, the lesion; empty where there is none.
        padding: The same, bool, what surrounds the image, see ``find_padding``.
        tolerance: Of the pointing game, in pixels.
        frame: Of the border, as a share of each side.

    Returns:
        Figure -> (N,), NaN where there is no lesion or no padding: ``pointing``, ``iou`` (of as many pixels as the mask
        has), ``energy`` and ``average_precision``, see ``truth``; ``border`` and ``padding``, the share of the energy
        there by the share of the area; ``blank``, 1 where a map is the same everywhere.
    """
    flat = maps.reshape(len(maps), -1)
    return {
        "pointing": pointing_game(maps, masks, tolerance),
        "iou": mask_iou(maps, masks),
        "energy": energy_in_mask(maps, masks),
        "average_precision": average_precision(maps, masks),
        "border": border_share(maps, frame).ratio,
        "padding": np.full(len(maps), np.nan) if padding is None else share_in(maps, padding).ratio,
        "blank": (flat == flat[:, :1]).all(1).astype(float),
    }


def evaluate_methods(
    scores: Mapping[str, Mapping[str, Array]],
    groups: Array | None = None,
    *,
    baseline: str = "centre",
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return means with 95% intervals over patients, and paired differences to a baseline.

    Args:
        scores: Method -> figure -> (N,) the value of each map, NaN where the figure has none.
        groups: (N,) the patient of each map; whole patients are redrawn, since their maps resemble each other.
        baseline: The method that the others are compared with; without it there are no differences.
        draws: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        For JSON: ``maps``, ``patients``, ``baseline``, ``draws`` and ``methods``: method -> figure -> ``value``,
        ``interval`` (low, high; None where it cannot be told), ``maps`` (how many have the figure) and, for all but the
        baseline, ``difference`` (``value``, ``interval``) over the maps that both have.

    Raises:
        ValueError: No method, or values of different lengths.

    Source:
        Field and Welsh, "Bootstrapping clustered data", 2007.
    """
    lengths = {len(values) for figures in scores.values() for values in figures.values()}
    if len(lengths) != 1:
        raise ValueError(f"every method and figure needs one value a map, got {sorted(lengths)}")
    (count,) = lengths
    if count == 0:
        raise ValueError("there is no map")
    weights = np.concatenate(list(draw_weights(count, groups, draws, seed))) if draws else np.zeros((0, count))
    against = scores.get(baseline, {})
    methods: dict[str, Any] = {}
    for method, figures in scores.items():
        methods[method] = {}
        for figure, values in figures.items():
            line = _mean(values, weights)
            if figure in against and method != baseline:
                line["difference"] = _mean(values - against[figure], weights)
            methods[method][figure] = line
    patients = count if groups is None else len(np.unique(groups))
    return {"maps": count, "patients": patients, "baseline": baseline, "draws": draws, "methods": methods}


def _mean(values: Array, weights: Array) -> dict[str, Any]:
    known = np.isfinite(values)
    if not known.any():
        return {"value": None, "interval": None, "maps": 0}
    total = weights[:, known].sum(1)
    redrawn = np.divide(weights[:, known] @ values[known], total, out=np.full(len(total), np.nan), where=total > 0)
    return {"value": float(values[known].mean()), "interval": interval(redrawn), "maps": int(known.sum())}
