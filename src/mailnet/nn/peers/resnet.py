"""ResNet-18 without its head, and the perceptron that stands for it where a modality is a table.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mailnet.nn.layers import InputNorm, Projection, Stem, conv, halved, norm, plan_trunk, stem_kernel
from mailnet.specs import ModalitySpec

BLOCKS = 2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, dims: int, channels: int, out_channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = conv(dims, channels, out_channels, 3, stride=stride)
        self.norm1 = norm(dims, out_channels)
        self.conv2 = conv(dims, out_channels, out_channels, 3)
        self.norm2 = norm(dims, out_channels)
        same = channels == out_channels and set(stride) == {1}
        self.shortcut = nn.Identity() if same else Projection(dims, channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C_out, ...)."""
        y: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())) + self.shortcut(x)
        return y.relu()


def residual_stem(spec: ModalitySpec, width: int) -> Stem:
    """Return the stem of a residual or dense network, (B, C, ...) -> (B, width, ...), fitted to the size."""
    strides, _ = plan_trunk(spec, 1)
    first = conv(spec.spatial_dims, spec.channels, width, stem_kernel(strides), stride=halved(strides))
    return Stem(first, width, strides)


def resnet18_trunk(spec: ModalitySpec, widths: Sequence[int]) -> list[nn.Module]:
    """Return the layers of a ResNet-18 without its head, (B, C, ...) normalised -> (B, C_out, ...)."""
    _, plans = plan_trunk(spec, len(widths))
    layers: list[nn.Module] = [residual_stem(spec, widths[0])]
    channels = widths[0]
    for width, plan in zip(widths, plans, strict=True):
        for step in (plan.stride, *((1,) * spec.spatial_dims,) * (BLOCKS - 1)):
            layers.append(BasicBlock(spec.spatial_dims, channels, width, step))
            channels = width
    return layers


def resnet18(spec: ModalitySpec, widths: Sequence[int]) -> nn.Sequential:
    """Return a ResNet-18 without its head, (B, C, ...) in [0, 1] -> (B, C_out, ...), its stem fitted to the size."""
    return nn.Sequential(InputNorm(spec), *resnet18_trunk(spec, widths))


def perceptron(spec: ModalitySpec, width: int) -> nn.Sequential:
    """Return the embedding of a table, (B, F) -> (B, width)."""
    return nn.Sequential(
        InputNorm(spec), nn.Linear(spec.channels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
    )
