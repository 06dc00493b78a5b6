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
        rotate: Largest angle in degrees, of volumes within the planes.
        scale: Largest relative change of size.
        shift: Largest shift as a share of the image's side.
        border: What lies beyond the image's edge: ``zeros`` (black) or ``reflection``.
        gamma: Largest |log2| of the exponent of x^g.
        contrast: Largest relative change of the spread around the image's mean.
        brightness: Largest value added.
        colour: Largest relative change of the saturation and of each channel; for images of several channels.
        blur: Largest share of the image that is replaced by its blurred self.
        noise: Largest standard deviation of added Gaussian noise.
        tilt: Of volumes, the largest angle in degrees about each axis that lies in the planes.
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
    tilt: float = 0.0


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
# As of images, and as little mirrored; a patient's head is turned further than it is tilted.
VOLUME_PRESETS: dict[str, Augmentation] = {
    "auto": Augmentation(False, False, 10.0, 0.1, 0.05, "zeros", 0.2, 0.1, 0.05, 0.0, 0.3, 0.01, tilt=5.0),
    "none": Augmentation(),
}


def augment_batch(batch: Batch, presets: Mapping[str, str], generator: torch.Generator) -> Batch:
    """Return the batch with its images and volumes changed; modalities without a preset stay as they are.

    Args:
        batch: The batch; its tensors are not changed.
        presets: Modality -> name of a preset, in ``PRESETS`` or, of a volume, in ``VOLUME_PRESETS``.
        generator: Where the random numbers come from, on the device of the batch. Every modality draws its own.
    """
    inputs = {
        name: augment(x, (VOLUME_PRESETS if x.ndim == 5 else PRESETS)[presets[name]], generator)
        if name in presets
        else x
        for name, x in batch.inputs.items()
    }
    return Batch(inputs, batch.present, batch.targets, batch.ids)


