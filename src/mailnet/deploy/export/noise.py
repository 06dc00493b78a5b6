"""The random numbers of a network as constants of its exported graph: those that ``Predictor`` draws.

Which numbers a layer gets depends on the modalities that a study has, since only layers that run draw. So they are
recorded for every combination of modalities, and the graph picks a study's own by its presence masks. The draws that a
prediction averages are no passes one after the other there: each study travels once a draw in one batch, so that the
graph is as long as that of one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.bundle.draws import AVERAGED, average_draws
from mailnet.nn.noise import OF_WEIGHTS, NoiseKind, NoiseSource, get_noise, mean_logits
from mailnet.specs import ModalitySpec, TaskSpec

MOST_MODALITIES = 6
Combination = tuple[bool, ...]


@dataclass
class Pass:
    """What layers know of the pass at hand.

    Args:
        combinations: P combinations of modalities; (True, ...) alone where none may be absent.
        draws: D, of one prediction.
        recording: Place of the one that is recorded.
        code: (N,) place of each study's own, in a pass of the exported graph.
    """

    combinations: list[Combination]
    draws: int = AVERAGED
    recording: int = 0
    code: Tensor | None = None

    def repeat(self, x: Tensor) -> Tensor:
        """Return (D N, ...), the studies of (N, ...) once a draw."""
        return x.repeat(self.draws, *(1,) * (x.ndim - 1))

    def apart(self, x: Tensor) -> Tensor:
        """Return (D, N, ...) of (D N, ...)."""
        return x.reshape(self.draws, -1, *x.shape[1:])


@dataclass
class _Calls:
    """Numbers of a layer: combination -> one tensor a call, in the order of calls of all draws."""

    kept: dict[int, list[Tensor]] = field(default_factory=dict)
    of_weights: bool = False


class Recorder(NoiseSource):
    """A layer's source that keeps what it gives.

    Args:
        source: The network's own, shared by all layers.
        state: The pass at hand.
    """

    def __init__(self, source: NoiseSource, state: Pass) -> None:
        super().__init__(source.mode, source.draws, source.generator, source.shared)
        self.state, self.calls = state, _Calls()

    def draw(self, kind: NoiseKind, shape: Sequence[int], std: float, like: Tensor) -> Tensor:
        """Draw and keep; see ``NoiseSource.draw``."""
        numbers = super().draw(kind, shape, std, like)
        kept = numbers if kind in OF_WEIGHTS else numbers[:1]
        self.calls.kept.setdefault(self.state.recording, []).append(kept.detach().clone())
        self.calls.of_weights = kind in OF_WEIGHTS
        return numbers


class Replay(NoiseSource):
    """A layer's source that gives recorded numbers to a batch in which each study travels once a draw.

    Args:
        calls: What the layer was given.
        state: The pass at hand; its last combination has every modality.
    """

    def __init__(self, calls: _Calls, state: Pass) -> None:
        super().__init__("mean", state.draws)
        self.state, self.of_weights = state, calls.of_weights
        self._next, self._weights = 0, torch.zeros(())
        last = len(state.combinations) - 1
        each = len(calls.kept.get(last, [])) // state.draws
        self._tables = [_table(calls, call, each, state) for call in range(each)]

    def restart(self) -> None:
        """Begin a pass."""
        self._next = 0

    def draw(self, kind: NoiseKind, shape: Sequence[int], std: float, like: Tensor) -> Tensor:
        """Return the numbers of the next call; of weights those that ``run`` has laid out."""
        if kind in OF_WEIGHTS:
            return self._weights
        numbers, which = self._tables[self._next]
        self._next += 1
        assert self.state.code is not None
        places = torch.tensor(which).index_select(1, self.state.code).flatten()  # (D N,)
        return numbers[:, 0].index_select(0, places)

    def run(self, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return a layer's answer (D N, ...) whose weights are drawn: every study's by its own."""
        numbers, which = self._tables[self._next]
        self._next += 1
        found = []
        for draw, studies in enumerate(self.state.apart(x).unbind(0)):
            own: Tensor | None = None
            for place in sorted(set(which[draw])):
                self._weights = numbers[place]
                y = forward(studies)
                own = y if own is None else torch.where(self._rows(which[draw], place, y), y, own)
            assert own is not None
            found.append(own)
        return torch.cat(found)

    def average(self, forward: Callable[[], dict[str, Tensor]], tasks: Mapping[str, TaskSpec]) -> dict[str, Tensor]:
        """Return the averaged logits of one pass, again once a draw, since other networks may stand beside this one."""
        apart = {name: self.state.apart(logits).unbind(0) for name, logits in forward().items()}
        draws = [{name: several[k] for name, several in apart.items()} for k in range(self.state.draws)]
        return {name: self.state.repeat(logits) for name, logits in mean_logits(draws, tasks).items()}

    def _rows(self, which: list[int], place: int, y: Tensor) -> Tensor:
        assert self.state.code is not None
        return (torch.tensor(which).index_select(0, self.state.code) == place).reshape(-1, *(1,) * (y.ndim - 1))


