"""What EMCAM itself attends to: the gates of each stage.

An EMCAM multiplies every feature by a gate, which it reads from all modalities. At a place the gates are averaged over
channels, and told relative to their mean over space: 0.1 is a tenth more than elsewhere. They belong to the study and
not to a class, so nothing in a map depends on the task, and a place may be attended to since it speaks against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mailnet.explain.geometry import cell_centre, to_pixels
from mailnet.explain.layers import WITHOUT_LAYERS
from mailnet.explain.question import Question
from mailnet.explain.registry import Found, register_explainer
from mailnet.nn.emcam import EMCAM
from mailnet.nn.layers import spatial_axes
from mailnet.nn.reference.blocks import EMCAM as PublishedEMCAM


@register_explainer("emcam")
@torch.no_grad()
def emcam(question: Question) -> Found:
    """Return the mean over stages of the gates relative to their mean over space; ``stages`` has each.

    Args:
        question: What is asked.

    Raises:
        ValueError: The network has no EMCAM, or gates no place unlike another.
    """
    modules = [module for module in question.model.modules() if isinstance(module, EMCAM | PublishedEMCAM)]
    if not modules:
        raise ValueError(
            f"{type(question.model).__name__} has no EMCAM (option emcam of 'mail' gives it some); take grad_cam, "
            f"{', '.join(WITHOUT_LAYERS)}"
        )
    kept: list[dict[str, Tensor]] = []
    with _recorded(modules, lambda gates: kept.append(_by_name(question, gates))):
        question.clean_score(question.batch.inputs)
    centre = cell_centre(question.model)
    stages: dict[str, tuple[Tensor, ...]] = {}
    for name in question.images:
        size = tuple(question.batch.inputs[name].shape[2:])
        maps = [_relative(gates[name]) for gates in kept if name in gates and gates[name][0, 0].numel() > 1]
        if maps:
            stages[name] = tuple(to_pixels(question.spread(name, values), size, centre) for values in maps)
    if not stages:
        raise ValueError(
            "the network's EMCAM gates channels and no places: spatial_attention is off, or its grids have one cell"
        )
    maps_of = {name: torch.stack(several).mean(0) for name, several in stages.items()}
    return Found(maps_of, signed=True, stages=stages)


def _relative(gates: Tensor) -> Tensor:
    """(n, C, ...) -> (n, ...), above 0 where more than on average over space."""
    mean = gates.mean(1, keepdim=True)
    over_space: Tensor = mean.mean(spatial_axes(mean), keepdim=True)
    return (mean / over_space - 1)[:, 0]


def _by_name(question: Question, gates: Any) -> dict[str, Tensor]:
    """The published EMCAM has one gate for all modalities, ours one each."""
    found: dict[str, Tensor] = dict.fromkeys(question.specs, gates) if isinstance(gates, Tensor) else gates
    return found


@contextmanager
def _recorded(modules: Sequence[nn.Module], keep: Callable[[Any], None]) -> Iterator[None]:
    """Hand the gates that modules use, noise and all, to ``keep``."""

    def recording(compute: Callable[..., Any]) -> Callable[..., Any]:
        def computed(*arguments: Any) -> Any:
            gates = compute(*arguments)
            keep(gates)
            return gates

        return computed

    names = ["gates" if isinstance(module, EMCAM) else "gate" for module in modules]
    for module, name in zip(modules, names, strict=True):
        vars(module)[name] = recording(getattr(module, name))
    try:
        yield
    finally:
        for module, name in zip(modules, names, strict=True):
            del vars(module)[name]
