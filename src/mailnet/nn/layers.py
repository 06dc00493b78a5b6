"""The small parts that every network here is made of, for two and three spatial dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from mailnet.nn.depthwise import Depthwise
from mailnet.nn.forms import exporting
from mailnet.specs import ModalitySpec

WIDTHS: dict[str, tuple[int, ...]] = {
    "nano": (16, 32, 48, 64),
    "tiny": (32, 64, 128, 256),
    "small": (64, 128, 256, 512),
    "base": (96, 192, 384, 768),
}
RANGE_TOLERANCE = 1e-3
Activation: TypeAlias = Literal["relu", "silu", "gelu"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}
_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def key(name: str) -> str:
    """Return the key in a ``ModuleDict`` for a modality or task of any name.

    Module names may hold no dot and may not be an attribute of a module, such as ``type``.

    >>> key("type"), key("t1.5")
    ('type_', 't1%2E5_')
    """
    return name.replace("%", "%25").replace(".", "%2E") + "_"


def conv(
    dims: int,
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d | nn.Conv3d:
    """Return a convolution over ``dims`` axes whose output has the size of its input divided by the stride."""
    dilations = (dilation,) * dims if isinstance(dilation, int) else tuple(dilation)
    depthwise = dims == 2 and 1 < groups == in_channels == out_channels and set(dilations) == {1}
    return (Depthwise if depthwise else _CONV[dims])(
        in_channels,
        out_channels,
        kernel,
        stride=(stride,) * dims if isinstance(stride, int) else tuple(stride),  # type: ignore[arg-type]
        padding=tuple(step * (kernel // 2) for step in dilations),  # type: ignore[arg-type]
        dilation=dilations,  # type: ignore[arg-type]
        groups=groups,
        bias=bias,
    )


def norm(dims: int, channels: int) -> nn.BatchNorm2d | nn.BatchNorm3d:
    """Return batch normalisation over ``dims`` spatial axes."""
    return _NORM[dims](channels)


def channels_last(model: nn.Module) -> nn.Module:
    """Lay the weights of 2-D convolutions out with channels last, in place, and return the network.

    CPUs and GPUs convolve faster so; values stay what they are, results change by rounding.
    """
    for parameter in model.parameters():
        if parameter.ndim == 4:
            _, channels, height, width = parameter.shape
            laid = parameter.data.contiguous(memory_format=torch.channels_last)
            # Of one channel both layouts are the same numbers, and torch takes the strides of the other one: what
            # follows the first convolution of a grey image would run channels first, its max-pool ten times slower.
            strides = (channels * height * width, 1, channels * width, channels)
            parameter.data = laid.as_strided(laid.shape, strides)
    return model


def spatial_axes(x: Tensor) -> tuple[int, ...]:
    """Return the spatial axes of (B, C, ...); none for a vector (B, C)."""
    return tuple(range(2, x.ndim))


def pool_mean(x: Tensor) -> Tensor:
    """Return the mean over space of (B, C, ...) as (B, C); a vector stays as it is."""
    return x.mean(spatial_axes(x)) if x.ndim > 2 else x


def pool_max(x: Tensor) -> Tensor:
    """Return the maximum over space of (B, C, ...) as (B, C); a vector stays as it is."""
    return x.amax(spatial_axes(x)) if x.ndim > 2 else x


def expand_as(vector: Tensor, x: Tensor) -> Tensor:
    """Return (B, C) with as many trailing axes of length one as ``x`` has spatial axes."""
    return vector.reshape(*vector.shape, *(1,) * (x.ndim - 2))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (B, C, ...) on a grid of another size, by linear interpolation."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    mode = {2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    return functional.interpolate(x, size=list(size), mode=mode, align_corners=False)


@dataclass(frozen=True)
class StagePlan:
    """What one stage of a trunk does to the size of an image or volume.

    Args:
        stride: Stride of each axis.
        grid: Size that the stage gives.
    """

    stride: tuple[int, ...]
    grid: tuple[int, ...]


def plan_trunk(spec: ModalitySpec, stages: int) -> tuple[tuple[int, ...], list[StagePlan]]:
    """Return the stride of the stem and the plan of each stage that fit the size of an image or volume, axis by axis.

    The stem keeps an axis of up to 32 pixels whole, halves it up to 48 and quarters it above; an unknown size counts
    as 64. Each stage but the first halves an axis while more than two pixels remain, so nothing shrinks to nothing.
    """
    size = spec.size or (64,) * spec.spatial_dims
    stem = tuple(1 if pixels <= 32 else 2 if pixels <= 48 else 4 for pixels in size)
    grid = tuple(-(-pixels // step) for pixels, step in zip(size, stem, strict=True))
    plans = [StagePlan((1,) * len(size), grid)]
    for _ in range(stages - 1):
        stride = tuple(2 if pixels > 2 else 1 for pixels in grid)
        grid = tuple(-(-pixels // step) for pixels, step in zip(grid, stride, strict=True))
        plans.append(StagePlan(stride, grid))
    return stem, plans


def stage_widths(width: str, widths: Sequence[int] | None) -> tuple[int, ...]:
    """Return the widths of the stages: ``widths`` where given, else the preset.

    Raises:
        ValueError: An unknown preset, or a width that is not a positive even number.
    """
    if widths is None:
        if width not in WIDTHS:
            raise ValueError(f"width must be one of {', '.join(WIDTHS)}, got {width!r}")
        return WIDTHS[width]
    if not widths or any(w < 2 or w % 2 for w in widths):
        raise ValueError(f"widths must be positive even numbers, one a stage, got {list(widths)}")
    return tuple(widths)


def stem_kernel(stride: Sequence[int]) -> int:
    """Return the kernel of a stem's convolution: 7 where an axis is quartered, as in a ResNet, else 3."""
    return 7 if max(stride) > 2 else 3


