"""The features of each modality, stage by stage, as a network computes them.

A network that offers class activation maps has a method ``feature_layers() -> {modality: [modules]}``: the modules that
give a modality's features (n, C, ...), n the studies that have it, or several modalities' at once, as a dict or a list
in the network's order. Of each size of grid the last to run counts, the features that the stage hands on. A modality
without an entry is one that the network does not look at as an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mailnet.explain.question import Question

CELLS = 7  # an axis, of the coarsest stage that is looked at unless said otherwise
WITHOUT_LAYERS = ("gradient", "integrated_gradients", "occlusion", "rise")
Layers: TypeAlias = Mapping[str, nn.Module | Sequence[nn.Module]]
Grids: TypeAlias = dict[str, dict[tuple[int, ...], Tensor]]  # modality -> grid -> features


@dataclass(frozen=True)
class Stage:
    """Features of one modality on one grid.

    Args:
        features: (n, C, ...), as the network has them.
        gradient: (n, C, ...), of the score.
        change: (n, C, ...), the features less those of the baseline; without one the features.
    """

    features: Tensor
    gradient: Tensor
    change: Tensor

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return math.prod(self.features.shape[2:])


def layers_of(model: nn.Module, given: Layers | None = None) -> dict[str, list[nn.Module]]:
    """Return modality -> the modules that give its features.

    Args:
        model: The network.
        given: Modality -> a module, or several, in place of the network's own.

    Raises:
        ValueError: The network has none and none are given.
    """
    if given is not None:
        return {name: [layer] if isinstance(layer, nn.Module) else list(layer) for name, layer in given.items()}
    own: Any = getattr(model, "feature_layers", None)
    if own is None:
        raise ValueError(
            f"{type(model).__name__} keeps no image of its features that a class activation map could be made of; "
            f"take {', '.join(WITHOUT_LAYERS)}, or give layers={{modality: module}}"
        )
    found: dict[str, list[nn.Module]] = own()
    return found


def differentiate(
    question: Question,
    wanted: Wanted,
    networks: Sequence[Mapping[str, Sequence[nn.Module]]],
    against: Mapping[str, Tensor] | None = None,
) -> list[dict[str, list[Stage]]]:
    """Return of each network modality -> its wanted stages, fine to coarse: features, and the score's gradient by them.

    One pass forward, and one backward as far as the finest of them; one more forward where there is a baseline, however
    many networks there are. Modalities that a network does not look at are left out.

    Args:
        question: What is asked.
        wanted: Which stages.
        networks: The layers of one network, or of each member of an ensemble, see ``layers_of``.
        against: Modality -> (B, ...), the baseline's inputs.

    Raises:
        ValueError: The network has not the stage that is wanted.
    """
    modules = [{name: own[name] for name in own if name in question.images} for own in networks]
    with torch.enable_grad(), _watched(question, modules) as kept:
        score = question.clean_score(_differentiable(question.batch.inputs)).sum()
    chosen = [
        (member, name, features)
        for member, own in enumerate(kept)
        for name, grids in own.items()
        for features in wanted(name, list(grids.values()))
    ]
    stages: list[dict[str, list[Stage]]] = [{} for _ in networks]
    if not chosen:
        return stages
    slopes = torch.autograd.grad(score, [features for _, _, features in chosen], allow_unused=True)
    base: list[Grids] = []
    if against is not None:
        with torch.no_grad(), _watched(question, modules) as base:
            question.logits({**question.batch.inputs, **against})
    for (member, name, features), slope in zip(chosen, slopes, strict=True):
        gradient = torch.zeros_like(features) if slope is None else slope
        own = features.detach()
        change = own - base[member][name][tuple(own.shape[2:])] if against is not None else own
        stages[member].setdefault(name, []).append(Stage(own, gradient, change))
    return stages


@contextmanager
def _watched(question: Question, networks: Sequence[Mapping[str, Sequence[nn.Module]]]) -> Iterator[list[Grids]]:
    """Keep the features of the passes that each network makes meanwhile."""
    kept: list[Grids] = [{name: {} for name in modules} for modules in networks]
    places = {name: place for place, name in enumerate(question.specs)}
    hooks = [
        module.register_forward_hook(partial(_keep, own[name], name, places[name], question.specs[name].spatial_dims))
        for own, modules in zip(kept, networks, strict=True)
        for name, several in modules.items()
        for module in several
    ]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Wanted:
    """Which stages of a modality are wanted.

    Args:
        stage: Its place from fine (0) to coarse (-1), ``last`` for the coarsest of at least ``cells`` cells an axis,
            ``fused`` for all of these.
        cells: Least cells an axis, on average over the axes; where no stage has as many, the finest is taken.
    """

    stage: int | str = "last"
    cells: int = CELLS

    def __post_init__(self) -> None:
        if isinstance(self.stage, str) and self.stage not in ("last", "fused"):
            raise ValueError(f"stage must be 'last', 'fused' or a number, got '{self.stage}'")
        if self.cells < 1:
            raise ValueError(f"cells must be at least 1, got {self.cells}")

    def __call__(self, name: str, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return those of a modality's features, given in the order in which they were computed.

        Raises:
            ValueError: There is no such stage.
        """
        ordered = sorted(stages, key=lambda features: -math.prod(features.shape[2:]))
        if not ordered:
            raise ValueError(f"none of the layers of modality '{name}' gave features of its number of axes")
        if isinstance(self.stage, int):
            if not -len(ordered) <= self.stage < len(ordered):
                raise ValueError(f"modality '{name}' has {len(ordered)} stages, so there is no stage {self.stage}")
            return [ordered[self.stage]]
        enough = [x for x in ordered if math.prod(x.shape[2:]) >= self.cells ** (x.ndim - 2)] or ordered[:1]
        return enough[-1:] if self.stage == "last" else enough


def _differentiable(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Let gradients begin at the images, so that networks whose weights are frozen have them too."""
    return {name: x.detach().requires_grad_() for name, x in inputs.items()}


def _keep(
    grids: dict[tuple[int, ...], Tensor], name: str, place: int, dims: int, module: nn.Module, inputs: Any, output: Any
) -> None:
    if isinstance(output, Mapping):
        output = output.get(name)
    elif isinstance(output, list | tuple):
        output = output[place]
    if isinstance(output, Tensor) and output.ndim == 2 + dims:
        grids[tuple(output.shape[2:])] = output
