"""The random numbers of a network as constants of its exported graph: those that ``Predictor`` draws.

Which numbers a layer gets depends on the modalities that a study has, since only layers that run draw. So they are
recorded for every combination of modalities, and the graph picks a study's own by its presence masks. The draws that a
prediction averages are no passes one after the other there: each study travels once a draw in one batch, so that the
graph is as long as that of one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.bundle.draws import average_draws
from mailnet.deploy.export.combinations import Pass, combinations_of
from mailnet.deploy.export.kernels import Use, Uses, answer_each
from mailnet.deploy.export.recording import Calls, Recorder, tables_of
from mailnet.nn.forms import as_defined
from mailnet.nn.noise import OF_WEIGHTS, NoiseKind, NoiseSource, get_noise, mean_logits
from mailnet.specs import ModalitySpec, TaskSpec

MOST_NUMBERS = 2**27  # of all draws and combinations; float32, so half a gigabyte of a file


class Replay(NoiseSource):
    """A layer's source that gives recorded numbers to a batch in which each study travels once a draw.

    Args:
        calls: What the layer was given.
        state: The pass at hand.
    """

    def __init__(self, calls: Calls, state: Pass) -> None:
        super().__init__("mean", state.draws)
        self.state, self.drawn = state, calls.drawn
        self._next = 0
        self._tables = tables_of(calls, state)

    def restart(self) -> None:
        """Begin a pass."""
        self._next = 0

    def draw(self, kind: NoiseKind, shape: Sequence[int], std: float, like: Tensor) -> Tensor:
        """Return the numbers of the next call; of weights none, since ``run`` has the kernels made of them."""
        if kind in OF_WEIGHTS:
            return like.new_zeros(shape)
        table = self._tables[self._next]
        self._next += 1
        draws, count, *rest = table.numbers.shape
        places = self.state.own(table.which) + count * torch.arange(draws)[:, None]
        return table.numbers.reshape(draws * count, *rest[1:]).index_select(0, places.flatten())  # (D N, ...)

    def run(self, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return a layer's answer (D N, ...) whose weights are drawn: every study's by its own."""
        uses = iter(self.drawn)

        def answer(use: Use) -> Tensor:
            if not next(uses):
                return use.plain()
            table = self._tables[self._next]
            self._next += 1
            return answer_each(use, table, self.state)

        with Uses(answer):
            return forward(x)

    def average(self, forward: Callable[[], dict[str, Tensor]], tasks: Mapping[str, TaskSpec]) -> dict[str, Tensor]:
        """Return the averaged logits of one pass, again once a draw, since other networks may stand beside this one."""
        apart = {name: self.state.apart(logits).unbind(0) for name, logits in forward().items()}
        draws = [{name: several[k] for name, several in apart.items()} for k in range(self.state.draws)]
        return {name: self.state.repeat(logits) for name, logits in mean_logits(draws, tasks).items()}


@torch.no_grad()
def freeze_draws(model: nn.Module, modalities: Mapping[str, ModalitySpec], absent: bool) -> Pass:
    """Give a random network the numbers of ``Predictor``, recorded, in place of its source.

    Args:
        model: The network, in evaluation mode on the CPU; it is changed.
        modalities: Its modalities.
        absent: Whether any may be absent.

    Returns:
        The state that a forward pass sets: the places of its studies' combinations.

    Raises:
        ValueError: More modalities or numbers than can be recorded, or layers of an unknown order.
    """
    state = Pass(combinations_of(list(modalities), absent))
    holders = [module for module in model.modules() if isinstance(getattr(module, "noise", None), NoiseSource)]
    layers = _layers(model)
    first = [Calls() for _ in holders]
    state.recording = len(state.combinations) - 1
    _refuse_too_many(_record(model, modalities, holders, first, state), state)
    of_weights = [
        layers.get(id(holder), holder) if one.of_weights else None for holder, one in zip(holders, first, strict=True)
    ]
    calls = [Calls() for _ in holders]
    watched = [(layer, one) for layer, one in zip(of_weights, calls, strict=True) if layer is not None]
    for place in range(len(state.combinations)):
        state.recording = place
        for layer, one in watched:
            layer.forward = _Watched(layer.forward, one, state)
        _record(model, modalities, holders, calls, state)
        for layer, _ in watched:
            layer.forward = layer.forward.forward
    for holder, layer, one in zip(holders, of_weights, calls, strict=True):
        replay = Replay(one, state)
        _set(holder, replay)
        if layer is not None:
            layer.forward = _Drawn(layer.forward, replay)
    return state


def restart_draws(model: nn.Module) -> None:
    """Let every layer of a frozen network begin with its first draw."""
    for module in model.modules():
        if isinstance(source := getattr(module, "noise", None), Replay):
            source.restart()


@dataclass(frozen=True)
class _Watched:
    """The forward of a layer whose weights are drawn, its kernels kept."""

    forward: Callable[[Tensor], Tensor]
    calls: Calls
    state: Pass

    def __call__(self, x: Tensor) -> Tensor:
        self.calls.drawn.clear()
        with Uses(self._keep):
            return self.forward(x)

    def _keep(self, use: Use) -> Tensor:
        drawn = not isinstance(use.weight, nn.Parameter)
        self.calls.drawn.append(drawn)
        if drawn:
            self.calls.keep(use.weight, self.state)
        return use.plain()


@dataclass(frozen=True)
class _Drawn:
    """The forward of a layer whose weights are drawn, with those that were recorded."""

    forward: Callable[[Tensor], Tensor]
    replay: Replay

    def __call__(self, x: Tensor) -> Tensor:
        return self.replay.run(self.forward, x)


def _record(
    model: nn.Module,
    modalities: Mapping[str, ModalitySpec],
    holders: Sequence[nn.Module],
    calls: Sequence[Calls],
    state: Pass,
) -> int:
    """Predict a study of the combination at hand, keep what is drawn, and return how many numbers that was."""
    average_draws(model)
    source = get_noise(model)
    assert source is not None
    recorders = [Recorder(source, state, one) for one in calls]
    for holder, recorder in zip(holders, recorders, strict=True):
        _set(holder, recorder)
    here = [name for name, has in zip(modalities, state.combinations[state.recording], strict=True) if has]
    inputs = {name: torch.full((1, modalities[name].channels, *(modalities[name].size or ())), 0.5) for name in here}
    with as_defined():  # as the graph is, in which every layer is called
        model(inputs, {name: torch.ones(1, dtype=torch.bool) for name in here})
    return sum(recorder.count for recorder in recorders)


def _refuse_too_many(count: int, state: Pass) -> None:
    """Refuse where a pass draws so many numbers that those of all combinations would make a monstrous file."""
    if count * len(state.combinations) > MOST_NUMBERS:
        size = 4 * count * len(state.combinations) / 1e6
        raise ValueError(
            f"the numbers of {state.draws} draws for {len(state.combinations)} combinations of modalities take up to "
            f"{size:,.0f} MB"
        )


def _layers(model: nn.Module) -> dict[int, Any]:
    """Return id of a parametrization -> the layer whose weight it makes."""
    return {
        id(maker): layer
        for layer in model.modules()
        for several in getattr(layer, "parametrizations", {}).values()
        for maker in several
    }


def _set(module: nn.Module, source: NoiseSource) -> None:
    vars(module)["noise"] = source  # where torch keeps what is no tensor and no module
