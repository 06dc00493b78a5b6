"""Shapley values: a player's share of what all are worth, the mean of what it adds over all orders of joining.

The shares of all players add up exactly to the worth of all of them less that of none, exact or sampled.

Source: Shapley, "A Value for n-Person Games", 1953; sampled: Castro, Gomez, Tejada, "Polynomial calculation of the
Shapley value based on sampling", Computers & Operations Research 2009.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

EXACT = 6  # players up to which all coalitions are asked: 64
Coalition: TypeAlias = tuple[bool, ...]
# Coalitions to what each is worth, (coalitions, B) float64; asked of each coalition once.
Worth: TypeAlias = Callable[[Sequence[Coalition]], Tensor]


@dataclass(frozen=True)
class Shares:
    """The shares of P players in B games.

    Args:
        values: (P, B) float64.
        errors: (P, B), standard errors of sampled values; None of exact ones.
        nobody: (B,), what the coalition of none is worth.
        everybody: (B,), what that of all is.
    """

    values: Tensor
    errors: Tensor | None
    nobody: Tensor
    everybody: Tensor


def shapley(
    worth: Worth, players: int, *, permutations: int = 64, generator: torch.Generator, exact: int = EXACT
) -> Shares:
    """Return the Shapley values.

    Args:
        worth: What coalitions are worth.
        players: Their number, at least one.
        permutations: Orders that are drawn where there are more players than ``exact``.
        generator: Where the orders come from.
        exact: Players up to which values are exact.

    Raises:
        ValueError: No player, or fewer than two orders to draw.
    """
    if players < 1:
        raise ValueError(f"players must be at least 1, got {players}")
    if permutations < 2:
        raise ValueError(f"permutations must be at least 2, got {permutations}")
    known = _Known(worth)
    nobody, everybody = known((False,) * players), known((True,) * players)
    if players <= exact:
        return Shares(_exact(known, players), None, nobody, everybody)
    orders = [
        torch.randperm(players, generator=generator, device=generator.device).tolist() for _ in range(permutations)
    ]
    known.ask(itertools.chain.from_iterable(_joining(order) for order in orders))
    added = torch.zeros(permutations, players, len(nobody), dtype=torch.float64)
    for k, order in enumerate(orders):
        steps = torch.stack([known(coalition) for coalition in _joining(order)])  # (P + 1, B)
        added[k, order] = steps.diff(dim=0)
    return Shares(added.mean(0), added.std(0) / math.sqrt(permutations), nobody, everybody)


def _exact(known: _Known, players: int) -> Tensor:
    everyone = list(itertools.product((False, True), repeat=players))
    known.ask(everyone)
    values = []
    for player in range(players):
        total = torch.zeros_like(known(everyone[0]))
        for coalition in everyone:
            if coalition[player]:
                continue
            size = sum(coalition)
            weight = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            joined = (*coalition[:player], True, *coalition[player + 1 :])
            total += weight * (known(joined) - known(coalition))
        values.append(total)
    return torch.stack(values)


def _joining(order: Sequence[int]) -> list[Coalition]:
    """Return the coalitions from none to all as players join in an order."""
    inside = [False] * len(order)
    coalitions = [tuple(inside)]
    for player in order:
        inside[player] = True
        coalitions.append(tuple(inside))
    return coalitions


class _Known:
    """What coalitions are worth, each asked once."""

    def __init__(self, worth: Worth) -> None:
        self._worth = worth
        self._found: dict[Coalition, Tensor] = {}

    def ask(self, coalitions: Iterable[Coalition]) -> None:
        missing = [coalition for coalition in dict.fromkeys(coalitions) if coalition not in self._found]
        if missing:
            values = self._worth(missing).detach().cpu().double()
            self._found.update(zip(missing, values, strict=True))

    def __call__(self, coalition: Coalition) -> Tensor:
        self.ask([coalition])
        return self._found[coalition]