def augment(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Return changed images or volumes.

    Args:
        x: (B, C, H, W) or (B, C, D, H, W) in [0, 1].
        how: How far they may be changed.
        generator: Where the random numbers come from, on the device of ``x``.

    Returns:
        As ``x``, in [0, 1].
    """
    if how == Augmentation() or not len(x):
        return x
    # On a CPU a few images at a time stay in its cache, which halves the time for large ones.
    together = max(CACHED // x[0].numel(), 1) if x.device.type == "cpu" else len(x)
    return torch.cat([_intensity(_affine(part, how, generator), how, generator) for part in torch.split(x, together)])


def random_resized_crop(x: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Return a random part of every image, stretched to the whole.

    Args:
        x: (B, C, H, W) or (B, C, D, H, W) in [0, 1].
        smallest: Share of a side that a part has at least; each side draws its own, uniformly up to 1, and its place.
        generator: Where the random numbers come from, on the device of ``x``.

    Returns:
        As ``x``, in [0, 1].
    """
    axes, sides = x.ndim - 2, x.shape[2:]
    share = torch.rand(len(x), axes, generator=generator, device=x.device) * (1 - smallest) + smallest
    middle = (torch.rand(len(x), axes, generator=generator, device=x.device) * 2 - 1) * (1 - share)
    places = []
    for axis in reversed(range(axes)):  # grid_sample reads columns first
        place = share[:, axis, None] * _centres(sides[axis], x) + middle[:, axis, None]  # (B, side)
        places.append(place.view(len(x), *(-1 if k == axis else 1 for k in range(axes))).expand(len(x), *sides))
    cut = functional.grid_sample(x, torch.stack(places, -1), padding_mode="border", align_corners=False)
    return cut.clamp(0, 1)  # a weighted mean is rounded


def _uniform(x: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """One number of [-largest, largest] an image, (B, 1, 1, 1), of volumes (B, 1, 1, 1, 1)."""
    return (torch.rand(len(x), *[1] * (x.ndim - 1), generator=generator, device=x.device) * 2 - 1) * largest


def _chosen(x: Tensor, generator: torch.Generator) -> Tensor:
    """1 for the images that change and 0 for those that do not, as often, shaped as by ``_uniform``."""
    return (torch.rand(len(x), *[1] * (x.ndim - 1), generator=generator, device=x.device) < 0.5).to(x.dtype)


def _sometimes(x: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """As ``_uniform``, but 0 for half of the images."""
    return _uniform(x, largest, generator) * _chosen(x, generator)


def _affine(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    axes = x.ndim - 2
    chosen = _chosen(x, generator).view(-1)
    angle = _uniform(x, math.radians(how.rotate), generator).view(-1) * chosen
    size = 1 / (1 + _uniform(x, how.scale, generator).view(-1) * chosen)
    # In grid units, (B, axes).
    shift = torch.stack([_uniform(x, 2 * how.shift, generator).view(-1) * chosen for _ in range(axes)], 1)
    mirror = torch.where(torch.rand(len(x), 2, generator=generator, device=x.device) < 0.5, -1.0, 1.0)
    allowed = torch.tensor([how.flip_horizontal, how.flip_vertical], device=x.device)
    mirror = torch.where(allowed, mirror, 1.0)
    rotation = _rotation(axes, 0, 1, angle)
    if axes == 3:
        mirror = functional.pad(mirror, (0, 1), value=1.0)
        for axis in range(2):
            tilt = _uniform(x, math.radians(how.tilt), generator).view(-1) * chosen
            rotation = rotation @ _rotation(axes, axis, 2, tilt)
    # Grid coordinates are shares of each side: a rotation in pixels needs the sides' ratios.
    sides = torch.tensor(x.shape[:1:-1], device=x.device, dtype=x.dtype)
    rotation = rotation * (size[:, None, None] * sides[:, None] / sides)
    matrix = rotation * mirror[:, :, None]  # (B, axes, axes)
    # Written out: torch's affine_grid takes five times as long as the sampling itself.
    places = []
    for axis in range(axes):
        place = shift[:, axis].view(-1, *[1] * axes)
        # From the outermost axis, planes or rows, to the columns: all but the last sum are small.
        for along in reversed(range(axes)):
            centres = _centres(x.shape[-1 - along], x).view(-1, *[1] * along)
            place = matrix[:, along, axis].view(-1, *[1] * axes) * centres + place
        places.append(place)
    return functional.grid_sample(x, torch.stack(places, -1), padding_mode=how.border, align_corners=False)


def _rotation(axes: int, first: int, second: int, angle: Tensor) -> Tensor:
    """(B, axes, axes): row i holds where a pixel along axis i (columns, rows, planes) of the result is read, in pixels.

    Args:
        axes: Number of spatial axes.
        first: Axis that is turned towards ``second``.
        second: The other axis of the plane of rotation.
        angle: (B,) radians.
    """
    matrix = torch.eye(axes, device=angle.device, dtype=angle.dtype).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, first, second], matrix[:, second, first] = angle.sin(), -angle.sin()
    return matrix


def _centres(side: int, x: Tensor) -> Tensor:
    """Grid coordinates of the centres of a side's pixels, (side,) in (-1, 1)."""
    return (torch.arange(side, device=x.device, dtype=x.dtype) * 2 + 1) / side - 1


def _intensity(x: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    if how.colour and x.shape[1] > 1:
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * (1 + _sometimes(x, how.colour, generator))
        channels = torch.rand(*x.shape[:2], *[1] * (x.ndim - 2), generator=generator, device=x.device) * 2 - 1
        x = x * (1 + channels * how.colour * _chosen(x, generator))
    if how.blur:
        share = _sometimes(x, how.blur, generator).abs()
        x = torch.lerp(x, _blurred(x), share)
    if how.contrast or how.brightness:
        mean = x.mean(tuple(range(1, x.ndim)), keepdim=True)
        spread, added = _sometimes(x, how.contrast, generator), _sometimes(x, how.brightness, generator)
        x = (x - mean) * (1 + spread) + (mean + added)
    if how.noise:
        deviation = _sometimes(x, how.noise, generator).abs()
        x = x + torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) * deviation
    x = x.clamp(0, 1)
    return x ** torch.exp2(_sometimes(x, how.gamma, generator)) if how.gamma else x


def _blurred(x: Tensor) -> Tensor:
    """A binomial (1, 2, 1) filter along each axis: a Gaussian with a standard deviation of 0.7 pixels."""
    for axis in range(2, x.ndim):
        first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
        before = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
        after = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), last], axis)
        x = (before + after) * 0.25 + x * 0.5
    return x
