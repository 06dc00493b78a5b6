"""Insertion and deletion: does the answer hang on the pixels that an explanation names?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mailnet.bundle.draws import kinds
from mailnet.explain.explanation import Explanation
from mailnet.explain.quality.blur import blur
from mailnet.explain.quality.probability import Model, target_probability
from mailnet.nn.batch import Batch

Fill: TypeAlias = Literal["blur", "mean"]
FILLS: tuple[Fill, ...] = ("blur", "mean")
TINY = 1e-9  # what rounding may add to a share
BLUR = 0.1  # standard deviation as a share of an image's shortest side: no lesion of a tenth of it is left


@dataclass(frozen=True)
class Curves:
    """How the probability of the class explained moves as pixels come or go, those named first before the others.

    Args:
        shares: (S + 1,) share of the images' area that was put in or taken out, 0 to 1.
        insertion: (B, S + 1) probability when pixels are put into the filled images; NaN for studies without maps.
        deletion: (B, S + 1) probability when pixels are taken out of the images.
    """

    shares: Tensor
    insertion: Tensor
    deletion: Tensor

    @property
    def insertion_area(self) -> Tensor:
        """(B,) area under the insertion curve; higher is better."""
        return torch.trapezoid(self.insertion, self.shares, dim=1)

    @property
    def deletion_area(self) -> Tensor:
        """(B,) area under the deletion curve; lower is better."""
        return torch.trapezoid(self.deletion, self.shares, dim=1)

    @property
    def gap(self) -> Tensor:
        """(B,) the first less the second: near 0 for an order at random, whatever the network makes of the fill."""
        return self.insertion_area - self.deletion_area


@torch.no_grad()
def insertion_deletion(
    model: Model,
    batch: Batch,
    explanation: Explanation,
    *,
    steps: int = 20,
    fill: Fill = "blur",
    modalities: Sequence[str] | None = None,
    draws: int = 10,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
) -> Curves:
    """Put pixels in and take pixels out in the order of an explanation, over all modalities of a study at once.

    The pixels of all modalities stand in one order, since their maps share one scale; all images of a study count as
    equally large. Equal values, as the zeros of Grad-CAM, come in random order and not from the upper left. Modalities
    that a study lacks, and tables, stay as they are. What the network makes of filled images it was never trained on is
    part of the curves, so compare only curves of one fill, with those of a random order beside them.

    Args:
        model: The network in evaluation mode, or a function of a batch and the class (B,) of each study
            that gives its probability (B,).
        batch: B studies.
        explanation: Their maps.
        steps: S, steps from no pixel to all; costs 2 S forward passes a study.
        fill: What stands for a pixel that is out: ``blur``, the image blurred by a tenth of its shortest side, or
            ``mean``, the mean of each of its channels.
        modalities: Change these only, in an order of their own, the others being whole; None means all with a map.
        draws: Forward passes averaged where the network is random, the same random numbers at every step.
        batch_size: Images at a time.
        generator: Of the order of equal values.

    Raises:
        ValueError: A map does not fit its image, an unknown fill or modality, or fewer than one step.

    Source:
        Petsiuk et al., "RISE", BMVC 2018. On fills: Hooker et al., "A Benchmark for Interpretability Methods",
        NeurIPS 2019; Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022.
    """
    names = list(explanation.maps) if modalities is None else list(modalities)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if fill not in FILLS:
        raise ValueError(f"fill '{fill}' is not one of {', '.join(FILLS)}")
    if unknown := [name for name in names if name not in explanation.maps]:
        raise ValueError(f"no map of '{unknown[0]}'; there are maps of {', '.join(explanation.maps) or 'nothing'}")
    shares = torch.linspace(0, 1, steps + 1)
    insertion = torch.full((len(batch), steps + 1), torch.nan)
    deletion = insertion.clone()
    generator = generator or torch.Generator().manual_seed(0)
    for rows, part in kinds(batch.to("cpu")):
        changed = [name for name in names if name in part.inputs]
        if not changed:
            continue
        maps = {name: explanation.maps[name][rows.to(explanation.maps[name].device)].cpu() for name in changed}
        for name, several in maps.items():
            if several.shape[1:] != part.inputs[name].shape[2:]:
                raise ValueError(
                    f"modality '{name}': the map has the size {tuple(several.shape[1:])} and the image "
                    f"{tuple(part.inputs[name].shape[2:])}"
                )
        target = explanation.target.cpu()[rows]

        def ask(inputs: dict[str, Tensor], row: Tensor, part: Batch = part, target: Tensor = target) -> Tensor:
            asked = Batch(inputs, {name: here[row] for name, here in part.present.items()})
            return target_probability(model, asked, explanation.task, target[row], draws)

        filled = {name: _filled(part.inputs[name], fill) for name in changed}
        found = _curves(ask, part.inputs, filled, _places(maps, generator), shares, batch_size)
        insertion[rows] = torch.cat([found[:, 0], found[:, 1, :1]], 1)
        deletion[rows] = torch.cat([found[:, 1], found[:, 0, :1]], 1)
    return Curves(shares, insertion, deletion)


def _curves(
    ask: Callable[[dict[str, Tensor], Tensor], Tensor],
    inputs: dict[str, Tensor],
    filled: dict[str, Tensor],
    places: dict[str, Tensor],
    shares: Tensor,
    batch_size: int,
) -> Tensor:
    """Return (B, 2, S): insertion and deletion without their last points, which are the first of each other."""
    size, steps = len(next(iter(inputs.values()))), len(shares) - 1
    found = torch.empty(2 * steps * size)
    for start in range(0, len(found), batch_size):
        index = torch.arange(start, min(start + batch_size, len(found)))
        row, step = index % size, index // size
        inserts, share = step < steps, shares[step % steps]
        mixed = {name: tensor[row] for name, tensor in inputs.items()}
        for name, other in filled.items():
            axes = (-1, *(1,) * (other.ndim - 1))
            first = places[name][row][:, None] < share.reshape(axes) - TINY
            mixed[name] = torch.where(first == inserts.reshape(axes), mixed[name], other[row])
        found[index] = ask(mixed, row)
    return found.reshape(2, steps, size).movedim(2, 0)


def _places(maps: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Return modality -> (B, ...) share of the images' area that comes before each pixel, in the order of its study."""
    values = torch.cat([several.flatten(1) for several in maps.values()], 1).float()
    sizes = [several[0].numel() for several in maps.values()]
    areas = torch.cat([torch.full((size,), 1 / (size * len(sizes)), dtype=torch.float64) for size in sizes])
    mixed = torch.randperm(values.shape[1], generator=generator)
    order = mixed[values[:, mixed].argsort(dim=1, descending=True, stable=True)]
    ordered = areas[order]
    places = torch.empty_like(ordered).scatter_(1, order, ordered.cumsum(1) - ordered)
    cuts = [0, *accumulate(sizes)]
    spans = zip(maps, pairwise(cuts), strict=True)
    return {name: places[:, low:high].reshape(maps[name].shape) for name, (low, high) in spans}


def _filled(images: Tensor, fill: Fill) -> Tensor:
    if fill == "blur":
        return blur(images, BLUR * min(images.shape[2:]))
    axes = tuple(range(2, images.ndim))
    return images.mean(axes, keepdim=True).expand_as(images)
