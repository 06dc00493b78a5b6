"""Do contributions add up to what they are said to explain?"""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.explain.explanation import Explanation


def completeness(explanation: Explanation, difference: Tensor, *, relative: bool = False) -> Tensor:
    """Return what all modalities are worth together, less what they should be worth.

    Args:
        explanation: Of a method that promises to add up, as integrated gradients.
        difference: (B,) what the network gives for the study less what it gives for the baseline, in the unit that was
            explained.
        relative: As a share of the size of the difference.

    Returns:
        (B,) float64; zero is right.

    Raises:
        ValueError: The shape of ``difference`` does not fit.

    Source:
        Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    if difference.shape != explanation.target.shape:
        raise ValueError(f"difference must be {tuple(explanation.target.shape)}, got {tuple(difference.shape)}")
    wanted = difference.detach().cpu().double()
    total = torch.zeros_like(wanted)
    for part in explanation.totals().values():
        total += part.detach().cpu().double()
    residual = total - wanted
    return residual / wanted.abs().clamp(min=torch.finfo(torch.float32).tiny) if relative else residual
