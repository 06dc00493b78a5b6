"""How many draws of a random network an attacker must average: enough that the mean gradient points where it should.

If the gradients of two draws have the cosine r, the mean of K of them has with the gradient of the expectation the
cosine sqrt(K r / (1 + (K - 1) r)): its square is the share of the mean's squared length that the noise did not leave.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mailnet.attacks import Problem

AIM = 0.9
LEAST = 20


@dataclass(frozen=True)
class Alignment:
    """What was measured, and how many draws follow from it.

    Args:
        cosine: Mean cosine between the gradients of two draws, r; 0 where it was found to be below.
        draws: K, what is averaged.
        reached: Cosine of the mean of K draws with the true gradient.
        wanted: K that reaches the aim; None where r is 0 and no K does.
        studies: On which this was measured.
    """

    cosine: float
    draws: int
    reached: float
    wanted: int | None
    studies: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for a result card."""
        return asdict(self)


def reached_cosine(cosine: float, draws: int) -> float:
    """Return the cosine of the mean of K gradients with the true one, from that of two draws.

    >>> round(reached_cosine(0.03, 20), 2), round(reached_cosine(0.03, 140), 2)
    (0.62, 0.9)
    """
    return math.sqrt(draws * cosine / (1 + (draws - 1) * cosine)) if cosine > 0 else 0.0


def wanted_draws(cosine: float, aim: float = AIM, least: int = LEAST) -> int | None:
    """Return the fewest draws whose mean reaches a cosine with the true gradient; None where none does.

    >>> wanted_draws(0.03), wanted_draws(0.5), wanted_draws(0.0)
    (138, 20, None)
    """
    if cosine <= 0:
        return None
    if cosine >= 1:
        return least
    return max(least, math.ceil(round(aim**2 * (1 - cosine) / (cosine * (1 - aim**2)), 9)))


def measure_alignment(problem: Problem, *, pairs: int = 4, cap: int = 200, aim: float = AIM) -> Alignment:
    """Measure the cosine between gradients of two draws at the clean studies, and choose how many to average.

    Args:
        problem: Of a random network; its ``draws`` do not matter here.
        pairs: Pairs of draws for each study.
        cap: The most draws that there is time for.
        aim: Cosine with the true gradient that is wanted.

    Returns:
        The alignment; ``draws`` is at most ``cap``, and ``reached`` what that gives.

    Raises:
        ValueError: Fewer than one pair or draw.
    """
    if pairs < 1 or cap < 1:
        raise ValueError(f"pairs and cap must be at least 1, got {pairs} and {cap}")
    single = problem.with_draws(1)
    cosines = [_cosines(single) for _ in range(pairs)]
    # Studies whose gradient vanishes, as of a saturated loss, say nothing of how draws agree.
    known = torch.cat([found[found.isfinite()] for found in cosines])
    cosine = max(0.0, float(known.mean())) if len(known) else 0.0
    wanted = wanted_draws(cosine, aim)
    draws = cap if wanted is None else min(wanted, cap)
    return Alignment(cosine, draws, reached_cosine(cosine, draws), wanted, len(problem))


def _cosines(problem: Problem) -> Tensor:
    """(B,) cosine of two draws' gradients, NaN where one is zero."""
    first, second = (problem.ask(problem.space.clean).gradient for _ in range(2))
    assert first is not None
    assert second is not None
    lengths = torch.linalg.vector_norm(first, dim=1) * torch.linalg.vector_norm(second, dim=1)
    return (first * second).sum(1) / torch.where(lengths > 0, lengths, torch.nan)