def _table(calls: _Calls, call: int, each: int, state: Pass) -> tuple[Tensor, list[list[int]]]:
    """Return a call's distinct numbers (V, ...) and which of them each draw has in each combination (D, P)."""
    distinct: list[Tensor] = []
    which = [[0] * len(state.combinations) for _ in range(state.draws)]
    for draw in range(state.draws):
        first = len(distinct)
        for p in reversed(range(len(state.combinations))):
            row = _of(calls, p, draw, call, each, state)
            if row is None:
                which[draw][p] = first  # the layer does not run there, so any numbers will do
                continue
            same = [k for k in range(first, len(distinct)) if torch.equal(row, distinct[k])]
            which[draw][p] = same[0] if same else len(distinct)
            distinct += [] if same else [row]
    return torch.stack(distinct), which


def _of(calls: _Calls, combination: int, draw: int, call: int, each: int, state: Pass) -> Tensor | None:
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


def combinations_of(modalities: Sequence[str], absent: bool) -> list[Combination]:
    """Return the combinations of modalities that a study may have, the one with all last.

    Args:
        modalities: Their names.
        absent: Whether any may be absent.

    Raises:
        ValueError: There are too many.
    """
    if not absent:
        return [(True,) * len(modalities)]
    if len(modalities) > MOST_MODALITIES:
        raise ValueError(f"{len(modalities)} modalities have too many combinations to record the draws of each")
    # In the order of the binary number whose first digit is the first modality, as ``code_of`` counts.
    return [one[::-1] for one in product((False, True), repeat=len(modalities)) if any(one)]


def code_of(masks: Sequence[Tensor]) -> Tensor:
    """Return (N,) the place of each study's combination among those of ``combinations_of``, from (N,) bool each."""
    total = torch.zeros_like(masks[0], dtype=torch.int64)
    for place, mask in enumerate(masks):
        total = total + mask.to(torch.int64) * 2**place
    return (total - 1).clamp(min=0)


@torch.no_grad()
def freeze_draws(model: nn.Module, modalities: dict[str, ModalitySpec], absent: bool) -> Pass:
    """Give a random network the numbers of ``Predictor``, recorded, in place of its source.

    Args:
        model: The network, in evaluation mode on the CPU; it is changed.
        modalities: Its modalities.
        absent: Whether any may be absent.

    Returns:
        The state that a forward pass sets: the places of its studies' combinations.

    Raises:
        ValueError: More modalities than combinations can be recorded of, or layers of an unknown order.
    """
    state = Pass(combinations_of(list(modalities), absent))
    names = [name for name, module in model.named_modules() if isinstance(getattr(module, "noise", None), NoiseSource)]
    holders = [model.get_submodule(name) for name in names]
    recorders: list[Recorder] = []
    for place, combination in enumerate(state.combinations):
        average_draws(model)
        source = get_noise(model)
        assert source is not None
        state.recording = place
        fresh = [Recorder(source, state) for _ in holders]
        for k, (holder, recorder) in enumerate(zip(holders, fresh, strict=True)):
            if recorders:
                recorder.calls = recorders[k].calls
            _set(holder, recorder)
        recorders = fresh
        here = [name for name, has in zip(modalities, combination, strict=True) if has]
        inputs = {
            name: torch.full((1, modalities[name].channels, *(modalities[name].size or ())), 0.5) for name in here
        }
        model(inputs, {name: torch.ones(1, dtype=torch.bool) for name in here})
    for holder, recorder in zip(holders, recorders, strict=True):
        _set(holder, Replay(recorder.calls, state))
    for module, replay in _of_weights(model):
        module.forward = _Drawn(module.forward, replay)
    return state


def restart_draws(model: nn.Module) -> None:
    """Let every layer of a frozen network begin with its first draw."""
    for module in model.modules():
        if isinstance(source := getattr(module, "noise", None), Replay):
            source.restart()


@dataclass(frozen=True)
class _Drawn:
    """The forward of a layer whose weights are drawn."""

    forward: Callable[[Tensor], Tensor]
    replay: Replay

    def __call__(self, x: Tensor) -> Tensor:
        return self.replay.run(self.forward, x)


def _of_weights(model: nn.Module) -> Iterator[tuple[Any, Replay]]:
    """Yield the layers whose weights are drawn, with their source."""
    # A parametrization draws for the layer whose weight it makes.
    makers = {id(m): layer for layer in model.modules() for m in _parametrizations(layer)}
    for module in model.modules():
        source = getattr(module, "noise", None)
        if isinstance(source, Replay) and source.of_weights:
            yield makers.get(id(module), module), source


def _parametrizations(layer: nn.Module) -> list[nn.Module]:
    return [maker for several in getattr(layer, "parametrizations", {}).values() for maker in several]


def _set(module: nn.Module, source: NoiseSource) -> None:
    vars(module)["noise"] = source  # where torch keeps what is no tensor and no module
