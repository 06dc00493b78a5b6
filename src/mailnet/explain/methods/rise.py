"""RISE: random masks over all modalities at once, and what the score has to do with each pixel's being seen.

Adapted: the authors weigh masks by the probability, and what they get is brightest where masks happened to be. Here a
pixel's value is the slope of the score over its mask, the covariance divided by the variance: how much more the class
has where the pixel is seen than where it is not, below zero where it has less. All modalities are masked at once, each
by masks of its own, so that what one can say for another that is hidden is asked as well.

Source: Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mailnet.explain.baselines import Baseline, baselines
from mailnet.explain.question import Question
from mailnet.explain.registry import Found, register_explainer
from mailnet.explain.tuples import Tuples
from mailnet.nn.layers import resize


@register_explainer("rise")
@torch.no_grad()
def rise(
    question: Question, *, masks: int = 500, cells: int = 7, seen: float = 0.5, baseline: Baseline = "blur"
) -> Found:
    """Hide random parts of every modality at once.

    Args:
        question: What is asked.
        masks: Number of masks; the values' noise falls with its root.
        cells: Cells of a mask along each axis, enlarged smoothly at a random place.
        seen: Chance that a cell, or a column of a table, is seen.
        baseline: What is seen instead, see ``baselines``.

    Raises:
        ValueError: Fewer than two masks, no cell, a chance of 0 or 1, or a baseline that is refused.
    """
    if masks < 2 or cells < 1 or not 0 < seen < 1:
        raise ValueError(f"masks must be at least 2, cells at least 1, seen in (0, 1), got {masks}, {cells}, {seen}")
    tuples = Tuples(question)
    clean, base = tuples.inputs, tuples.of(baselines(question, baseline))
    sums = [_Sums() for _ in clean]
    done = 0
    while done < masks:
        count = min(tuples.chunk, masks - done)
        drawn = [_drawn(x, count, cells, seen, question.generator) for x in clean]  # (count, 1, ...) or (count, F)
        changed = [
            _repeat(b, count) + (x - b).repeat(count, *(1,) * (x.ndim - 1)) * mask.repeat_interleave(len(x), 0)
            for x, b, mask in zip(clean, base, drawn, strict=True)
        ]
        others = [_repeat(x, count) for x in tuples.others]
        scores = tuples.forward(*changed, *others).reshape(count, len(question))
        for total, mask in zip(sums, drawn, strict=True):
            total.add(mask.flatten(1), scores)
        done += count
    maps, columns = {}, {}
    for name, x, total in zip(question.names, clean, sums, strict=True):
        slopes = total.slopes().to(x)
        if x.ndim == 2:
            columns[name] = question.spread(name, slopes)
        else:
            maps[name] = question.spread(name, slopes.reshape(len(x), *x.shape[2:]))
    return Found(maps, columns, signed=True)


class _Sums:
    """Sums over masks, from which a slope a pixel follows; in double precision, on the CPU, which has it."""

    def __init__(self) -> None:
        self.count = 0
        self.mask = self.square = self.score = self.both = torch.zeros((), dtype=torch.float64)

    def add(self, mask: Tensor, scores: Tensor) -> None:
        """Count masks (n, P) with the scores (n, B) that they led to."""
        mask, scores = mask.to("cpu", torch.float64), scores.to("cpu", torch.float64)
        self.count += len(mask)
        self.mask = self.mask + mask.sum(0)
        self.square = self.square + mask.square().sum(0)
        self.score = self.score + scores.sum(0)
        self.both = self.both + scores.T @ mask

    def slopes(self) -> Tensor:
        """Return (B, P); 0 where no mask differs from another."""
        covariance = self.both / self.count - self.score[:, None] * self.mask / self.count**2
        variance = self.square / self.count - (self.mask / self.count).square()
        return torch.where(variance > 1e-9, covariance / variance.clamp(min=1e-9), 0.0).float()


def _drawn(x: Tensor, count: int, cells: int, seen: float, generator: torch.Generator) -> Tensor:
    """Return masks (count, 1, ...) for an image or volume, (count, F) for a table."""
    axes = x.ndim - 2
    shape = (count, 1, *(min(cells, pixels) + 1 for pixels in x.shape[2:])) if axes else (count, x.shape[1])
    grid = (torch.rand(shape, generator=generator, device=generator.device) < seen).to(x)
    if not axes:
        return grid
    steps = [-(-pixels // min(cells, pixels)) for pixels in x.shape[2:]]
    large = resize(grid, [step * side for step, side in zip(steps, shape[2:], strict=True)])
    moved = []
    for mask in large:  # each at a place of its own, lest the grid be seen in the map
        for axis, (step, pixels) in enumerate(zip(steps, x.shape[2:], strict=True), start=1):
            first = int(torch.randint(step, (1,), generator=generator, device=generator.device))
            mask = mask.narrow(axis, first, pixels)
        moved.append(mask)
    return torch.stack(moved)


def _repeat(x: Tensor, count: int) -> Tensor:
    """Return the rows of all studies, one mask after the other."""
    return x.repeat(count, *(1,) * (x.ndim - 1))
