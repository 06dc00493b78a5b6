"""Explanations that know nothing of the network, which every method has to beat."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from mailnet.explain.explanation import Explanation
from mailnet.explain.quality.blur import blur
from mailnet.nn.batch import Batch

Baseline: TypeAlias = Literal["centre", "random", "edges", "intensity"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


def centre_map(shape: tuple[int, ...], sigma: float = 0.25) -> Tensor:
    """Return a Gaussian in the middle of an image, where lesions are put by those who take pictures.

    Args:
        shape: (H, W) or (D, H, W).
        sigma: Standard deviation as a share of each side.

    Returns:
        The map, 1 at its highest.
    """
    found = torch.ones(shape)
    for axis, side in enumerate(shape):
        place = (torch.arange(side) - (side - 1) / 2) / (sigma * side)
        found = found * torch.exp(-0.5 * place**2).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return found / found.max()


def random_map(shape: tuple[int, ...], generator: torch.Generator | None = None, smooth: float = 0.1) -> Tensor:
    """Return smooth spots at random places.

    Args:
        shape: (N, H, W) or (N, D, H, W).
        generator: Of the numbers, on the CPU; None means torch's global one.
        smooth: Standard deviation of the blur as a share of the shortest side.

    Returns:
        N maps from 0 to 1.
    """
    sigma = smooth * min(shape[1:])
    margin = math.ceil(3 * sigma)
    found = torch.randn((shape[0], 1, *shape[1:]), generator=generator)
    # Blurred as if each side went on at the opposite one, so that the highest spot lies anywhere alike: at a border
    # where the field ends, it would lie far more often.
    for axis, side in enumerate(shape[1:], start=2):
        found = found.index_select(axis, torch.arange(-margin, side + margin) % side)
    inside = [slice(margin, margin + side) for side in shape[1:]]
    found = blur(found, sigma)[:, 0][(slice(None), *inside)].flatten(1)
    low, high = found.amin(1, keepdim=True), found.amax(1, keepdim=True)
    return ((found - low) / (high - low).clamp(min=1e-12)).reshape(shape)


def edge_map(images: Tensor, sigma: float = 0.02) -> Tensor:
    """Return the steepness of images.

    Args:
        images: (N, C, H, W) or (N, C, D, H, W) in [0, 1].
        sigma: Standard deviation of a blur beforehand, as a share of the shortest side.

    Returns:
        (N, H, W) or (N, D, H, W).
    """
    grey = blur(images.mean(1, keepdim=True), sigma * min(images.shape[2:]))
    squares = torch.zeros_like(grey)
    for axis in range(2, grey.ndim):
        if grey.shape[axis] > 1:
            squares = squares + torch.gradient(grey, dim=axis)[0] ** 2
    return squares.sqrt()[:, 0]


def intensity_map(images: Tensor) -> Tensor:
    """Return how far each pixel's brightness lies from the image's mean; shapes as in ``edge_map``."""
    grey = images.mean(1)
    return (grey - grey.mean(tuple(range(1, grey.ndim)), keepdim=True)).abs()


def baseline(
    batch: Batch, name: Baseline, task: str, target: Tensor, generator: torch.Generator | None = None
) -> Explanation:
    """Return one of these maps for every image that a study has.

    Args:
        batch: B studies.
        name: ``centre``, ``random``, ``edges`` or ``intensity``.
        task: The task that is said to be explained.
        target: (B,) the class that is said to be explained.
        generator: Of ``random``.

    Raises:
        ValueError: An unknown name.
    """
    if name not in BASELINES:
        raise ValueError(f"baseline '{name}' is not one of {', '.join(BASELINES)}")
    maps = {}
    for modality, images in batch.inputs.items():
        if images.ndim < 4:
            continue
        shape = (len(images), *images.shape[2:])
        if name == "centre":
            found = centre_map(shape[1:]).expand(shape)
        elif name == "random":
            found = random_map(shape, generator)
        else:
            found = (edge_map if name == "edges" else intensity_map)(images.detach().cpu().float())
        here = batch.present[modality].cpu().reshape(-1, *(1,) * (len(shape) - 1))
        maps[modality] = torch.where(here, found, 0.0)
    return Explanation(task, target, name, maps)
