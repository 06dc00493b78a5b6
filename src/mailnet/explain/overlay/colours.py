"""One colour scale for all modalities of a study, which those who see no red or green can read too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mailnet.explain.overlay.planes import Array

SEQUENTIAL = "inferno"
# Vermilion and blue differ for every kind of colour blindness, and both are seen on black and on white.
FOR, AGAINST = "#e8590c", "#1c7ed6"
RISE = 0.8  # below 1, so that scattered faint pixels are still seen on a dark image
HIGHEST = 99.5  # percentile of a map that has full colour: a single pixel must not make all others pale


def scale_top(maps: Mapping[str, Array]) -> float:
    """Return the value that has full colour: the highest of the modalities, each without its few highest pixels.

    Args:
        maps: Modality -> map of one study.
    """
    tops = [float(np.percentile(np.abs(values), HIGHEST)) or float(np.abs(values).max()) for values in maps.values()]
    return max(tops, default=0.0)


def colour_map(signed: bool, opacity: float) -> Any:
    """Return a matplotlib colour map from see-through at zero to ``opacity`` at the ends.

    What is worth nothing must leave the image as it is, so opacity rises with the value.

    Args:
        signed: From below zero to above, else from zero up.
        opacity: In [0, 1].
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, to_rgba

    places = np.linspace(-1 if signed else 0, 1, 511 if signed else 256)
    if signed:
        colours = np.where(places[:, None] < 0, to_rgba(AGAINST), to_rgba(FOR))
    else:
        # The darkest colours would darken the image where there is little to see.
        colours = np.asarray(colormaps[SEQUENTIAL](0.3 + 0.65 * places))
    colours[:, 3] = opacity * np.abs(places) ** RISE
    return ListedColormap(colours)
