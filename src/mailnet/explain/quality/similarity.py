"""How alike two explanations of the same studies are, by size and not by sign."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from mailnet.explain.explanation import Explanation
from mailnet.explain.quality.blur import blur

WINDOW = 1.5  # standard deviation of the window in pixels (Wang et al. 2004)
C1, C2 = 0.01**2, 0.03**2


def rank_correlation(first: Explanation, second: Explanation) -> Tensor:
    """Return Spearman's rank correlation of the sizes of all pixels of a study, over its modalities together.

    Args:
        first: Of B studies.
        second: Of the same studies.

    Returns:
        (B,) float64. 1 where both maps are the same constant, 0 where only one is constant; NaN without maps.

    Raises:
        ValueError: The maps do not fit each other.
    """
    _check(first, second)
    if not first.maps:
        return torch.full(first.target.shape, torch.nan, dtype=torch.float64)
    ranks = [rankdata(_sizes(explanation).numpy(), axis=1) for explanation in (first, second)]
    a, b = (several - several.mean(1, keepdims=True) for several in ranks)
    spread = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    same = (~a.any(1) & ~b.any(1)).astype(np.float64)
    return torch.from_numpy(np.divide((a * b).sum(1), spread, out=same, where=spread > 0))


def structural_similarity(first: Explanation, second: Explanation) -> Tensor:
    """Return SSIM of the maps' sizes, each study's brought to a highest value of 1, averaged over all its pixels.

    Args:
        first: Of B studies.
        second: Of the same studies.

    Returns:
        (B,) float64; NaN without maps. Maps with much empty space are alike in that space, whatever they show.

    Raises:
        ValueError: The maps do not fit each other.

    Source:
        Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    _check(first, second)
    sums = torch.zeros(first.target.shape, dtype=torch.float64)
    pixels = 0
    tops = [
        _sizes(explanation).amax(1).clamp(min=torch.finfo(torch.float64).tiny) if explanation.maps else sums
        for explanation in (first, second)
    ]
    for name in first.maps:
        x, y = (
            several[name].detach().cpu().double().abs()[:, None] / top.reshape(-1, *(1,) * several[name].ndim)
            for several, top in zip((first.maps, second.maps), tops, strict=True)
        )
        mean_x, mean_y = blur(x, WINDOW), blur(y, WINDOW)
        var_x, var_y = blur(x * x, WINDOW) - mean_x**2, blur(y * y, WINDOW) - mean_y**2
        shared = blur(x * y, WINDOW) - mean_x * mean_y
        similar = (2 * mean_x * mean_y + C1) * (2 * shared + C2)
        similar = similar / ((mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2))
        sums += similar.flatten(1).sum(1)
        pixels += similar[0].numel()
    return sums / pixels if pixels else torch.full_like(sums, torch.nan)


def _sizes(explanation: Explanation) -> Tensor:
    flat = [several.detach().cpu().double().abs().flatten(1) for several in explanation.maps.values()]
    return torch.cat(flat, 1)


def _check(first: Explanation, second: Explanation) -> None:
    one, other = ({name: tuple(x.shape) for name, x in e.maps.items()} for e in (first, second))
    if one != other:
        raise ValueError(f"the maps do not fit each other: {one} and {other}")
