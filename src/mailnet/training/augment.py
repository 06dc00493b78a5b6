"""Random changes of training images that leave the diagnosis alone, on whole batches at once.

The meaning of the parameters is that of MONAI's ``RandAffine``, ``RandAdjustContrast``, ``RandShiftIntensity``,
``RandGaussianNoise`` and ``RandGaussianSmooth``; those work image by image on the CPU, while here a batch is one tensor
on the device of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mailnet.nn.batch import Batch

CACHED = 2**18  # numbers of a tensor that a CPU's cache holds beside its intermediate results


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed; every image draws its own values, uniformly unless said otherwise.

    Half of the images keep their geometry, and each change of intensity leaves half of them alone: what the network
    meets in prediction, an image with its own grain, which interpolation smooths, is then common in training too.

    Args:
        flip_horizontal: Mirror left and right, with probability one half.
        flip_vertical: Mirror top and bottom, with probability one half.
        rotate: Largest angle in degrees.
        scale: Largest relative change of size.
        shift: Largest shift as a share of the image's side.
        border: What lies beyond the image's edge: ``zeros`` (black) or ``reflection``.
        gamma: Largest |log2| of the exponent of x^g.
        contrast: Largest relative change of the spread around the image's mean.
        brightness: Largest value added.
        colour: Largest relative change of the saturation and of each channel; for images of several channels.
        blur: Largest share of the image that is replaced by its blurred self.
        noise: Largest standard deviation of added Gaussian noise.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    border: Literal["zeros", "reflection"] = "zeros"
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    colour: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


_COLOUR = Augmentation(True, True, 180.0, 0.15, 0.05, "reflection", 0.2, 0.2, 0.05, 0.1, 0.5, 0.01)

# ``auto`` never mirrors, since a label may say which side; a chest has its heart on one side; heads are upright.
PRESETS: dict[str, Augmentation] = {
    "auto": Augmentation(False, False, 10.0, 0.1, 0.05, "zeros", 0.2, 0.1, 0.05, 0.0, 0.3, 0.01),
    "none": Augmentation(),
    "slice": Augmentation(True, False, 15.0, 0.1, 0.05, "zeros", 0.3, 0.2, 0.05, 0.0, 0.5, 0.02),
    "radiograph": Augmentation(False, False, 10.0, 0.1, 0.05, "zeros", 0.3, 0.2, 0.05, 0.0, 0.3, 0.01),
    "ultrasound": Augmentation(True, False, 5.0, 0.15, 0.05, "zeros", 0.3, 0.2, 0.1, 0.0, 0.3, 0.02),
    "microscopy": _COLOUR,
    "photo": _COLOUR,
}


def augment_batch(batch: Batch, presets: Mapping[str, str], generator: torch.Generator) -> Batch:
    """Return the batch with its images changed; modalities without a preset stay as they are.

    Args:
        batch: The batch; its tensors are not changed.
        presets: Modality -> name of a preset.
        generator: Where the random numbers come from, on the device of the batch. Every modality draws its own.
    """
    inputs = {
        name: augment(x, PRESETS[presets[name]], generator) if name in presets else x
        for name, x in batch.inputs.items()
    }
    return Batch(inputs, batch.present, batch.targets, batch.ids)


def augment(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Return changed images.

    Args:
        x: (B, C, H, W) in [0, 1].
        how: How far they may be changed.
        generator: Where the random numbers come from, on the device of ``x``.

    Returns:
        (B, C, H, W) in [0, 1].
    """
    if how == Augmentation() or not len(x):
        return x
    # On a CPU a few images at a time stay in its cache, which halves the time for large ones.
    together = max(CACHED // x[0].numel(), 1) if x.device.type == "cpu" else len(x)
    return torch.cat([_intensity(_affine(part, how, generator), how, generator) for part in torch.split(x, together)])


def _uniform(x: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """One number of [-largest, largest] an image, (B, 1, 1, 1)."""
    return (torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) * 2 - 1) * largest


def _chosen(x: Tensor, generator: torch.Generator) -> Tensor:
    """1 for the images that change and 0 for those that do not, as often, (B, 1, 1, 1)."""
    return (torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5).to(x.dtype)


def _sometimes(x: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """As ``_uniform``, but 0 for half of the images."""
    return _uniform(x, largest, generator) * _chosen(x, generator)


def _affine(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    chosen = _chosen(x, generator).view(-1)
    angle = _uniform(x, math.radians(how.rotate), generator).view(-1) * chosen
    size = 1 / (1 + _uniform(x, how.scale, generator).view(-1) * chosen)
    # In grid units, (B, 2).
    shift = torch.stack([_uniform(x, 2 * how.shift, generator).view(-1) * chosen for _ in range(2)], 1)
    mirror = torch.where(torch.rand(len(x), 2, generator=generator, device=x.device) < 0.5, -1.0, 1.0)
    allowed = torch.tensor([how.flip_horizontal, how.flip_vertical], device=x.device)
    mirror = torch.where(allowed, mirror, 1.0)
    # Grid coordinates are shares of each side: a rotation in pixels needs the sides' ratio.
    ratio = x.shape[-2] / x.shape[-1]
    cos, sin = angle.cos() * size, angle.sin() * size
    # matrix[:, i]: how far a unit along the output's columns (0) or rows (1) moves the place that is read, (x, y).
    rotation = torch.stack([torch.stack([cos, sin / ratio], 1), torch.stack([-sin * ratio, cos], 1)], 1)
    matrix = rotation * mirror[:, :, None]  # (B, 2, 2)
    # Written out: torch's affine_grid takes five times as long as the sampling itself.
    rows, columns = (_centres(side, x) for side in x.shape[-2:])
    places = [
        matrix[:, 0, axis].view(-1, 1, 1) * columns
        + (matrix[:, 1, axis].view(-1, 1, 1) * rows[:, None] + shift[:, axis].view(-1, 1, 1))
        for axis in range(2)
    ]
    return functional.grid_sample(x, torch.stack(places, -1), padding_mode=how.border, align_corners=False)


def _centres(side: int, x: Tensor) -> Tensor:
    """Grid coordinates of the centres of a side's pixels, (side,) in (-1, 1)."""
    return (torch.arange(side, device=x.device, dtype=x.dtype) * 2 + 1) / side - 1


def _intensity(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    if how.colour and x.shape[1] > 1:
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * (1 + _sometimes(x, how.colour, generator))
        channels = torch.rand(*x.shape[:2], 1, 1, generator=generator, device=x.device) * 2 - 1
        x = x * (1 + channels * how.colour * _chosen(x, generator))
    if how.blur:
        share = _sometimes(x, how.blur, generator).abs()
        x = torch.lerp(x, _blurred(x), share)
    if how.contrast or how.brightness:
        mean = x.mean((1, 2, 3), keepdim=True)
        spread, added = _sometimes(x, how.contrast, generator), _sometimes(x, how.brightness, generator)
        x = (x - mean) * (1 + spread) + (mean + added)
    if how.noise:
        deviation = _sometimes(x, how.noise, generator).abs()
        x = x + torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) * deviation
    x = x.clamp(0, 1)
    return x ** torch.exp2(_sometimes(x, how.gamma, generator)) if how.gamma else x


def _blurred(x: Tensor) -> Tensor:
    """A binomial (1, 2, 1) filter along each axis: a Gaussian with a standard deviation of 0.7 pixels."""
    for axis in (-2, -1):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
        before = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
        after = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), last], axis)
        x = (before + after) * 0.25 + x * 0.5
    return x