def halved(stride: Sequence[int]) -> tuple[int, ...]:
    """Return the part of a stem's stride that its convolution does."""
    return tuple(min(step, 2) for step in stride)


class Stem(nn.Sequential):
    """The first convolution, normalised and activated; where an axis is quartered, a max-pool may do half."""

    def __init__(
        self,
        convolution: nn.Module,
        width: int,
        stride: Sequence[int],
        activation: Activation = "relu",
        max_pool: bool = True,
    ) -> None:
        dims = len(stride)
        layers: list[nn.Module] = [convolution, norm(dims, width), ACTIVATIONS[activation]()]
        if max_pool and max(stride) > 2:
            pool = nn.MaxPool2d if dims == 2 else nn.MaxPool3d
            layers.append(pool(3, tuple(max(step // 2, 1) for step in stride), 1))
        super().__init__(*layers)


class Projection(nn.Sequential):
    """The shortcut of a residual where the shape changes: a strided 1x1 convolution, normalised.

    Args:
        dims: Spatial axes.
        channels: C of the input.
        out_channels: C of the output.
        stride: Stride of each axis.
        average: Take the mean of the pixels of a stride, not the first of them (the "D" of He et al., "Bag of Tricks
            for Image Classification", CVPR 2019).
    """

    def __init__(
        self, dims: int, channels: int, out_channels: int, stride: Sequence[int], average: bool = False
    ) -> None:
        layers: list[nn.Module] = []
        if average and max(stride) > 1:
            pool: Callable[..., nn.Module] = nn.AvgPool2d if dims == 2 else nn.AvgPool3d
            # The mean is over pixels that exist, and the size that of the strided convolution beside it.
            layers.append(pool(tuple(stride), tuple(stride), ceil_mode=True, count_include_pad=False))
            stride = (1,) * dims
        layers += [conv(dims, channels, out_channels, 1, stride=stride), norm(dims, out_channels)]
        super().__init__(*layers)


class InputNorm(nn.Module):
    """A network's first layer: images in [0, 1] to zero mean and unit variance.

    The mean and standard deviation are the spec's (0.5 and 0.25 where it has none) and are part of the state dict. A
    table without a mean passes unchanged, since its columns are scaled before.

    Args:
        spec: The modality.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModalitySpec) -> None:
        super().__init__()
        self.spec = spec
        default = (0.0, 1.0) if spec.kind == "tabular" else (0.5, 0.25)
        shape = (spec.channels, *(1,) * spec.spatial_dims)
        self.register_buffer("mean", torch.tensor(spec.mean or (default[0],) * spec.channels).reshape(shape))
        self.register_buffer("std", torch.tensor(spec.std or (default[1],) * spec.channels).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, ...) normalised.

        Raises:
            ValueError: The wrong number of axes or channels, or values that an image in [0, 1] cannot have.
        """
        if not exporting():
            self._check(x)
        normalised: Tensor = (x - self.mean) / self.std
        return normalised

    def _check(self, x: Tensor) -> None:
        spec = self.spec
        if x.ndim != 2 + spec.spatial_dims or x.shape[1] != spec.channels:
            axes = {"image": "B, {}, H, W", "volume": "B, {}, D, H, W", "tabular": "B, {}"}[spec.kind]
            raise ValueError(
                f"modality '{spec.name}': expected a tensor ({axes.format(spec.channels)}), got {tuple(x.shape)}"
            )
        if not x.numel():
            return
        low, high = (value.item() for value in torch.aminmax(x.detach()))
        if spec.kind == "tabular":
            if not (abs(low) < float("inf") and abs(high) < float("inf")):
                raise ValueError(f"modality '{spec.name}': the table holds NaN or infinity; impute it first")
        elif not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            raise ValueError(
                f"modality '{spec.name}': values must lie in [0, 1], got [{low:.4g}, {high:.4g}]; scale the input"
            )
