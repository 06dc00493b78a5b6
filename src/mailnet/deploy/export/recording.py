"""What a random network draws in a prediction, kept for every combination of modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mailnet.deploy.export.combinations import Pass
from mailnet.nn.noise import OF_WEIGHTS, NoiseKind, NoiseSource


@dataclass
class Calls:
    """What a layer was given.

    Args:
        kept: Place of a combination -> one tensor a call, in the order of calls of all draws: numbers (1, ...) that
            are added, or the kernel of a convolution or linear layer.
        of_weights: Its weights are drawn.
        drawn: Of the convolutions and linear functions of one forward, which have a drawn kernel.
    """

    kept: dict[int, list[Tensor]] = field(default_factory=dict)
    of_weights: bool = False
    drawn: list[bool] = field(default_factory=list)

    def keep(self, numbers: Tensor, state: Pass) -> None:
        """Keep what a call is given."""
        self.kept.setdefault(state.recording, []).append(numbers.detach().clone())


class Recorder(NoiseSource):
    """A layer's source that keeps what it gives; of drawn weights the kernel made of them is kept elsewhere.

    Args:
        source: The network's own, shared by all layers.
        state: The pass at hand.
        calls: Where it is kept.
    """

    def __init__(self, source: NoiseSource, state: Pass, calls: Calls) -> None:
        super().__init__(source.mode, source.draws, source.generator, source.shared)
        self.state, self.calls = state, calls
        self.count = 0  # of numbers drawn for one study

    def draw(self, kind: NoiseKind, shape: Sequence[int], std: float, like: Tensor) -> Tensor:
        """Draw and keep; see ``NoiseSource.draw``."""
        numbers = super().draw(kind, shape, std, like)
        self.calls.of_weights = kind in OF_WEIGHTS
        if self.calls.of_weights:
            self.count += numbers.numel()
        else:
            self.count += numbers[:1].numel()
            self.calls.keep(numbers[:1], self.state)
        return numbers


@dataclass(frozen=True)
class Table:
    """What one call of a layer is given.

    Args:
        numbers: (D, K, ...), K the most that one draw has for different combinations.
        which: (D, P), the place of a combination's own among the K.
    """

    numbers: Tensor
    which: list[list[int]]


def tables_of(calls: Calls, state: Pass) -> list[Table]:
    """Return a table for each call of one pass in which every modality is there.

    Raises:
        ValueError: With fewer modalities the layer runs in an order that is not known.
    """
    last = len(state.combinations) - 1
    each = len(calls.kept.get(last, [])) // state.draws
    return [_table(calls, call, each, state) for call in range(each)]


def _table(calls: Calls, call: int, each: int, state: Pass) -> Table:
    which = [[0] * len(state.combinations) for _ in range(state.draws)]
    rows: list[list[Tensor]] = []
    for draw in range(state.draws):
        distinct: list[Tensor] = []
        for p in reversed(range(len(state.combinations))):
            row = _of(calls, p, draw, call, each, state)
            if row is None:
                continue  # the layer does not run there, so any numbers will do
            same = [k for k, other in enumerate(distinct) if torch.equal(row, other)]
            which[draw][p] = same[0] if same else len(distinct)
            distinct += [] if same else [row]
        rows.append(distinct)
    most = max(map(len, rows))
    return Table(torch.stack([torch.stack([*own, *own[:1] * (most - len(own))]) for own in rows]), which)


def _of(calls: Calls, combination: int, draw: int, call: int, each: int, state: Pass) -> Tensor | None:
    """Return what a combination's pass gave at a call of those that are made where every modality is there."""
    own = calls.kept.get(combination, [])
    count = len(own) // state.draws
    if count == each:
        return own[draw * count + call]
    present = state.combinations[combination]
    if count == 0 or (each == len(present) and not present[call]):
        return None
    if each != len(present) or count != sum(present):
        raise ValueError("a random layer runs in an order that export does not know")
    return own[draw * count + sum(present[:call])]  # a call a modality
